package kubernetes

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"forged.dev/forged/internal/secret"
	"forged.dev/forged/internal/secret/redact"
)

const (
	logLines = 20       // shown of a log
	logRead  = 64 << 10 // bytes read of it
	logLine  = 300      // bytes shown of one line
	logShown = 4 << 10  // bytes shown in all
)

// lastWords are what a container that has run has left to be read, and the last
// lines of its log, both without secrets. Where the Secrets of the namespace
// cannot be read nothing could be taken out, and so nothing is shown.
func (f *podWatch) lastWords(ctx context.Context, t trouble) (left, log string) {
	ctx, cancel := bound(ctx)
	defer cancel()
	r, err := f.c.redactor(ctx, f.ref.Namespace)
	if err != nil {
		return "", "its log is not shown, since its secrets could not be taken out: " + err.Error()
	}
	left = oneLine(strings.Map(printable, oneLine(r.Text(t.left))))
	lines, limit := int64(logLines), int64(logRead)
	raw, err := f.c.client.CoreV1().Pods(f.ref.Namespace).GetLogs(t.pod, &corev1.PodLogOptions{
		Container: t.container, TailLines: &lines, LimitBytes: &limit,
	}).DoRaw(ctx)
	if err != nil {
		return left, "its log cannot be read: " + oneLine(r.Text(err.Error()))
	}
	text := string(raw)
	if len(raw) >= logRead {
		// The last line is cut, and with it perhaps a secret that nobody would
		// recognise any more.
		text = text[:strings.LastIndexByte(text, '\n')+1]
	}
	if log = tail(r.Text(strings.ToValidUTF8(text, "?"))); log == "" {
		return left, "its log is empty"
	}
	return left, "its log ends:\n" + log
}

// tail cuts a text down to what is shown, from its end.
func tail(text string) string {
	var all []string
	size := 0
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	slices.Reverse(lines)
	for _, line := range lines {
		line = strings.TrimRight(strings.Map(printable, line), " ")
		if line == "" {
			continue
		}
		if len(line) > logLine {
			line = strings.ToValidUTF8(line[:logLine], "") + "…"
		}
		if size += len(line); size > logShown || len(all) == logLines {
			break
		}
		all = append(all, "| "+line)
	}
	slices.Reverse(all)
	return strings.Join(all, "\n")
}

// printable keeps what a terminal could take for a command out of a text.
func printable(r rune) rune {
	switch {
	case r == '\t':
		return ' '
	case r < ' ' || r == 0x7f || 0x80 <= r && r < 0xa0:
		return -1
	}
	return r
}

// redactor knows the values of all Secrets of a namespace: whatever a pod
// there can have printed. They are read when a log is, and not kept.
func (c *Cluster) redactor(ctx context.Context, namespace string) (*redact.Redactor, error) {
	list, err := c.client.CoreV1().Secrets(namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermNotEqualSelector("type", "helm.sh/release.v1").String(),
	})
	if err != nil {
		return nil, Classify("list the secrets of namespace "+namespace, Ref{}, err)
	}
	var values []secret.Value
	for i := range list.Items {
		s := &list.Items[i]
		for key, raw := range s.Data {
			if s.Labels[LabelInstance] == c.instance || !public(key) {
				values = append(values, secret.New(raw))
			}
		}
	}
	return redact.New(values), nil
}

// public tells keys under which other tools keep what is no secret, and what
// would make any log unreadable if it were taken out.
func public(key string) bool {
	return slices.Contains([]string{"username", "user", "host", "hostname", "port", "database", "dbname", "namespace", "ca.crt", "tls.crt"}, strings.ToLower(key))
}

// guarded is a line of the cluster's own words, without what looks like a
// secret.
func guarded(text string) string {
	var r redact.Redactor
	return strings.Map(printable, r.Text(oneLine(text)))
}

// event is the last warning about an object; empty if there is none, or if it
// cannot be read.
func (f *podWatch) event(ctx context.Context, kind, name string) string {
	ctx, cancel := bound(ctx)
	defer cancel()
	list, err := f.c.client.CoreV1().Events(f.ref.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.Set{"involvedObject.kind": kind, "involvedObject.name": name, "type": corev1.EventTypeWarning}.AsSelector().String(),
		Limit:         100,
	})
	if err != nil || len(list.Items) == 0 {
		return ""
	}
	last := slices.MaxFunc(list.Items, func(a, b corev1.Event) int { return seenAt(a).Compare(seenAt(b).Time) })
	return last.Reason + ": " + f.words(ctx, last.Reason, last.Message)
}

// quoting are the reasons behind which a kubelet quotes what a process has
// printed: a probe, a hook of a container.
var quoting = []string{"Unhealthy", "ProbeWarning", "FailedPostStartHook", "FailedPreStopHook", "PostStartHookError", "PreStartHookError"}

// words are the first line of what a kubelet or a controller says, without
// secrets where it may quote some.
func (f *podWatch) words(ctx context.Context, reason, text string) string {
	if text == "" || !slices.Contains(quoting, reason) {
		return oneLine(text)
	}
	if f.quoted.raw != text {
		r, err := f.c.redactor(ctx, f.ref.Namespace)
		if err != nil {
			return "its words are not shown, since its secrets could not be taken out"
		}
		f.quoted.raw, f.quoted.clean = text, oneLine(r.Text(text))
	}
	return f.quoted.clean
}

func seenAt(e corev1.Event) *metav1.Time {
	switch {
	case !e.LastTimestamp.IsZero():
		return &e.LastTimestamp
	case !e.EventTime.IsZero():
		return &metav1.Time{Time: e.EventTime.Time}
	}
	return &e.CreationTimestamp
}
