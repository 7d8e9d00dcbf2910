package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"forged.dev/forged/internal/reconcile"
)

type bench struct {
	dir, forged, kubeconfig string
	rest                    *rest.Config
	client                  dynamic.Interface
}

const kubeContext = "cluster-1"

func (b *bench) connect() (err error) {
	b.rest, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: b.kubeconfig},
		&clientcmd.ConfigOverrides{CurrentContext: kubeContext}).ClientConfig()
	if err != nil {
		return err
	}
	b.rest.QPS = -1
	b.client, err = dynamic.NewForConfig(b.rest)
	return err
}

// config is a forge.cue with n environments of one release each: the app's
// ServiceAccount, ConfigMap, Deployment, Service, NetworkPolicy and Ingress, and
// three workers of a Deployment and a NetworkPolicy each. With the Secret of
// forged's own beside them that makes 13 objects, and 4 pods.
func config(n int) string {
	var s strings.Builder
	s.WriteString(`forge: "v1"
app: {
	name: "bench"
	image: {repository: "registry.example/bench", tag: "1.0.0"}
	env: LOG_LEVEL: "info"
}
_env: {
	platform: {kind: "kubernetes", context: "` + kubeContext + `"}
	expose: {kind: "ingress", tls: mode: "none"}
	services: {postgres: mode: "off", redis: mode: "off"}
	workers: {
		a: args: ["work", "a"]
		b: args: ["work", "b"]
		c: args: ["work", "c"]
	}
	policy: {mode: "apply", interval: "30m"}
}
environments: {
`)
	for i := range n {
		fmt.Fprintf(&s, "\te%02d: _env & {domains: [\"e%02d.bench.example\"]}\n", i, i)
	}
	s.WriteString("}\n")
	return s.String()
}

// daemon is a running `forged run`.
type daemon struct {
	cmd     *exec.Cmd
	address string
	log     string
	done    chan struct{} // closed when it has ended
	err     error         // how, once done is closed
}

func (b *bench) run(ctx context.Context, config string) (*daemon, error) {
	path := filepath.Join(b.dir, "forge.cue")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &daemon{address: l.Addr().String(), log: filepath.Join(b.dir, "forged.log")}
	if err := l.Close(); err != nil {
		return nil, err
	}
	f, err := os.Create(d.log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d.cmd = exec.Command(b.forged, "run", "--config", path, "--listen", d.address)
	d.cmd.Env = append(os.Environ(), "KUBECONFIG="+b.kubeconfig)
	d.cmd.Stdout, d.cmd.Stderr = f, f
	d.done = make(chan struct{})
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		d.err = d.cmd.Wait()
		close(d.done)
	}()
	return d, nil
}

func (d *daemon) stop() error {
	err := d.cmd.Process.Signal(syscall.SIGTERM)
	<-d.done
	return errors.Join(err, d.err)
}

func (d *daemon) ready(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	// Not more often: asking for the status of 50 environments takes part of the
	// two processors that are being measured.
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last string
	for {
		var s reconcile.Status
		if err := d.get(ctx, "/status", &s); err != nil {
			last = err.Error()
		} else if s.State == reconcile.StateReady && len(s.Environments) > 0 {
			return nil
		} else {
			last = string(s.State)
		}
		select {
		case <-d.done:
			log, _ := os.ReadFile(d.log)
			return fmt.Errorf("the daemon ended: %w\n%s", cmp.Or(d.err, errors.New("exit status 0")), log[max(0, len(log)-4000):])
		case <-ctx.Done():
			log, _ := os.ReadFile(d.log)
			return fmt.Errorf("not ready within %s: %s\n%s", limit, last, log[max(0, len(log)-4000):])
		case <-tick.C:
		}
	}
}

func (d *daemon) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.address+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(into)
}

// requests is the number of requests the daemon has sent, watches apart.
func (d *daemon) requests(ctx context.Context) (n float64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.address+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	sc := bufio.NewScanner(resp.Body)
	for sc.Scan() {
		line := sc.Text()
		if strings.HasPrefix(line, "forged_api_requests_total{") && !strings.Contains(line, `verb="WATCH"`) {
			v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
			if err != nil {
				return 0, err
			}
			n += v
		}
	}
	return n, sc.Err()
}

// rss is the resident memory of the daemon in MB.
func (d *daemon) rss() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if s, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(s), "kB")), 64)
			return kb / 1024, err
		}
	}
	return 0, errors.New("no VmRSS")
}

// install measures what a daemon with n releases costs: to install them, to
// sit there, and to heal edits of their objects.
func (b *bench) install(ctx context.Context, n, edits int, idle time.Duration) (out []result, err error) {
	began := time.Now()
	d, err := b.run(ctx, config(n))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	if err := d.ready(ctx, 5*time.Minute); err != nil {
		return nil, err
	}
	took := float64(time.Since(began).Milliseconds()) / 1000
	floor, err := b.installFloor(ctx)
	if err != nil {
		return nil, err
	}
	out = append(out, result{
		Name: fmt.Sprintf("install %d releases of 13 objects, ready", n), Value: took, Unit: "s",
		Floor: floor.Seconds(), Target: "≤ 8 s", Met: took <= 8,
	})

	before, err := d.requests(ctx)
	if err != nil {
		return nil, err
	}
	select {
	case <-time.After(idle):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	after, err := d.requests(ctx)
	if err != nil {
		return nil, err
	}
	perMinute := (after - before) / idle.Minutes()
	out = append(out, result{Name: "requests in the steady state, watches apart", Value: perMinute, Unit: "/min", Target: "0 /min", Met: perMinute == 0})
	rss, err := d.rss()
	if err != nil {
		return nil, err
	}
	out = append(out, result{Name: fmt.Sprintf("resident memory with %d releases", n), Value: rss, Unit: "MB", Target: "≤ 80 MB", Met: rss <= 80})

	healed, err := b.heal(ctx, edits)
	return append(out, healed...), err
}

func object(apiVersion, kind, namespace, name string, data map[string]any) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": kind}}
	u.SetName(name)
	u.SetNamespace(namespace)
	if data != nil {
		u.Object["data"] = data
	}
	return u
}
