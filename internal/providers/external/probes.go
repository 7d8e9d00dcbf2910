package external

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/providers/objects"
	"forged.dev/forged/internal/reconcile"
)

// noticeStale is about an answer that is not asked for again.
const noticeStale = "stale"

// probes asks services from inside of a cluster, by Jobs. What they have to say
// is read when they end, and every five minutes.
type probes struct {
	image    string
	schedule *schedule[left]
}

// left is what pods have left behind.
type left struct {
	answer
	err   error     // it could not be read
	at    time.Time // when it was left; zero: there is none yet
	words string    // what there is instead
}

func (l left) good() bool { return l.err == nil && !l.at.IsZero() && l.trouble == nil }

// NewProbes makes the provider of kind "probe". image is one of this forged;
// empty: none is known.
func NewProbes(clusters *kubernetes.Clusters, image string) reconcile.Provider {
	return newProbes(clusters, image, usualPace())
}

func newProbes(clusters *kubernetes.Clusters, image string, at pace) reconcile.Provider {
	p := &probes{image, newSchedule(at, causeAnswer, left.good)}
	return objects.New(clusters, objects.Kind{
		Name: forge.KindProbe,
		Namespace: func(s forge.Spec) (string, bool) {
			spec, ok := s.(forge.ProbeSpec)
			return spec.Namespace, ok
		},
		Gone:   func(namespace string) forge.Spec { return forge.ProbeSpec{Namespace: namespace} },
		Want:   p.want,
		Tell:   p.tell,
		Watch:  p.schedule.watch,
		Forget: func(r forge.Resource) { p.schedule.forget(r.ID) },
	})
}

func (p *probes) want(_ context.Context, l *objects.Look) ([]objects.Object, error) {
	all, _, err := p.objects(l)
	return all, err
}

// objects are what asks, and the name of the question.
func (p *probes) objects(l *objects.Look) ([]objects.Object, string, error) {
	spec := l.Request.Resource.Spec.(forge.ProbeSpec) // Namespace has seen to that
	if p.image == "" {
		return nil, "", &reconcile.Error{
			Kind: reconcile.Invalid, Op: "ask from the cluster", Err: errors.New("this build of forged has no image that a Job could run"),
			Hint: "name one with the variable FORGED_IMAGE, or use a released forged",
		}
	}
	checksum := ""
	if spec.Secret != "" {
		output := forge.OutputChecksum + "/" + spec.Secret
		for _, need := range l.Request.Resource.Needs {
			if need.Kind != forge.KindSecrets {
				continue
			}
			if checksum = l.Request.Inputs[need][output].Value; checksum == "" {
				return nil, "", reconcile.WaitingFor(need, output)
			}
		}
	}
	return probeObjects(spec, p.image, checksum)
}

func (p *probes) tell(ctx context.Context, l *objects.Look, o *reconcile.Observed) error {
	if len(l.Objects) == 0 {
		return nil // waits for its Secret
	}
	_, question, err := p.objects(l)
	if err != nil {
		return err
	}
	first := l.Objects[0].Ref()
	entry, applied := l.Applied(first)
	if !applied {
		return nil // that it is not there is known already
	}
	state, err := l.Cluster.Live(ctx, first)
	if err != nil {
		return err
	}
	spec := l.Request.Resource.Spec.(forge.ProbeSpec)
	print := sha256.Sum256(fmt.Appendf(nil, "%s %s %s %s", l.Cluster.UID(), question, entry.Baseline.UID, state.Health.Status))
	got, err := p.schedule.get(ctx, l.ID(), print, func(ctx context.Context) left {
		return read(ctx, l.Cluster, spec, question)
	})
	switch {
	case err != nil:
		return kubernetes.Classify("read the answer of", first, err)
	case got.err != nil:
		p.schedule.forget(l.ID()) // it is read again with the next look
		return got.err
	}
	switch {
	case got.at.IsZero() && !state.Exists && l.Drift(first) == nil:
		o.Health = reconcile.Health{Status: reconcile.Unknown, Message: fmt.Sprintf("%s is gone with its answer; CronJob %s asks again within %s", first, l.Objects[1].Ref().Name, probeEvery)}
	case got.at.IsZero() && !state.Exists:
		// It is being put back.
	case got.at.IsZero():
		o.Health = l.Cluster.Health(ctx, l.ID(), first, state)
		if o.Health.Status == reconcile.Ready {
			o.Health = reconcile.Health{Status: reconcile.Unknown, Message: "it has ended and left no answer"}
		}
		if got.words != "" {
			o.Health.Message = got.words
		}
		o.Health.Message = fmt.Sprintf("%s: %s", first, o.Health.Message)
	default:
		o.Health, o.Expires = got.health(), got.expires
		o.Notices = append(o.Notices, got.notices...)
		if o.Health.Message != "" {
			o.Health.Message = "from inside of the cluster: " + o.Health.Message
		}
		if time.Since(got.at) > 3*probeEvery+probeLimit {
			o.Notices = append(o.Notices, notice(noticeStale, first.String(),
				fmt.Sprintf("it was last asked at %s; is CronJob %s held back?", got.at.UTC().Format(time.DateTime), l.Objects[1].Ref().Name)))
		}
	}
	return nil
}

// read reads the newest answer to a question.
func read(ctx context.Context, c *kubernetes.Cluster, spec forge.ProbeSpec, question string) left {
	selector := metav1.ListOptions{LabelSelector: labels.Set{labelProbe: shortened(spec.Name, 63), labelAsks: question}.String()}
	pods, err := c.Client().CoreV1().Pods(spec.Namespace).List(ctx, selector)
	if err != nil {
		return left{err: kubernetes.Classify("list the pods of", kubernetes.Ref{GVK: batch("Job"), Namespace: spec.Namespace, Name: spec.Name}, err)}
	}
	var newest left
	for _, pod := range pods.Items {
		if l, ok := answerOf(&pod); ok && l.at.After(newest.at) {
			newest = l
		}
	}
	if newest.at.IsZero() {
		newest.words = c.PodWords(ctx, spec.Namespace, selector)
	}
	return newest
}

// answerOf is what a pod has left behind.
func answerOf(pod *corev1.Pod) (left, bool) {
	for _, s := range pod.Status.ContainerStatuses {
		ended := s.State.Terminated
		if s.Name != probeContainer || ended == nil || ended.ExitCode != 0 {
			continue
		}
		var t Told
		if json.Unmarshal([]byte(ended.Message), &t) != nil {
			return left{}, false
		}
		return left{answer: t.answer(), at: ended.FinishedAt.Time}, true
	}
	return left{}, false
}
