// Package sandboxtest gives tests a real Kubernetes control plane: the one of
// bin/forged-sandbox, started once per test process, or one that runs already.
package sandboxtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"forged.dev/forged/internal/forge"
)

// DirVariable names a running sandbox's directory; when it is set, no sandbox
// is started and none is stopped.
const DirVariable = "FORGED_SANDBOX_DIR"

const (
	startTimeout  = 3 * time.Minute
	stopTimeout   = 30 * time.Second
	firstContext  = "cluster-1"
	secondContext = "cluster-2"
)

// Env is what a test gets: a cluster shared with other tests, and names in it
// that are its own.
type Env struct {
	Dir        string // of the sandbox
	Kubeconfig string
	Context    string
	Config     *rest.Config // administrator; no client-side rate limit
	Client     kubernetes.Interface
	Namespace  string // name of a namespace that does not exist yet
	Instance   string // id for a forged of this test; watches see no other test's objects
}

// Target is the cluster as the model names it.
func (e *Env) Target() forge.Target {
	return forge.Target{Kubeconfig: e.Kubeconfig, Context: e.Context}
}

// CreateNamespace makes the namespace.
func (e *Env) CreateNamespace(t testing.TB) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: e.Namespace}}
	if _, err := e.Client.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatalf("create namespace: %v", err)
	}
}

// sandbox is the one of this process, and second one more for tests of several
// clusters. They have to outlive the test that asked for them first, which is
// why they are the globals of this package.
var sandbox, second, atFly place

type place struct {
	once    sync.Once
	dir     string
	context string
	err     error
	stop    func() error
}

// Main runs the tests of a package and then stops the sandbox they used, if
// they started one. Use it as TestMain's body: os.Exit(sandboxtest.Main(m)).
func Main(m interface{ Run() int }) int {
	code := m.Run()
	for _, p := range []*place{&sandbox, &second, &atFly} {
		if p.stop == nil {
			continue
		}
		if err := p.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "sandboxtest:", err)
			if code == 0 {
				code = 1
			}
		}
	}
	return code
}

// Cluster gives a test the cluster. Without the sandbox's program the test
// fails: a test that is passed over proves nothing.
func Cluster(t testing.TB) *Env {
	t.Helper()
	sandbox.once.Do(func() {
		sandbox.dir, sandbox.stop, sandbox.err = acquire()
		sandbox.context = firstContext
	})
	return sandbox.env(t)
}

// Second gives a test another cluster: the second one of the sandbox that runs,
// or the one of a second sandbox, which is started when it is asked for.
func Second(t testing.TB) *Env {
	t.Helper()
	first := Cluster(t)
	second.once.Do(func() {
		second.dir, second.context = first.Dir, secondContext
		config, err := clientcmd.LoadFromFile(first.Kubeconfig)
		if err == nil && config.Contexts[secondContext] != nil {
			return
		}
		second.context = firstContext
		second.dir, second.stop, second.err = start("--clusters", "1")
	})
	return second.env(t)
}

func (p *place) env(t testing.TB) *Env {
	t.Helper()
	if p.err != nil {
		t.Fatalf("no sandbox: %v", p.err)
	}
	e := &Env{Dir: p.dir, Kubeconfig: filepath.Join(p.dir, "kubeconfig"), Context: p.context}
	var err error
	e.Config, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: e.Kubeconfig},
		&clientcmd.ConfigOverrides{CurrentContext: e.Context}).ClientConfig()
	if err != nil {
		t.Fatalf("kubeconfig of the sandbox: %v", err)
	}
	e.Config.QPS = -1
	if e.Client, err = kubernetes.NewForConfig(e.Config); err != nil {
		t.Fatal(err)
	}
	id := make([]byte, 4)
	if _, err := rand.Read(id); err != nil {
		t.Fatal(err)
	}
	e.Instance = "t" + hex.EncodeToString(id)
	e.Namespace = "test-" + e.Instance
	t.Cleanup(func() { e.cleanUp(t) })
	return e
}

// cleanUp deletes the namespace; nobody waits until it is gone.
func (e *Env) cleanUp(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := e.Client.CoreV1().Namespaces().Delete(ctx, e.Namespace, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Errorf("delete namespace %s: %v", e.Namespace, err)
	}
}

// acquire finds the running sandbox or starts one.
func acquire() (dir string, stop func() error, err error) {
	if dir = os.Getenv(DirVariable); dir != "" {
		if _, err := os.Stat(filepath.Join(dir, "ready")); err != nil {
			return "", nil, fmt.Errorf("%s is set, but no sandbox is ready there: %w", DirVariable, err)
		}
		return dir, nil, nil
	}
	return start("--clusters", "1")
}

// start starts a sandbox with these flags.
func start(flags ...string) (dir string, stop func() error, err error) {
	root, err := moduleRoot()
	if err != nil {
		return "", nil, err
	}
	program := filepath.Join(root, "bin", "forged-sandbox")
	if _, err := os.Stat(program); err != nil {
		return "", nil, fmt.Errorf("%s is missing: run make build first", program)
	}
	if dir, err = os.MkdirTemp("", "forged-sandbox-"); err != nil {
		return "", nil, err
	}
	var out bytes.Buffer
	cmd := exec.Command(program, append([]string{"up", "--dir", dir, "--exit-with-parent"}, flags...)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	// Ctrl-C on the terminal is for the tests; the sandbox is stopped by them.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	ended := make(chan struct{})
	var ending error
	go func() {
		ending = cmd.Wait()
		close(ended)
	}()
	stop = func() error {
		defer os.RemoveAll(dir)
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		select {
		case <-ended:
			if ending != nil {
				return fmt.Errorf("the sandbox ended badly: %w\n%s", ending, out.String())
			}
			return nil
		case <-time.After(stopTimeout):
			return errors.Join(fmt.Errorf("the sandbox did not stop within %s", stopTimeout), cmd.Process.Kill())
		}
	}

	// The sandbox says nothing that could be waited for but the file.
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(startTimeout)
	for {
		select {
		case <-tick.C:
			if _, err := os.Stat(filepath.Join(dir, "ready")); err == nil {
				return dir, stop, nil
			}
		case <-ended:
			os.RemoveAll(dir)
			if ending == nil {
				ending = errors.New("exit status 0")
			}
			return "", nil, fmt.Errorf("the sandbox ended before it was ready: %w\n%s", ending, out.String())
		case <-deadline:
			return "", nil, errors.Join(fmt.Errorf("the sandbox was not ready within %s", startTimeout), stop())
		}
	}
}

// moduleRoot is the directory of the go.mod above the working directory, which
// in a test is the package's.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(b), "module forged.dev/forged\n") {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod of module forged.dev/forged above the working directory")
		}
		dir = parent
	}
}
