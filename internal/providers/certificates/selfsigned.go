package certificates

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/hostcert"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/providers/objects"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// selfSigned is the mode in which forged signs.
type selfSigned struct {
	mu   sync.Mutex
	held map[holding]*held
}

type holding struct {
	target forge.Target
	id     forge.ID
}

// held is what is known of one certificate, so that it can be put back when
// somebody deletes it, and is not made anew by a look.
type held struct {
	current *bundle // in the cluster, as far as is known
	next    *bundle // on its way there
	why     string  // next takes the place of current
	from    string  // what was recorded as applied when this was found
	lost    bool    // what had been applied last is not known any more
}

func newSelfSigned() *selfSigned { return &selfSigned{held: map[holding]*held{}} }

func (m *selfSigned) ref(s *scene) kubernetes.Ref {
	return kubernetes.Ref{GVK: corev1.SchemeGroupVersion.WithKind("Secret"), Namespace: s.spec.Namespace, Name: s.spec.Secret}
}

// of is what is held for a resource.
func (m *selfSigned) of(r forge.Resource) *held {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := holding{r.Target, r.ID}
	if m.held[key] == nil {
		m.held[key] = &held{}
	}
	return m.held[key]
}

func (m *selfSigned) forget(r forge.Resource) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.held, holding{r.Target, r.ID})
}

// want implements mode.
func (m *selfSigned) want(ctx context.Context, s *scene) ([]objects.Object, error) {
	h := m.of(s.Request.Resource)
	ref := m.ref(s)
	entry, applied := s.Applied(ref)
	if h.next != nil && applied && entry.Desired == m.desired(s, h.next) {
		h.current, h.next, h.why, h.lost = h.next, nil, "", false // it has arrived
	}
	if applied && entry.Desired != h.from && !h.current.named(entry.Desired) && !h.next.named(entry.Desired) {
		h.current, h.next = nil, nil // another process has made one since
	}
	if h.current == nil && h.next == nil {
		// This process has not seen it yet. Unknown is not absent: an error ends
		// the look, and nothing is signed.
		live, err := s.Cluster.Get(ctx, ref)
		if err != nil {
			return nil, err
		}
		found := m.read(live)
		switch {
		case found == nil:
		case !applied, s.Record.Pending, found.named(entry.Desired):
			h.current = found
		}
		h.from, h.lost = entry.Desired, applied && h.current == nil
	}
	switch {
	case h.current == nil:
		h.why = ""
	default:
		h.why = h.current.worn(s.spec.Hosts, s.spec.Valid, s.now)
	}
	if h.current != nil && h.why == "" {
		h.next = nil
		s.all.Alarm(s.ID(), h.current.wornAt(s.spec.Valid))
		return []objects.Object{m.object(s, h.current)}, nil
	}
	if h.next == nil || h.next.worn(s.spec.Hosts, s.spec.Valid, s.now) != "" {
		next, err := sign(s.spec.Namespace+"/"+s.spec.Secret, s.spec.Hosts, s.spec.Valid, s.now, h.current)
		if err != nil {
			return nil, &reconcile.Error{Kind: reconcile.Internal, Op: "sign", Object: ref.String(), Err: err}
		}
		h.next = next
	}
	return []objects.Object{m.object(s, h.next)}, nil
}

// read reads a Secret of the cluster; nil if it has no certificate of ours.
func (m *selfSigned) read(live *unstructured.Unstructured) *bundle {
	if live == nil {
		return nil
	}
	if kind, _, _ := unstructured.NestedString(live.Object, "type"); kind != string(corev1.SecretTypeTLS) {
		return nil
	}
	return readBundle(dataOf(live))
}

// dataOf is what a Secret holds.
func dataOf(live *unstructured.Unstructured) map[string]secret.Value {
	values := map[string]secret.Value{}
	data, _, _ := unstructured.NestedMap(live.Object, "data")
	for key, v := range data {
		text, _ := v.(string)
		if raw, err := base64.StdEncoding.DecodeString(text); err == nil && len(raw) > 0 {
			values[key] = secret.New(raw)
		}
	}
	return values
}

func (m *selfSigned) object(s *scene, b *bundle) objects.Object {
	data := map[string]any{}
	for key, value := range b.data {
		data[key] = base64.StdEncoding.EncodeToString(value.Reveal())
	}
	obj := object("v1", "Secret", s.spec.Namespace, s.spec.Secret, s.spec.Labels)
	obj.Object["type"], obj.Object["data"] = string(corev1.SecretTypeTLS), data
	return objects.Object{Manifest: obj, Desired: m.desired(s, b), Hidden: true}
}

// desired names the certificate and hashes what else is asked for. Keys have
// no part in it: certificates tell which keys are theirs.
func (m *selfSigned) desired(s *scene, b *bundle) string {
	h := sha256.New()
	h.Write(b.authority.Raw)
	for _, key := range slices.Sorted(maps.Keys(s.spec.Labels)) {
		fmt.Fprintf(h, "%q=%q\n", key, s.spec.Labels[key])
	}
	for _, key := range slices.Sorted(maps.Keys(b.data)) {
		fmt.Fprintf(h, "%q\n", key)
	}
	return b.print() + "/" + hex.EncodeToString(h.Sum(nil)[:8])
}

// named tells whether a bundle is the one that what was applied is named for.
func (b *bundle) named(desired string) bool {
	return b != nil && strings.HasPrefix(desired, b.print()+"/")
}

// tell implements mode.
func (m *selfSigned) tell(_ context.Context, s *scene, o *reconcile.Observed) error {
	h := m.of(s.Request.Resource)
	entry, applied := s.Applied(m.ref(s))
	if !applied {
		return nil
	}
	is, _, _ := strings.Cut(entry.Desired, "/")
	o.Outputs[forge.OutputChecksum] = reconcile.Output{Value: is}
	for _, b := range []*bundle{h.current, h.next} {
		if b == nil || b.print() != is {
			continue
		}
		o.Expires = b.leaf.NotAfter
		left := o.Expires.Sub(s.now)
		switch {
		case left <= 0:
			worse(o, reconcile.Failed, fmt.Sprintf("the certificate in %s expired on %s", m.ref(s), hostcert.Day(o.Expires)))
		case left < warnBefore && left < s.spec.Valid/4:
			notice(o, noticeExpiring, m.ref(s).String(), "it expires in "+hostcert.Away(left)+" and was not made anew; the mode or a window may hold it back")
		}
	}
	return nil
}

// remark says why a certificate is made anew.
func (m *selfSigned) remark(s *scene, step *reconcile.Step) {
	if step.Action == reconcile.ActionDelete || step.Action == reconcile.ActionForget {
		return
	}
	h := m.of(s.Request.Resource)
	switch d := s.Drift(m.ref(s)); {
	case h.why != "":
		if sameHosts(h.current.leaf, s.spec.Hosts) && !s.now.Before(h.current.wornAt(s.spec.Valid)) {
			step.Reason.Code = reconcile.ReasonRenewal
		}
		step.Reason.Text = "a new certificate: of the one there, " + h.why
	case h.lost && d != nil:
		step.Action, step.Reason.Code = reconcile.ActionHeal, d.Code
		step.Reason.Text = "what it held is lost; a new certificate is made, and whoever trusted the old one by itself has to trust the new one"
	}
}
