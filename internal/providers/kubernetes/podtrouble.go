package kubernetes

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// podGrace is how long a pod may be in a trouble that often passes by
	// itself, before it counts as failed: an image that is being pushed, a
	// Secret that is being made.
	podGrace = 20 * time.Second

	// crashesUntilFailed is how often a container may be restarted before a
	// crash loop counts as failed: many a process dies until its database answers.
	crashesUntilFailed = 3
)

// trouble is what keeps a pod from serving. The zero trouble is none.
type trouble struct {
	pod       string
	container string // empty: the pod as a whole
	reason    string // CrashLoopBackOff
	words     string // of the kubelet or the scheduler
	rank      int    // of several, the highest is told
	restarts  int32
	exited    bool
	exitCode  int32
	exit      string // why: Error, OOMKilled
	left      string // what the container has left to be read, secrets and all

	final      bool // nobody need wait any longer
	failsAfter bool // it is final when the grace is over
	toldAfter  bool // it is not worth a word before the grace is over
	log        bool // the container has run, and may have said why it does not
}

// Ranks of troubles.
const (
	rankNone = iota
	rankUnready
	rankPending
	rankUnschedulable
	rankRestarted
	rankImage
	rankConfig
	rankCrash
	rankFailed
)

// key tells one trouble from the next; what differs between two looks at the
// same one is not in it.
func (t trouble) key() string {
	return fmt.Sprintf("%s/%s/%d/%d/%d", t.pod, t.container, t.rank, t.restarts, t.exitCode)
}

// String is the trouble in one line.
func (t trouble) String() string {
	if t.rank == rankNone {
		return ""
	}
	var b strings.Builder
	b.WriteString("pod " + t.pod)
	if t.container != "" {
		b.WriteString(", container " + t.container)
	}
	b.WriteString(": " + t.reason)
	if t.exited {
		fmt.Fprintf(&b, ", exit code %d", t.exitCode)
		if t.exit != "" && t.exit != "Error" && t.exit != t.reason {
			b.WriteString(" (" + t.exit + ")")
		}
	}
	switch {
	case t.restarts == 1:
		b.WriteString(", restarted once")
	case t.restarts > 1:
		fmt.Fprintf(&b, ", restarted %d times", t.restarts)
	}
	if t.words != "" {
		b.WriteString(": " + t.words)
	}
	return b.String()
}

// troubleOf finds the worst trouble of one pod.
func troubleOf(pod *corev1.Pod) trouble {
	worst := trouble{pod: pod.Name}
	consider := func(t trouble) {
		if t.rank > worst.rank {
			t.pod = pod.Name
			worst = t
		}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			consider(trouble{rank: rankUnschedulable, reason: c.Reason, words: c.Message})
		}
	}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		consider(containerTrouble(pod, s))
	}
	if pod.Status.Phase == corev1.PodFailed && worst.rank < rankFailed {
		reason := pod.Status.Reason
		if reason == "" {
			reason = "it has failed"
		}
		consider(trouble{rank: rankFailed, reason: reason, words: pod.Status.Message})
	}
	if worst.rank == rankNone && pod.Status.Phase == corev1.PodPending {
		consider(trouble{rank: rankPending, reason: "it does not start", toldAfter: true})
	}
	return worst
}

func containerTrouble(pod *corev1.Pod, s corev1.ContainerStatus) trouble {
	t := trouble{container: s.Name, restarts: s.RestartCount}
	if ended := firstOf(s.State.Terminated, s.LastTerminationState.Terminated); ended != nil {
		t.exited, t.exitCode, t.exit, t.log, t.left = true, ended.ExitCode, ended.Reason, true, ended.Message
	}
	switch waiting := s.State.Waiting; {
	case waiting != nil:
		t.reason, t.words = waiting.Reason, waiting.Message
		switch waiting.Reason {
		case "CrashLoopBackOff":
			t.rank, t.final = rankCrash, s.RestartCount >= crashesUntilFailed
			t.words = "" // tells the length of the pause
		case "InvalidImageName", "ErrImageNeverPull":
			t.rank, t.final = rankImage, true
		case "ImagePullBackOff", "ErrImagePull", "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed":
			t.rank, t.failsAfter = rankImage, true
		case "CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreStartHookError", "PostStartHookError":
			t.rank, t.failsAfter = rankConfig, true
		default: // ContainerCreating, PodInitializing: it is on its way
			t.rank = rankNone
		}
	case s.State.Terminated != nil && s.State.Terminated.ExitCode != 0:
		t.reason = s.State.Terminated.Reason
		t.rank = rankRestarted
		if pod.Spec.RestartPolicy == corev1.RestartPolicyNever {
			t.rank = rankFailed
		}
	case s.State.Running != nil && !s.Ready && t.exited && s.RestartCount > 0:
		t.rank, t.reason = rankRestarted, "it is not ready again"
	case s.State.Running != nil && !s.Ready && !isInit(pod, s.Name):
		t.rank, t.reason, t.toldAfter, t.log = rankUnready, "it runs and is not ready", true, true
	}
	return t
}

// isInit tells whether a container is one that runs before the others.
func isInit(pod *corev1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == name })
}

func firstOf(all ...*corev1.ContainerStateTerminated) *corev1.ContainerStateTerminated {
	for _, t := range all {
		if t != nil {
			return t
		}
	}
	return nil
}

// oneLine is the first line of a text that others have written.
func oneLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return strings.TrimSpace(line)
}
