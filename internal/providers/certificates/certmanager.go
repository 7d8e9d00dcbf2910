package certificates

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/hostcert"
	"forged.dev/forged/internal/providers/objects"
	"forged.dev/forged/internal/reconcile"
)

const (
	groupManager = "cert-manager.io"
	groupACME    = "acme.cert-manager.io"
)

func managerGVR(group, resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: "v1", Resource: resource}
}

// certManager is the mode in which cert-manager makes the certificate.
type certManager struct{}

// want implements mode.
func (certManager) want(ctx context.Context, s *scene) ([]objects.Object, error) {
	if err := s.needsManager(ctx, managerGVR(groupManager, "certificates")); err != nil {
		return nil, err
	}
	obj := object(groupManager+"/v1", "Certificate", s.spec.Namespace, s.spec.Name, s.spec.Labels)
	obj.Object["spec"] = map[string]any{
		"secretName": s.spec.Secret,
		"dnsNames":   texts(s.spec.Hosts),
		"issuerRef":  map[string]any{"group": groupManager, "kind": s.spec.Issuer.Kind, "name": s.spec.Issuer.Name},
		// The default of this differs between its versions.
		"privateKey": map[string]any{"rotationPolicy": "Always"},
	}
	return []objects.Object{{Manifest: obj}}, nil
}

// tell implements mode.
func (m certManager) tell(ctx context.Context, s *scene, o *reconcile.Observed) error {
	if err := s.needsManager(ctx, managerGVR(groupManager, "certificates")); err != nil {
		return err
	}
	trouble, found, err := s.managerTrouble(ctx)
	if err != nil {
		return err
	}
	live, err := s.One(ctx, managerGVR(groupManager, "certificates"), s.spec.Namespace, s.spec.Name)
	if err != nil || live == nil {
		return err // that it is missing is known already
	}
	judge(o)
	name := "Certificate " + s.spec.Namespace + "/" + s.spec.Name
	o.Expires = timeAt(live, "status", "notAfter")
	if !o.Expires.IsZero() {
		o.Outputs[forge.OutputChecksum] = reconcile.Output{Value: m.print(live)}
	}
	renewal := timeAt(live, "status", "renewalTime")
	s.all.Alarm(s.ID(), nextOf(s.now, renewal.Add(overdue), o.Expires.Add(-warnBefore), o.Expires.Add(time.Second)))

	expired := !o.Expires.IsZero() && !s.now.Before(o.Expires)
	ready := holds(live, "Ready") && !expired
	issuing := condition(live, "Issuing")
	refused := issuing["status"] == "False" && issuing["reason"] == "Failed"
	switch {
	case ready && !refused:
	case ready:
		notice(o, noticeRenewal, name, "it is not renewed: "+m.why(ctx, s, live).words)
	default:
		why := m.why(ctx, s, live)
		status := reconcile.Progressing
		if why.final || refused || expired {
			status = reconcile.Failed
		}
		if trouble == "" && !found {
			trouble = nobody
		}
		if trouble != "" && status != reconcile.Failed {
			why.words = trouble // it says nothing new as long as nobody acts
		}
		worse(o, status, name+": "+why.words)
		return nil
	}
	left := o.Expires.Sub(s.now)
	switch {
	case trouble != "":
		notice(o, noticeController, name, trouble)
	case !found:
		notice(o, noticeController, name, "whether anybody renews it cannot be told: "+nobody)
	}
	if late := !renewal.IsZero() && s.now.Sub(renewal) > overdue; late || !o.Expires.IsZero() && left < warnBefore && renewal.IsZero() {
		notice(o, noticeExpiring, name, "it expires in "+hostcert.Away(left)+", and should have been renewed by now")
	}
	return nil
}

// overdue is how late cert-manager may be with a renewal.
const overdue = 24 * time.Hour

