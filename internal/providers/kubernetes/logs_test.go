package kubernetes

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/reconcile"
)

// Logs of the pods of a workload are told without secrets and without commands
// to terminals, and not at all when the secrets are not known.
func TestLogs(t *testing.T) {
	t.Parallel()
	const canary = "c4n4ry/Pass w0rd+"
	b, k := newPodBed(t, "starting\n\x1b[31mlogged in with "+canary+"\n\nlast")
	secrets := b.Client.CoreV1().Secrets(b.Namespace)
	if _, err := secrets.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, StringData: map[string]string{"password": canary}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ref := workload("Deployment", b.Namespace, "web")
	b.own(releaseID("app"), b.manifest(fmt.Sprintf(podsOf, "run", "1")))
	b.follow(ref, "ready", func(h reconcile.Health) bool { return h.Status == reconcile.Ready })

	var lines []string
	tell := func(pod, container, line string) {
		if !strings.HasPrefix(pod, "web-") || container != "web" {
			t.Errorf("from %s, %s", pod, container)
		}
		lines = append(lines, line)
	}
	service := Ref{GVK: corev1.SchemeGroupVersion.WithKind("Service"), Namespace: b.Namespace, Name: "web"}
	heard, err := b.c.Logs(t.Context(), []Ref{ref, service, workload("StatefulSet", b.Namespace, "none"), ref}, 10, true, tell)
	if err != nil || heard != 1 {
		t.Fatalf("%d containers, %v", heard, err)
	}
	if got, want := strings.Join(lines, "|"), "starting|[31mlogged in with [redacted]||last"; got != want {
		t.Errorf("lines %q, want %q", got, want)
	}

	k.mu.Lock()
	k.denied = "/secrets"
	k.mu.Unlock()
	before := len(k.reads())
	_, err = b.c.Logs(t.Context(), []Ref{ref}, 10, false, tell)
	if err == nil || !strings.Contains(err.Error(), "no log is shown, since its secrets could not be taken out") || len(k.reads()) != before {
		t.Errorf("without the right to read Secrets: %v", err)
	}
}

func TestReadLine(t *testing.T) {
	long := strings.Repeat("x", longLogLine+1)
	r := bufio.NewReader(strings.NewReader("one\n\n" + long + "\nlast"))
	for _, want := range []string{"one", "", "[a line of more than 1 MiB]"} {
		if got, err := readLine(r); err != nil || got != want {
			t.Errorf("%.40q, %v, want %q", got, err, want)
		}
	}
	if got, err := readLine(r); !errors.Is(err, io.EOF) || got != "last" {
		t.Errorf("%q, %v", got, err)
	}
}
