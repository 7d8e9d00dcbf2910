package jobs

import (
	"context"
	"fmt"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// job is one object that is recorded, and what has become of it.
type job struct {
	entry kubernetes.Entry
	state kubernetes.State
	drift bool // it is not as it was applied
	asked bool // it is over, and another run is asked for: by a person, or since the cluster has stopped it
	ended bool // it came to its end, and was cleaned away
}

func (j job) name() string { return j.entry.Ref.Name }

// code is what the Job ran; empty if its making was cut.
func (j job) code() string {
	_, code, _ := strings.Cut(j.entry.Desired, "/")
	return code
}

func (j job) complete() bool {
	return j.ended || j.state.Exists && j.state.Health.Status == reconcile.Ready
}
func (j job) failed() bool { return j.state.Exists && j.state.Health.Status == reconcile.Failed }
func (j job) running() bool {
	return j.state.Exists && !j.complete() && !j.failed() && !j.asked
}

// look is what is known of one resource at one moment.
type look struct {
	req      reconcile.Request
	spec     forge.JobSpec
	cluster  *kubernetes.Cluster
	inv      *kubernetes.Inventory
	fitter   kubernetes.Fitter
	record   kubernetes.Record
	recorded bool
	book     book
	jobs     []job

	// Of what is wanted now; not set for a removal.
	waiting error // for an input
	code    string
	attempt string
	name    string // of the object
	next    book   // as it is when the object is made
	object  *unstructured.Unstructured
	fitted  kubernetes.Fitted // what was made of it
	fits    string            // a digest of what came of that
	refused error             // it cannot be had in the cluster
}

func (l *look) id() forge.ID { return l.req.Resource.ID }

// ref is the object that is wanted now.
func (l *look) ref() kubernetes.Ref {
	return kubernetes.Ref{GVK: formOf(l.spec).gvk(), Namespace: l.spec.Namespace, Name: l.name}
}

// current is what is wanted now, if it was made.
func (l *look) current() (job, bool) {
	i := slices.IndexFunc(l.jobs, func(j job) bool { return j.entry.Ref == l.ref() && j.entry.Desired != "" })
	if i < 0 {
		return job{}, false
	}
	return l.jobs[i], true
}

// rival is what has not ended, other than what is wanted now.
func (l *look) rival() (job, bool) {
	i := slices.IndexFunc(l.jobs, func(j job) bool { return j.running() && j.entry.Ref != l.ref() })
	if i < 0 {
		return job{}, false
	}
	return l.jobs[i], true
}

// done tells whether what is wanted has run to its end.
func (l *look) done() bool { return l.next.has(l.code) }

// givenUp tells whether what is wanted has failed and is gone, or going, and
// nobody has asked for another run.
func (l *look) givenUp() bool {
	current, _ := l.current()
	f := l.book.Failed
	return f != nil && f.Job == l.name && (!current.state.Exists || current.state.Deleting && f.Expires)
}

func (p *Provider) look(ctx context.Context, r reconcile.Request) (*look, error) {
	id := r.Resource.ID
	spec, ok := r.Resource.Spec.(forge.JobSpec)
	if !ok {
		return nil, &reconcile.Error{Kind: reconcile.Internal, ID: id, Op: "observe", Err: fmt.Errorf("its spec is a %T", r.Resource.Spec)}
	}
	c, err := p.clusters.Cluster(ctx, r.Resource.Target)
	if err != nil {
		return nil, kubernetes.About(err, id)
	}
	l := &look{req: r, spec: spec, cluster: c, fitter: p.fitter}
	if l.inv, err = c.Inventory(ctx, id.Environment, spec.Namespace); err != nil {
		return nil, kubernetes.About(err, id)
	}
	if err := l.refresh(ctx); err != nil {
		return nil, kubernetes.About(err, id)
	}
	return l, nil
}

// refresh takes what the inventory and the watches know now.
func (l *look) refresh(ctx context.Context) (err error) {
	l.record, l.recorded = l.inv.Record(l.id())
	if l.book, err = readBook(l.record.Detail); err != nil {
		return err
	}
	l.jobs = nil
	for _, e := range l.record.Entries {
		j, err := l.seen(ctx, e)
		if err != nil {
			return err
		}
		l.jobs = append(l.jobs, j)
	}
	if err := l.note(ctx); err != nil || l.req.Remove {
		return err
	}
	sums, err := checksums(l.req, l.spec)
	if reconcile.KindOf(err) == reconcile.Waiting {
		l.waiting = err // told when it is planned: what there is can be observed
	} else if err != nil {
		return err
	}
	l.code, l.next = code(l.spec), l.book
	if by := l.request(); by != "" {
		l.next = l.book.without(l.code)
		l.next.Run, l.next.Asked = l.book.Run+1, by
	}
	if err := l.fit(ctx); err != nil {
		return err
	}
	l.attempt = attempt(l.spec, sums, l.next.Run, l.fits)
	l.name = jobName(l.spec.Name, l.attempt)
	return nil
}

// seen is what has become of a recorded object. One that is over may be gone
// without that being worth a request.
func (l *look) seen(ctx context.Context, e kubernetes.Entry) (job, error) {
	state, err := l.cluster.Live(ctx, e.Ref)
	j := job{entry: e, state: state, ended: e.Baseline.Vanished(state)}
	if err != nil {
		return j, err
	}
	expired := l.book.Failed != nil && l.book.Failed.Job == j.name() && l.book.Failed.Expires
	if !state.Exists && !j.ended && !l.book.has(j.code()) && !expired {
		// Gone from the watch is not gone: our label may have been taken off.
		live, err := l.cluster.Get(ctx, e.Ref)
		if err != nil {
			return j, err
		}
		if live != nil {
			j.state = kubernetes.State{
				Exists: true, Deleting: live.GetDeletionTimestamp() != nil, UID: string(live.GetUID()), Health: kubernetes.HealthOf(live),
			}
		}
	}
	j.asked = j.state.Exists && (j.state.Health == kubernetes.RunAgain || j.state.Health == kubernetes.Disrupted)
	j.drift = j.state.Exists && (j.state.UID != e.Baseline.UID || j.state.Digest != e.Baseline.Digest)
	return j, nil
}

// note writes down what has ended since the last look. It holds at once; should
// it be lost with this process, the objects are still there.
func (l *look) note(ctx context.Context) error {
	now := l.book
	var failed *job // the last one
	for i, j := range l.jobs {
		switch {
		case j.complete() && j.code() != "" && !now.has(j.code()):
			now = now.with(j.code())
			if now.Failed != nil && now.Failed.Job == j.name() {
				now.Failed = nil
			}
		case j.failed():
			failed = &l.jobs[i]
		}
	}
	if failed != nil && (now.Failed == nil || now.Failed.Job != failed.name()) {
		live, err := l.cluster.Get(ctx, failed.entry.Ref)
		if err != nil {
			return err
		}
		if expires, known := formOfKind(failed.entry.Ref.GVK).expires(live); known {
			now.Failed = &failure{Job: failed.name(), Expires: expires}
		}
	}
	raw, err := now.write()
	if err != nil || !l.recorded {
		return err
	}
	l.book = now
	l.inv.Note(l.id(), raw)
	l.record.Detail = raw
	return nil
}

// request is the object by which another run is asked for of what is wanted
// now: it bears a person's annotation, it had failed and was deleted, or the
// cluster has stopped it.
func (l *look) request() string {
	for _, j := range l.jobs {
		if j.code() != l.code || j.name() == l.book.Asked {
			continue
		}
		if j.asked || !j.state.Exists && l.book.Failed != nil && l.book.Failed.Job == j.name() && !l.book.Failed.Expires {
			return j.name()
		}
	}
	return ""
}

// Observe implements reconcile.Provider.
func (p *Provider) Observe(ctx context.Context, r reconcile.Request) (reconcile.Observed, error) {
	l, err := p.look(ctx, r)
	if err != nil {
		return reconcile.Observed{}, err
	}
	p.mu.Lock()
	if p.seen[l.id()] = l; r.Remove {
		delete(p.seen, l.id())
	}
	p.mu.Unlock()
	return l.observed(ctx), nil
}

func (l *look) observed(ctx context.Context) reconcile.Observed {
	o := reconcile.Observed{Exists: l.recorded, Notices: l.fitted.Notices, Detail: l}
	for _, j := range l.jobs {
		if j.state.Exists {
			o.Objects++
		}
	}
	progressing := func(format string, args ...any) reconcile.Health {
		return reconcile.Health{Status: reconcile.Progressing, Message: fmt.Sprintf(format, args...)}
	}
	switch current, made := l.current(); {
	case l.req.Remove:
		o.Health = reconcile.Health{Status: reconcile.Ready}
	case l.done():
		o.Health = reconcile.Health{Status: reconcile.Ready}
	case made && current.state.Exists && !l.givenUp():
		o.Health = l.cluster.Health(ctx, l.id(), current.entry.Ref, current.state)
		if o.Health.Message != "" {
			o.Health.Message = current.entry.Ref.String() + ": " + o.Health.Message
		}
		if o.Health.Status == reconcile.Failed {
			o.Health.Message += fmt.Sprintf("\nit is tried again when what it is given changes, or after: %s --namespace %s %s",
				l.cluster.Target().Kubectl(), l.spec.Namespace, formOf(l.spec).again(current.name()))
		}
	case made && l.givenUp():
		o.Health = reconcile.Health{
			Status:  reconcile.Failed,
			Message: current.entry.Ref.String() + " has failed, and is gone; it is tried again when what it is given changes",
		}
	case made:
		o.Health = progressing("%s was deleted before its end", current.entry.Ref)
	default:
		o.Health = progressing("it has not run yet")
		if rival, ok := l.rival(); ok {
			o.Health = progressing("waits for the end of %s, which was begun before", rival.entry.Ref)
		}
	}
	return o
}

// pods are those of the resource that have not ended, but for those of the
// object with a uid. begun tells whether a container of one has started.
func (l *look) pods(ctx context.Context, but string) (names []string, begun bool, err error) {
	name := l.spec.Name
	if name == "" {
		name = l.record.Name
	}
	pods, err := l.cluster.Client().CoreV1().Pods(l.spec.Namespace).List(ctx, metav1.ListOptions{LabelSelector: kubernetes.LabelJob + "=" + name})
	if err != nil {
		return nil, false, kubernetes.Classify("list the pods of job "+l.spec.Namespace+"/"+name, kubernetes.Ref{}, err)
	}
	for _, pod := range pods.Items {
		if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed || but != "" && (string(pod.UID) == but || pod.Labels[batchv1.ControllerUidLabel] == but) {
			continue
		}
		names = append(names, pod.Name)
		for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			begun = begun || s.State.Running != nil || s.State.Terminated != nil || s.LastTerminationState.Terminated != nil || s.RestartCount > 0
		}
	}
	return names, begun, nil
}
