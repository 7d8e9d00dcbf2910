package up_test

import (
	"os/exec"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Whoever watches is cut off, what was written stays, and nothing else of the
// sandbox ends.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	s := runProgram(t, dir, "--nodes", "1")
	s.awaitReady()
	client := s.client("cluster-1")
	if _, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), configMap("before"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	watched, err := client.CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	children := descendants(t, s.pid)

	if out, err := exec.Command(program, "restart", "--dir", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for range watched.ResultChan() { // ends with the connection
	}
	if _, err := client.CoreV1().ConfigMaps("default").Get(t.Context(), "before", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	if now := descendants(t, s.pid); len(now) != len(children) {
		t.Errorf("%d children before, %d now: %v", len(children), len(now), now)
	}
	testDeployment(t, client) // the others work with the new one
	select {
	case <-s.ended:
		t.Errorf("the sandbox has ended: %v", s.err)
	default:
	}
}

func TestRestartOfNothing(t *testing.T) {
	out, err := exec.Command(program, "restart", "--dir", t.TempDir()).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "no sandbox is ready") {
		t.Errorf("%v: %s", err, out)
	}
}
