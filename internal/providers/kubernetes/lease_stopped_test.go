package kubernetes

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
)

// childVariable makes the test binary a forged that holds a lease and writes
// when it is told to.
const childVariable = "FORGED_TEST_LEASE_CHILD"

// stoppedTimes are short, for that test to be, and long enough for a slow
// machine to write before its lease lapses.
var stoppedTimes = leaseTimes{duration: 6 * time.Second, renew: 500 * time.Millisecond, lapse: 3 * time.Second, retry: 100 * time.Millisecond}

func leaseChild(args string) error {
	var kubeconfig, cluster, namespace, instance string
	if _, err := fmt.Sscan(args, &kubeconfig, &cluster, &namespace, &instance); err != nil {
		return err
	}
	ctx := context.Background()
	cs := NewClusters(Options{Instance: instance})
	leases := NewLeases(cs)
	leases.times = stoppedTimes
	r := forge.Resource{ID: releaseID("shop"), Target: forge.Target{Kubeconfig: kubeconfig, Context: cluster}, Spec: forge.ReleaseSpec{Namespace: namespace}}
	c, err := cs.Cluster(ctx, r.Target)
	if err != nil {
		return err
	}
	if l, err := leases.Hold(ctx, "prod", r); err != nil || !l.Held {
		return fmt.Errorf("%+v, %w", l, err)
	}
	inv, err := c.Inventory(ctx, "prod", namespace)
	if err != nil {
		return err
	}
	if err := inv.Begin(ctx, r.ID, []Ref{secretRef(namespace, "late")}); err != nil {
		return err
	}
	fmt.Println("holds")
	in := bufio.NewScanner(os.Stdin)
	for n := 0; in.Scan(); n++ {
		err := c.Client().CoreV1().ConfigMaps(namespace).Delete(ctx, "precious", metav1.DeleteOptions{})
		fmt.Println("direct:", err)
		fmt.Println("noted:", inv.Commit(ctx, Record{ID: r.ID}))
	}
	return nil
}

// stopped tells whether all threads of a process have stopped.
func stopped(t testing.TB, pid int) bool {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		t.Fatal("no threads of the child are seen", err)
	}
	for _, thread := range threads {
		b, err := os.ReadFile(thread)
		if err != nil {
			return false
		}
		if f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:])); f[0] != "T" {
			return false
		}
	}
	return true
}

// A holder that is stopped for longer than its lease, and goes on when another
// one has taken over, has its writes refused.
func TestStoppedHolderWritesNothing(t *testing.T) {
	b := newBed(t)
	b.foreign("precious", `{}`)
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childVariable+"="+strings.Join([]string{b.Kubeconfig, b.Context, b.Namespace, b.Instance}, " "))
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "holds" {
		t.Fatalf("the child says %q", lines.Text())
	}
	if err := child.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	for !stopped(t, child.Process.Pid) {
		if time.Now().After(deadline) {
			t.Fatal("the child does not stop")
		}
	}
	if _, err := io.WriteString(in, "write\n"); err != nil {
		t.Fatal(err)
	}
	young := b.another(nil)
	young.leases.times = stoppedTimes
	won := make(chan struct{}, 10)
	watching, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = young.leases.Watch(watching, func(string) { won <- struct{}{} }) })
	defer wg.Wait()
	defer stop()
	if l := young.hold(); l.Held {
		t.Fatal("taken over at once from a process that lives")
	}
	await(t, won)
	if l := young.hold(); !l.Held {
		t.Fatalf("%+v", l)
	}
	if err := child.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"direct: ", "noted: "} {
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), what) || strings.HasSuffix(lines.Text(), "<nil>") {
			t.Errorf("it did what it is not to do any more: %q", lines.Text())
		}
	}
	if b.get(RefOf(b.configMap("precious", "{}"))) == nil {
		t.Error("it deleted something")
	}
	in.Close()
}
