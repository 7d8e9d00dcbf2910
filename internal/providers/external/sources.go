package external

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// sources are where forge.cue says that secrets are.
type sources struct {
	clusters *kubernetes.Clusters
	resolver *secret.Resolver
}

// reading is one look at the secrets of one resource.
type reading struct {
	sources
	request   reconcile.Request
	namespace string
	pass      *secret.Pass
	err       error // the first
	print     [sha256.Size]byte
}

// read begins a look. refs are all that will be asked for.
func (s sources) read(ctx context.Context, r reconcile.Request, namespace string, refs ...forge.SecretRef) *reading {
	l := &reading{sources: s, request: r, namespace: namespace, pass: s.resolver.Pass(r.Policy.Interval)}
	var inside []forge.KubernetesRef
	for _, ref := range refs {
		if ref.Kubernetes != nil {
			inside = append(inside, *ref.Kubernetes)
		}
	}
	if len(inside) == 0 {
		return l
	}
	if !r.Resource.Target.InCluster() {
		l.err = l.invalid(fmt.Errorf("there is no cluster to read Secret %s from", inside[0].Name))
		return l
	}
	c, err := s.clusters.Cluster(ctx, r.Resource.Target)
	if err != nil {
		l.err = err
		return l
	}
	c.Follow(r.Resource.ID, namespace, inside...)
	return l
}

// letGo ends the watches over the Secrets that a resource has read.
func (s sources) letGo(ctx context.Context, r forge.Resource) {
	if !r.Target.InCluster() {
		return
	}
	if c, err := s.clusters.Cluster(ctx, r.Target); err == nil {
		c.Follow(r.ID, "")
	}
}

// line reads a secret of one line; text one that may have more. Nothing is read
// for a zero reference, or after an error. field is where the reference stands.
func (l *reading) line(ctx context.Context, field string, ref forge.SecretRef) secret.Value {
	return l.value(ctx, field, ref, false)
}

func (l *reading) text(ctx context.Context, field string, ref forge.SecretRef) secret.Value {
	return l.value(ctx, field, ref, true)
}

func (l *reading) value(ctx context.Context, field string, ref forge.SecretRef, multiLine bool) secret.Value {
	if l.err != nil || ref.IsZero() {
		return secret.Value{}
	}
	v, err := l.resolve(ctx, ref, multiLine)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		l.err = kubernetes.Classify("resolve "+field, kubernetes.Ref{}, ctx.Err())
	case kubernetes.Unread(err):
		l.err = err
	default:
		l.err = l.invalid(fmt.Errorf("%s: %w", field, err))
		if secret.MayPass(err) {
			l.err = &reconcile.Error{Kind: reconcile.Unavailable, ID: l.request.Resource.ID, Op: "resolve", Err: fmt.Errorf("%s: %w", field, err)}
		}
	}
	l.note(field, v)
	return v
}

func (l *reading) resolve(ctx context.Context, ref forge.SecretRef, multiLine bool) (secret.Value, error) {
	switch {
	case ref.Kubernetes != nil:
		c, err := l.clusters.Cluster(ctx, l.request.Resource.Target)
		if err != nil {
			return secret.Value{}, err
		}
		return c.Source(ctx, l.namespace, *ref.Kubernetes, multiLine)
	case multiLine:
		return l.pass.ResolveText(ctx, ref)
	default:
		return l.pass.Resolve(ctx, ref)
	}
}

// input is an output of another resource.
func (l *reading) input(from forge.ID, name string) secret.Value {
	if l.err != nil {
		return secret.Value{}
	}
	out, ok := l.request.Inputs[from][name]
	if !ok {
		l.err = reconcile.WaitingFor(from, name)
		return secret.Value{}
	}
	v := out.Secret
	if v.IsZero() {
		v = secret.New([]byte(out.Value))
	}
	l.note(name, v)
	return v
}

// note adds to the fingerprint of all that was read. It is never shown.
func (l *reading) note(name string, v secret.Value) {
	h := sha256.New()
	h.Write(l.print[:])
	for _, b := range [][]byte{[]byte(name), v.Reveal()} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(b)))
		h.Write(length[:])
		h.Write(b)
	}
	h.Sum(l.print[:0])
}

func (l *reading) invalid(err error) error {
	return &reconcile.Error{Kind: reconcile.Invalid, ID: l.request.Resource.ID, Op: "resolve", Err: err}
}
