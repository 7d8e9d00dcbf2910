package kubernetes

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"forged.dev/forged/internal/secret/redact"
)

const (
	logsAtOnce  = 20      // streams that are open at a time
	longLogLine = 1 << 20 // bytes; what is longer is no line that a person reads
)

// Logs gives the last lines of what the containers of some workloads have
// printed to tell, without secrets, pod by pod; with follow also what they print
// from now on, until ctx ends. Where the Secrets of a namespace cannot be read
// nothing could be taken out, and so nothing is shown. It returns how many
// containers it has heard.
func (c *Cluster) Logs(ctx context.Context, of []Ref, last int64, follow bool, tell func(pod, container, line string)) (heard int, err error) {
	var pods []corev1.Pod
	known := map[string]*redact.Redactor{}
	for _, ref := range of {
		found, err := c.podsBehind(ctx, ref)
		if err != nil {
			return 0, err
		}
		if len(found) > 0 && known[ref.Namespace] == nil {
			if known[ref.Namespace], err = c.redactor(ctx, ref.Namespace); err != nil {
				return 0, fmt.Errorf("no log is shown, since its secrets could not be taken out: %w", err)
			}
		}
		pods = append(pods, found...)
	}
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	pods = slices.CompactFunc(pods, func(a, b corev1.Pod) bool { return a.UID == b.UID })

	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(1)
	if follow {
		g.SetLimit(logsAtOnce)
	}
	for _, pod := range pods {
		for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
			if follow && heard == logsAtOnce {
				return 0, fmt.Errorf("there are more than %d containers to follow; name a part, or do without following", logsAtOnce)
			}
			heard++
			g.Go(func() error {
				return c.printed(gctx, pod, container.Name, last, follow, func(line string) {
					line = strings.TrimRight(strings.Map(printable, known[pod.Namespace].Text(strings.ToValidUTF8(line, "?"))), " ")
					mu.Lock()
					defer mu.Unlock()
					tell(pod.Name, container.Name, line)
				})
			})
		}
	}
	if err = g.Wait(); ctx.Err() != nil {
		err = nil // whoever followed has seen enough
	}
	return heard, err
}

// printed reads one log. A container that has not run yet has none.
func (c *Cluster) printed(ctx context.Context, pod corev1.Pod, container string, last int64, follow bool, tell func(line string)) error {
	ref := Ref{GVK: corev1.SchemeGroupVersion.WithKind("Pod"), Namespace: pod.Namespace, Name: pod.Name}
	const op = "read the log of"
	body, err := c.client.CoreV1().Pods(pod.Namespace).
		GetLogs(pod.Name, &corev1.PodLogOptions{Container: container, TailLines: &last, Follow: follow}).Stream(ctx)
	if err != nil {
		err = Classify(op, ref, err)
		tell("its log cannot be read: " + err.Error())
		return nil
	}
	defer body.Close()
	lines := bufio.NewReader(body)
	for {
		line, err := readLine(lines)
		if line != "" || err == nil {
			tell(line)
		}
		switch {
		case errors.Is(err, io.EOF), ctx.Err() != nil:
			return nil
		case err != nil:
			return Classify(op, ref, err)
		}
	}
}

// readLine reads a line. One that is too long is left out as a whole: cut, it
// could end within a secret that nobody would recognise any more.
func readLine(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line) <= longLogLine {
			line = append(line, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if len(line) > longLogLine {
			return "[a line of more than 1 MiB]", err
		}
		return strings.TrimSuffix(string(line), "\n"), err
	}
}

// podsBehind are the pods of a workload; none of what has no pods.
func (c *Cluster) podsBehind(ctx context.Context, ref Ref) ([]corev1.Pod, error) {
	switch ref.GVK.Kind {
	case "Deployment", "StatefulSet", "DaemonSet", "Job", "Pod":
	default:
		return nil, nil
	}
	live, err := c.Get(ctx, ref)
	if err != nil || live == nil {
		return nil, err
	}
	if ref.GVK.Kind == "Pod" {
		var pod corev1.Pod
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(live.Object, &pod); err != nil {
			return nil, Classify("read", ref, err)
		}
		return []corev1.Pod{pod}, nil
	}
	raw, _, err := unstructured.NestedMap(live.Object, "spec", "selector")
	if err != nil {
		return nil, Classify("read", ref, err)
	}
	var of metav1.LabelSelector
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &of); err != nil {
		return nil, Classify("read", ref, err)
	}
	selector, err := metav1.LabelSelectorAsSelector(&of)
	if err != nil || selector.Empty() || selector.String() == labels.Nothing().String() {
		return nil, Classify("read the selector of", ref, err)
	}
	ctx, cancel := bound(ctx)
	defer cancel()
	list, err := c.client.CoreV1().Pods(ref.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return nil, Classify("list the pods of", ref, err)
	}
	return list.Items, nil
}
