package kubernetes

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// TestTroubleOf has the statuses that kubelets write.
func TestTroubleOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, pod  string
		want       string // exactly
		final      bool
		failsAfter bool
		log        bool
	}{
		{"serves", "{status: {phase: Running, containerStatuses: [{name: c, ready: true, state: {running: {}}}]}}", "", false, false, false},
		{"is made", "{status: {phase: Running, containerStatuses: [{name: c, state: {waiting: {reason: ContainerCreating}}}]}}", "", false, false, false},
		{
			"no node fits", "{status: {phase: Pending, conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable, message: '0/3 nodes are available: 3 Insufficient cpu.'}]}}",
			"pod p: Unschedulable: 0/3 nodes are available: 3 Insufficient cpu.", false, false, false,
		},
		{
			"image is missing", "{status: {phase: Pending, containerStatuses: [{name: c, state: {waiting: {reason: ImagePullBackOff, message: 'Back-off pulling image \"x\"'}}}]}}",
			`pod p, container c: ImagePullBackOff: Back-off pulling image "x"`, false, true, false,
		},
		{
			"image has no name", "{status: {phase: Pending, containerStatuses: [{name: c, state: {waiting: {reason: InvalidImageName}}}]}}",
			"pod p, container c: InvalidImageName", true, false, false,
		},
		{
			"Secret is missing", "{status: {phase: Pending, containerStatuses: [{name: c, state: {waiting: {reason: CreateContainerConfigError, message: 'secret \"a\" not found'}}}]}}",
			`pod p, container c: CreateContainerConfigError: secret "a" not found`, false, true, false,
		},
		{
			"has crashed once", "{status: {phase: Running, containerStatuses: [{name: c, restartCount: 1, state: {waiting: {reason: CrashLoopBackOff, message: 'back-off 10s'}}, lastState: {terminated: {exitCode: 1, reason: Error}}}]}}",
			"pod p, container c: CrashLoopBackOff, exit code 1, restarted once", false, false, true,
		},
		{
			"crashes again and again", "{status: {phase: Running, containerStatuses: [{name: c, restartCount: 3, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 137, reason: OOMKilled}}}]}}",
			"pod p, container c: CrashLoopBackOff, exit code 137 (OOMKilled), restarted 3 times", true, false, true,
		},
		{
			"init container crashes", "{status: {phase: Pending, initContainerStatuses: [{name: i, restartCount: 4, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 2, reason: Error}}}], containerStatuses: [{name: c, state: {waiting: {reason: PodInitializing}}}]}}",
			"pod p, container i: CrashLoopBackOff, exit code 2, restarted 4 times", true, false, true,
		},
		{
			"pod of a Job has failed", "{spec: {restartPolicy: Never}, status: {phase: Failed, containerStatuses: [{name: c, state: {terminated: {exitCode: 3, reason: Error, message: 'p4ssw0rd'}}}]}}",
			"pod p, container c: Error, exit code 3", false, false, true,
		},
		{
			"is evicted", "{status: {phase: Failed, reason: Evicted, message: The node was low on resource}}",
			"pod p: Evicted: The node was low on resource", false, false, false,
		},
		{
			"is not ready", "{status: {phase: Running, containerStatuses: [{name: c, state: {running: {}}}]}}",
			"pod p, container c: it runs and is not ready", false, false, true,
		},
		{
			"does not start", "{status: {phase: Pending, containerStatuses: [{name: c, state: {waiting: {reason: ContainerCreating}}}]}}",
			"pod p: it does not start", false, false, false,
		},
		{
			"the worst of two", "{status: {phase: Running, containerStatuses: [{name: a, state: {running: {}}}, {name: b, restartCount: 5, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 1}}}]}}",
			"pod p, container b: CrashLoopBackOff, exit code 1, restarted 5 times", true, false, true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var pod corev1.Pod
			if err := yaml.Unmarshal([]byte(tt.pod), &pod); err != nil {
				t.Fatal(err)
			}
			pod.Name = "p"
			got := troubleOf(&pod)
			if got.String() != tt.want || got.final != tt.final || got.failsAfter != tt.failsAfter || got.log != tt.log {
				t.Errorf("%q, final %v, in a while %v, log %v", got, got.final, got.failsAfter, got.log)
			}
			if strings.Contains(got.String(), "p4ssw0rd") {
				t.Error("what a container has left is told as it is")
			}
		})
	}
}

func TestTailIsBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 10_000)
	text := strings.Repeat("line\n\n", 100) + "\x1b[31mred\x1b[0m\n" + long + "\nlast\n\n"
	got := tail(text)
	lines := strings.Split(got, "\n")
	if len(lines) != logLines || lines[len(lines)-1] != "| last" || strings.ContainsRune(got, 0x1b) || !strings.Contains(got, "[31mred[0m") {
		t.Errorf("%d lines: %q", len(lines), got)
	}
	if got := tail(strings.Repeat(long+"\n", 50)); len(got) > logShown+1000 {
		t.Errorf("%d bytes", len(got))
	}
	if got := tail("\n\n"); got != "" {
		t.Errorf("%q", got)
	}
}

// A kubelet quotes what a probe or a hook has printed: the namespace's secrets are
// taken out of that, and where they cannot be, the words are not shown. What the
// kubelet itself says is.
func TestQuotedWordsHoldNoSecret(t *testing.T) {
	t.Parallel()
	b, k := newPodBed(t, "")
	mustMakeSecret(b, "db", "password", "c4n4ry-value")
	for pod, reason := range map[string]string{"probed": "Unhealthy", "mounted": "FailedMount"} {
		event := &corev1.Event{
			ObjectMeta:     metav1.ObjectMeta{Name: pod, Namespace: b.Namespace},
			InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: pod, Namespace: b.Namespace},
			Type:           corev1.EventTypeWarning, Reason: reason, Message: "it said: no user c4n4ry-value\nnor any other",
		}
		if _, err := b.Client.CoreV1().Events(b.Namespace).Create(t.Context(), event, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	w := &podWatch{c: b.c, ref: workload("Deployment", b.Namespace, "web")}
	if got := w.event(t.Context(), "Pod", "probed"); strings.Contains(got, "c4n4ry") || !strings.HasPrefix(got, "Unhealthy: it said: no user ") || strings.Contains(got, "\n") {
		t.Errorf("a probe: %s", got)
	}
	if got := w.event(t.Context(), "Pod", "mounted"); got != "FailedMount: it said: no user c4n4ry-value" {
		t.Errorf("of the kubelet's own: %s", got)
	}
	if got := w.words(t.Context(), "PostStartHookError", "hook failed: c4n4ry-value"); strings.Contains(got, "c4n4ry") {
		t.Errorf("a hook: %s", got)
	}
	k.mu.Lock()
	k.denied = "/namespaces/" + b.Namespace + "/secrets"
	k.mu.Unlock()
	blind := &podWatch{c: b.c, ref: w.ref}
	if got := blind.event(t.Context(), "Pod", "probed"); strings.Contains(got, "c4n4ry") || !strings.Contains(got, "not shown") {
		t.Errorf("without the secrets: %s", got)
	}
}

func mustMakeSecret(b *bed, name, key, value string) {
	b.t.Helper()
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: map[string]string{key: value}}
	if _, err := b.Client.CoreV1().Secrets(b.Namespace).Create(b.t.Context(), s, metav1.CreateOptions{}); err != nil {
		b.t.Fatal(err)
	}
}
