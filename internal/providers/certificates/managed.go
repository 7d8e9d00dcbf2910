package certificates

import (
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"forged.dev/forged/internal/hostcert"
	"forged.dev/forged/internal/providers/objects"
	"forged.dev/forged/internal/reconcile"
)

var managedGVR = schema.GroupVersionResource{Group: "networking.gke.io", Version: "v1", Resource: "managedcertificates"}

// managed is the mode in which Google makes the certificate and keeps it.
type managed struct{}

// want implements mode.
func (managed) want(ctx context.Context, s *scene) ([]objects.Object, error) {
	is, err := s.served(ctx, managedGVR)
	if err != nil {
		return nil, err
	}
	if !is {
		return nil, &reconcile.Error{
			Kind: reconcile.Invalid, Op: "find GKE's ManagedCertificate",
			Err:  fmt.Errorf("cluster %s does not serve it: there is no CustomResourceDefinition %s", s.Cluster.Target(), managedGVR.GroupResource()),
			Hint: "is it a cluster of GKE with HttpLoadBalancing switched on? forged goes on when it is there",
		}
	}
	obj := object(managedGVR.GroupVersion().String(), "ManagedCertificate", s.spec.Namespace, s.spec.Name, s.spec.Labels)
	obj.Object["spec"] = map[string]any{"domains": texts(s.spec.Hosts)}
	return []objects.Object{{Manifest: obj}}, nil
}

// meanings are what Google's words ask of a person.
var meanings = map[string]string{
	"FailedNotVisible":   "the name does not lead to this load balancer yet, or the load balancer is not there yet",
	"FailedCaaForbidden": "a CAA record of the domain does not let Google's authority sign for it",
	"FailedCaaChecking":  "the CAA records of the domain could not be read",
	"FailedRateLimited":  "the authority has signed too often for the domain lately; it is tried again",
}

// tell implements mode.
func (m managed) tell(ctx context.Context, s *scene, o *reconcile.Observed) error {
	if _, err := s.served(ctx, managedGVR); err != nil {
		return err
	}
	live, err := s.One(ctx, managedGVR, s.spec.Namespace, s.spec.Name)
	if err != nil || live == nil {
		return err // that it is missing is known already
	}
	judge(o)
	o.Expires = timeAt(live, "status", "expireTime")
	s.all.Alarm(s.ID(), nextOf(s.now, o.Expires.Add(time.Second)))
	name := "ManagedCertificate " + s.spec.Namespace + "/" + s.spec.Name
	if !o.Expires.IsZero() && !s.now.Before(o.Expires) {
		worse(o, reconcile.Failed, name+" expired on "+hostcert.Day(o.Expires))
		return nil
	}
	state, _, _ := unstructured.NestedString(live.Object, "status", "certificateStatus")
	said := m.domains(live)
	switch {
	case state == "Active":
		if said != "" {
			notice(o, noticeRenewal, name, said)
		}
	case state == "":
		worse(o, reconcile.Progressing, name+": waiting for Google to take it up")
	default:
		if said == "" {
			said = state
		}
		// Google tries again by itself, except where it says so.
		status := reconcile.Progressing
		if strings.HasSuffix(state, "Permanently") {
			status = reconcile.Failed
			said += "; Google does not try again: delete the object, and forged makes it anew"
		}
		worse(o, status, name+": "+said)
	}
	return nil
}

// domains says of which hosts there is something to say.
func (managed) domains(live *unstructured.Unstructured) string {
	list, _, _ := unstructured.NestedSlice(live.Object, "status", "domainStatus")
	var said []string
	for _, item := range list {
		d, _ := item.(map[string]any)
		host, _ := d["domain"].(string)
		state, _ := d["status"].(string)
		if state == "Active" || state == "" {
			continue
		}
		text := host + ": " + sentence(state)
		if meaning := meanings[state]; meaning != "" {
			text += " (" + meaning + ")"
		}
		said = append(said, text)
	}
	return strings.Join(said, "; ")
}
