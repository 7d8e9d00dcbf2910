package helm

import (
	"context"
	"errors"
	"strings"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// admit lets an object be made, unless one is there already that
// policy.adopt does not give us.
func (h *handle) admit(ctx context.Context, o object, uid string) (kubernetes.Admission, error) {
	a, err := h.cluster.Admit(ctx, kubernetes.Claim{
		Ref: o.ref, Owner: h.id, Adopt: h.req.Policy.Adopt, UID: uid, Marked: h.marked,
	})
	if kubernetes.UnknownKind(err) {
		return kubernetes.Admission{}, nil // its kind comes with the release
	}
	if err == nil {
		err = a.Err("create")
	}
	return a, err
}

// foreseeAdmission says of objects that are to be made what is there in their
// place: what is taken over, and what stops the step.
func (s *seen) foreseeAdmission(ctx context.Context, c *client, objs []object, step *reconcile.Step) error {
	found := make([]kubernetes.Admission, len(objs))
	refused := make([]error, len(objs))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, o := range objs {
		if _, ours := c.old[o.ref]; ours {
			continue
		}
		g.Go(func() (err error) {
			found[i], err = s.h.admit(gctx, o, "")
			if reconcile.KindOf(err) == reconcile.Conflict {
				refused[i], err = err, nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var why []string
	for i, o := range objs {
		if refused[i] != nil {
			why = append(why, refused[i].Error())
		}
		for k := range step.Changes {
			if change := &step.Changes[k]; change.Path == o.ref.String() && change.To == "created" {
				switch {
				case refused[i] != nil:
					change.From, change.To = "somebody else's", "refused"
				case found[i].From != "":
					change.From, change.To = found[i].From, "taken over"
				}
			}
		}
	}
	if len(why) > 0 && step.Blocked == "" {
		step.Blocked = strings.Join(why, "; ")
	}
	return nil
}

// marked tells whether an object bears the marks of this release.
func (h *handle) marked(u *unstructured.Unstructured) bool {
	notes := u.GetAnnotations()
	return notes[annotationRelease] == h.spec.Name && notes[annotationReleaseNS] == h.spec.Namespace
}

// usurper says whose the object is that stands in the place of one of ours;
// empty when it is ours, or nobody's.
func (h *handle) usurper(e kubernetes.Entry, live *unstructured.Unstructured) string {
	if live == nil || string(live.GetUID()) == e.Baseline.UID || h.marked(live) {
		return ""
	}
	return kubernetes.ForeignOwner(live, h.cluster.Instance())
}

// undisturbed refuses to write over an object of another tool that stands in
// the place of one of ours.
func (h *handle) undisturbed(ctx context.Context, e kubernetes.Entry, o object) (kubernetes.Admission, error) {
	s, err := h.cluster.Live(ctx, e.Ref)
	if err != nil {
		return kubernetes.Admission{}, err
	}
	if s.Exists && s.UID == e.Baseline.UID {
		if taken := s.Taken(h.id); taken != "" && h.req.Policy.Adopt != forge.AdoptForce {
			return kubernetes.Admission{}, &reconcile.Error{Kind: reconcile.Conflict, ID: h.id, Object: e.Ref.String(), Op: "update", Err: errors.New(taken)}
		}
		return kubernetes.Admission{}, nil
	}
	live, err := h.cluster.Get(ctx, e.Ref)
	if err != nil || h.usurper(e, live) == "" {
		return kubernetes.Admission{}, err
	}
	return h.admit(ctx, o, e.Baseline.UID)
}
