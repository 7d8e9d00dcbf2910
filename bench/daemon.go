package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"forged.dev/forged/internal/reconcile"
)

// daemon is a running `forged run`.
type daemon struct {
	cmd     *exec.Cmd
	address string
	log     string
	done    chan struct{} // closed when it has ended
	err     error         // how, once done is closed
}

// start starts a daemon with the forge.cue at path.
func (b *bench) start(ctx context.Context, path string) (*daemon, error) {
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

// ready waits until everything is as it should be, and asks so often.
func (d *daemon) ready(ctx context.Context, limit, every time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(every)
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

// metrics are all series of the daemon, by name and labels as they are written.
func (d *daemon) metrics(ctx context.Context) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	all := map[string]float64{}
	sc := bufio.NewScanner(resp.Body)
	for sc.Scan() {
		line := sc.Text()
		cut := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || cut < 0 {
			continue
		}
		v, err := strconv.ParseFloat(line[cut+1:], 64)
		if err != nil {
			return nil, err
		}
		all[line[:cut]] = v
	}
	return all, sc.Err()
}

// sum adds up the series of one name.
func sum(metrics map[string]float64, name string) (total float64) {
	for series, v := range metrics {
		if family, _, _ := strings.Cut(series, "{"); family == name {
			total += v
		}
	}
	return total
}

// calls are the requests a daemon has sent, by verb.
type calls map[string]float64

func (d *daemon) requests(ctx context.Context) (calls, error) {
	metrics, err := d.metrics(ctx)
	if err != nil {
		return nil, err
	}
	return callsOf(metrics), nil
}

func callsOf(metrics map[string]float64) calls {
	c := calls{}
	for series, v := range metrics {
		if family, labels, _ := strings.Cut(series, "{"); family == "forged_api_requests_total" {
			_, verb, _ := strings.Cut(labels, `verb="`)
			verb, _, _ = strings.Cut(verb, `"`)
			c[verb] += v
		}
	}
	return c
}

func (c calls) since(before calls) calls {
	out := calls{}
	for verb, n := range c {
		if n != before[verb] {
			out[verb] = n - before[verb]
		}
	}
	return out
}

// total is the number of requests, watches apart: one of these is open for as
// long as the daemon lives and begun anew every few minutes.
func (c calls) total() (n float64) {
	for verb, k := range c {
		if verb != "WATCH" {
			n += k
		}
	}
	return n
}

func (c calls) String() string {
	var parts []string
	for _, verb := range slices.Sorted(maps.Keys(c)) {
		parts = append(parts, fmt.Sprintf("%.0f %s", c[verb], verb))
	}
	return strings.Join(parts, ", ")
}

// memory of a process in MB: all that is resident, and how much of it is the
// process's own; the rest are pages of the program's file, which the kernel may
// drop and read again.
type memory struct{ resident, own, file float64 }

func (d *daemon) memory() (m memory, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(b)) {
		name, rest, _ := strings.Cut(line, ":")
		into := map[string]*float64{"VmRSS": &m.resident, "RssAnon": &m.own, "RssFile": &m.file}[name]
		if into == nil {
			continue
		}
		kb, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
		if err != nil {
			return m, err
		}
		*into = kb / 1024
	}
	if m.resident == 0 {
		return m, errors.New("no VmRSS")
	}
	return m, nil
}

// cpu is the processor time the daemon has used, to the nanosecond: the sum of
// that of its threads. Go does not end threads.
func (d *daemon) cpu() (time.Duration, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", d.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	var total time.Duration
	for _, thread := range threads {
		b, err := os.ReadFile(thread)
		if err != nil {
			return 0, err
		}
		text, _, _ := strings.Cut(string(b), " ")
		ns, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0, err
		}
		total += time.Duration(ns)
	}
	return total, nil
}
