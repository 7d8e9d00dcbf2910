package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"forged.dev/forged/internal/faultproxy"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/sandboxtest"
	"forged.dev/forged/internal/server"
)

// patience is how long the tests wait for a daemon to do something.
const patience = 2 * time.Minute

// home is a directory with a forge.cue, and a place in a cluster for what it
// asks for, reached through a proxy that can break the line and knows every
// request.
type home struct {
	*sandboxtest.Env
	t     *testing.T
	dir   string
	proxy *faultproxy.Proxy
}

// newHome makes a home. The daemons of it find the context "proxied".
func newHome(t *testing.T) *home {
	t.Helper()
	env := sandboxtest.Cluster(t)
	return &home{Env: env, t: t, dir: t.TempDir(), proxy: faultproxy.New(t, env.Config)}
}

// write puts a file into the home. $NAMESPACE in it is the home's.
func (h *home) write(name, text string) {
	h.t.Helper()
	text = strings.NewReplacer("$NAMESPACE", h.Namespace).Replace(text)
	// As editors do: a daemon never sees half a file.
	path := filepath.Join(h.dir, name)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		h.t.Fatal(err)
	}
}

// daemonProcess is a forged run, the real program.
type daemonProcess struct {
	h    *home
	cmd  *exec.Cmd
	log  *logBuffer
	done chan struct{} // closed when it has ended
	err  error         // its end, once done is closed
}

// logBuffer may be read while a process writes to it.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (h *home) env() []string {
	if h.proxy == nil {
		return os.Environ() // no cluster
	}
	return append(os.Environ(), "KUBECONFIG="+h.proxy.Kubeconfig())
}

// run starts a daemon. It ends with the test at the latest.
func (h *home) run(args ...string) *daemonProcess {
	h.t.Helper()
	d := &daemonProcess{h: h, log: &logBuffer{}, done: make(chan struct{})}
	args = append([]string{"run", "--listen", "127.0.0.1:0", "--instance", h.Instance, "--log-level", "debug"}, args...)
	d.cmd = exec.Command("forged", args...)
	d.cmd.Dir, d.cmd.Env = h.dir, h.env()
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	if err := d.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	go func() {
		d.err = d.cmd.Wait()
		close(d.done)
	}()
	h.t.Cleanup(func() {
		d.kill()
		if h.t.Failed() {
			h.t.Logf("log of the daemon:\n%s", d.log)
		}
	})
	return d
}

// kill is kill -9.
func (d *daemonProcess) kill() {
	if err := d.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		d.h.t.Error(err)
	}
	<-d.done
}

// stop ends it in an orderly way.
func (d *daemonProcess) stop() {
	d.h.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.h.t.Fatal(err)
	}
	select {
	case <-d.done:
		if d.err != nil {
			d.h.t.Fatalf("it did not stop in an orderly way: %v", d.err)
		}
	case <-time.After(patience):
		d.h.t.Fatalf("it did not stop within %s", patience)
	}
}

// listening is how a daemon says where it does.
var listening = regexp.MustCompile(`listening"?[ ,]"?address"?[=:]"?([0-9.:]+)["\n]`)

// address is where it listens; empty: nowhere yet.
func (d *daemonProcess) address() string {
	if at := listening.FindStringSubmatch(d.log.String()); at != nil {
		return at[1]
	}
	return ""
}

// get is what the daemon answers at a path.
func (d *daemonProcess) get(path string) (string, error) {
	at := d.address()
	if at == "" {
		return "", errors.New("it does not listen yet")
	}
	req, err := http.NewRequestWithContext(d.h.t.Context(), http.MethodGet, "http://"+at+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func (d *daemonProcess) status() (s server.Snapshot, err error) {
	text, err := d.get("/status")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(text), &s)
}

// await looks at the status until ok, and returns it.
func (d *daemonProcess) await(what string, ok func(server.Snapshot) bool) server.Snapshot {
	d.h.t.Helper()
	var last server.Snapshot
	var err error
	poll(d.h.t, what, func() bool {
		select {
		case <-d.done:
			d.h.t.Fatalf("%s: the daemon has ended: %v", what, d.err)
		default:
		}
		last, err = d.status()
		return err == nil && ok(last)
	}, func() string {
		b, _ := json.MarshalIndent(last.Environments, "", " ")
		return fmt.Sprintf("%v, last status\n%s", err, b)
	})
	return last
}

// poll asks again and again: what it asks for happens in another process.
func poll(t *testing.T, what string, ok func() bool, last func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within %s: %s", what, patience, last())
		}
	}
}

// ready tells whether everything is as a generation of forge.cue wants it.
func ready(generation int) func(server.Snapshot) bool {
	return func(s server.Snapshot) bool {
		return s.Generation == generation && s.State == reconcile.StateReady
	}
}

// environment is the part of a status about one environment.
func environment(s server.Snapshot, name string) reconcile.EnvironmentStatus {
	for _, e := range s.Environments {
		if e.Name == name {
			return e
		}
	}
	return reconcile.EnvironmentStatus{}
}

// resource is the part of a status about one resource, nil when there is none.
func resource(s server.Snapshot, id string) *reconcile.ResourceStatus {
	for _, e := range s.Environments {
		for _, r := range e.Resources {
			if r.ID.String() == id {
				return r
			}
		}
	}
	return nil
}

// state is that of one resource, "" when there is none.
func state(s server.Snapshot, id string) reconcile.State {
	if r := resource(s, id); r != nil {
		return r.State
	}
	return ""
}

// mutations are the changing requests that have reached the server.
func (h *home) mutations() []faultproxy.Request {
	return slices.DeleteFunc(h.proxy.Requests(), func(r faultproxy.Request) bool { return !r.Mutates() })
}

// command runs forged to its end and returns what it says.
func (h *home) command(args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "forged", args...)
	var out, errs bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = h.dir, h.env(), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}