// print changes with the certificate. The Secret it is in is not read.
func (certManager) print(live *unstructured.Unstructured) string {
	h := sha256.New()
	revision, _, _ := unstructured.NestedInt64(live.Object, "status", "revision")
	notAfter, _, _ := unstructured.NestedString(live.Object, "status", "notAfter")
	fmt.Fprintf(h, "%s %d %s", live.GetUID(), revision, notAfter)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// reason is why there is no certificate yet.
type reason struct {
	words string
	final bool // it will not get better by waiting
}

// why follows the chain from a Certificate down to what is being waited for: a
// request, an order at the ACME server, a challenge for each host. Each says
// more than the one above, and cert-manager's own summary is said last.
func (certManager) why(ctx context.Context, s *scene, live *unstructured.Unstructured) reason {
	requests := s.below(ctx, managerGVR(groupManager, "certificaterequests"), live)
	orders := s.below(ctx, managerGVR(groupACME, "orders"), requests...)
	challenges := s.below(ctx, managerGVR(groupACME, "challenges"), orders...)

	var found []reason
	for _, challenge := range challenges {
		host, _, _ := unstructured.NestedString(challenge.Object, "spec", "dnsName")
		if r, ok := acme(challenge, "challenge for "+host); ok {
			found = append(found, r)
		}
	}
	for _, order := range orders {
		if r, ok := acme(order, "Order "+order.GetName()); ok {
			found = append(found, r)
		}
	}
	for _, request := range requests {
		c := condition(request, "Ready")
		if denied := condition(request, "Denied"); denied["status"] == "True" {
			found = append(found, reason{"the request was denied: " + words(denied), true})
		} else if c["status"] == "False" && c["reason"] == "Failed" {
			found = append(found, reason{"CertificateRequest " + request.GetName() + ": " + words(c), true})
		}
	}
	if len(found) > 0 {
		slices.SortStableFunc(found, func(a, b reason) int {
			switch {
			case a.final == b.final:
				return 0
			case a.final:
				return -1
			default:
				return 1
			}
		})
		const most = 3
		said := make([]string, 0, most)
		for _, r := range found[:min(len(found), most)] {
			said = append(said, r.words)
		}
		if more := len(found) - most; more > 0 {
			said = append(said, fmt.Sprintf("and %d more", more))
		}
		return reason{strings.Join(said, "; "), found[0].final}
	}
	if c := condition(live, "Issuing"); c["status"] == "False" && c["message"] != nil {
		return reason{words(c), false}
	}
	if c := condition(live, "Ready"); c["status"] == "False" {
		return reason{words(c), false}
	}
	return reason{"waiting for cert-manager", false}
}

// acme is what an order or a challenge of ACME has to say; false if nothing.
func acme(obj *unstructured.Unstructured, name string) (reason, bool) {
	state, _, _ := unstructured.NestedString(obj.Object, "status", "state")
	text, _, _ := unstructured.NestedString(obj.Object, "status", "reason")
	text = sentence(text)
	switch state {
	case "valid", "ready":
		return reason{}, false
	case "invalid", "errored", "expired":
		if text == "" {
			text = state
		}
		return reason{name + ": " + text, true}, true
	}
	if text == "" {
		return reason{}, false
	}
	return reason{name + ": " + text, false}, true
}

// below are the objects of a kind that are owned by one of owners; the newest
// for each, since what was tried before does not matter any more. What cannot
// be read is left out: it would only have said more.
func (s *scene) below(ctx context.Context, gvr schema.GroupVersionResource, owners ...*unstructured.Unstructured) []*unstructured.Unstructured {
	if len(owners) == 0 {
		return nil
	}
	all, err := s.Many(ctx, gvr, s.spec.Namespace, "")
	if err != nil {
		return nil
	}
	slices.SortFunc(all, func(a, b *unstructured.Unstructured) int { return strings.Compare(a.GetName(), b.GetName()) })
	var found []*unstructured.Unstructured
	for _, owner := range owners {
		for _, obj := range all {
			if slices.ContainsFunc(obj.GetOwnerReferences(), func(o metav1.OwnerReference) bool { return isOwner(o, owner.GetUID()) }) && current(owner, obj) {
				found = append(found, obj)
			}
		}
	}
	return found
}

func isOwner(o metav1.OwnerReference, uid types.UID) bool { return uid != "" && o.UID == uid }

// current tells whether a request is for the revision that a Certificate is
// being made for; of anything else it is always true.
func current(certificate, request *unstructured.Unstructured) bool {
	const annotation = groupManager + "/certificate-revision"
	revision, ok := request.GetAnnotations()[annotation]
	if !ok {
		return true
	}
	has, _, _ := unstructured.NestedInt64(certificate.Object, "status", "revision")
	return revision == fmt.Sprint(has+1)
}

// timeAt reads a time of a status; zero if there is none.
func timeAt(obj *unstructured.Unstructured, path ...string) time.Time {
	text, _, _ := unstructured.NestedString(obj.Object, path...)
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return at
}
