// Package up runs a sandbox: it owns the directory, starts the clusters in it,
// tells the world how to reach them, and takes all of it down again.
package up

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"forged.dev/forged/sandbox/cluster"
	"forged.dev/forged/sandbox/fks"
)

// MaxClusters is what a large machine can hold with half a gigabyte for each.
const MaxClusters = 9

// MaxFlySpeed is as fast as Fly may work: a minute becomes a few milliseconds.
const MaxFlySpeed = 10_000

// Options say what to run.
type Options struct {
	Dir      string // the sandbox's directory; made if missing
	Clusters int
	Nodes    int     // per cluster
	Keep     bool    // leave the data for the next time
	FlySpeed float64 // how much faster the emulator of Fly works than Fly; 0: 1
	Quiet    bool    // report errors only

	FKS          int    // clusters of Fly Kubernetes that there may be; they start when an add-on asks
	FKSWay       string // into them: one of those of package fks; empty: fks.WayProxy
	FKSAdmission string // what becomes of what Fly does not support; empty: fks.AdmissionIgnore

	Restart <-chan os.Signal // kills the API servers and starts them again; may be nil

	Command []string  // program and first arguments that run a component
	Out     io.Writer // where progress goes
}

// Run starts a sandbox and keeps it up until ctx ends, which is no error, or
// until a part of it fails, which is one.
func Run(ctx context.Context, opts Options) (err error) {
	switch {
	case opts.Dir == "":
		return errors.New("no directory given: say --dir")
	case opts.Clusters < 0 || opts.Clusters > MaxClusters:
		return fmt.Errorf("%d clusters: a sandbox has at most %d", opts.Clusters, MaxClusters)
	case opts.FlySpeed < 0 || opts.FlySpeed > MaxFlySpeed:
		return fmt.Errorf("--fly-speed %g: want a number up to %d", opts.FlySpeed, MaxFlySpeed)
	case opts.Nodes < 1 || opts.Nodes > cluster.MaxNodes:
		return fmt.Errorf("%d nodes: a cluster has 1 to %d", opts.Nodes, cluster.MaxNodes)
	case opts.FKS < 0 || opts.FKS > fks.MaxClusters:
		return fmt.Errorf("%d clusters of Fly Kubernetes: a sandbox has at most %d", opts.FKS, fks.MaxClusters)
	case opts.FKSWay != "" && opts.FKSWay != fks.WayProxy && opts.FKSWay != fks.WayDirect:
		return fmt.Errorf("--fks-way %s: want %s or %s", opts.FKSWay, fks.WayProxy, fks.WayDirect)
	case opts.FKSAdmission != "" && !fks.ValidAdmission(opts.FKSAdmission):
		return fmt.Errorf("--fks-admission %s: want %s or %s", opts.FKSAdmission, fks.AdmissionIgnore, fks.AdmissionReject)
	}
	if opts.Quiet {
		opts.Out = io.Discard
	}
	opts.Out = &lines{out: opts.Out}
	began := time.Now()
	dir, err := openDir(opts.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.close(opts.Keep)) }()
	if err := dir.prepare(opts.Keep); err != nil {
		return err
	}
	restore, err := redirectLogs(dir.path("logs", "sandbox.log"))
	if err != nil {
		return err
	}
	defer restore()

	// Cheap, and first, so that it goes last: clusters may ask it.
	platform, err := startFly(ctx, dir, opts)
	if err != nil {
		return fmt.Errorf("emulator of Fly: %w", err)
	}
	defer func() { err = errors.Join(err, platform.stop()) }()
	clusters, err := startAll(ctx, dir, opts)
	if err == nil {
		if err = platform.open(ctx); err != nil {
			stopAll(clusters)
		}
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil // asked to stop before it was up
		}
		return err
	}
	defer stopAll(clusters)
	if err := dir.publish(clusters, platform.env(), platform.files()); err != nil {
		return err
	}
	fmt.Fprintf(opts.Out, "ready in %s: export KUBECONFIG=%s\n", seconds(time.Since(began)), dir.path("kubeconfig"))
	for _, line := range platform.env() {
		fmt.Fprintln(opts.Out, "  "+line)
	}

	parts := []part{platform.clusters}
	for _, c := range clusters {
		parts = append(parts, c)
	}
	failure := await(ctx, parts, opts.Restart, func(ctx context.Context) error {
		if err := dir.unready(); err != nil {
			return err
		}
		if err := errors.Join(restartAll(ctx, clusters), platform.clusters.RestartServers(ctx)); err != nil {
			return err
		}
		return dir.ready()
	})
	// First of all, so that nobody takes a sandbox that is going for one to use.
	if err := dir.retract(); err != nil && failure == nil {
		failure = err
	}
	if failure == nil {
		fmt.Fprintln(opts.Out, "stopping")
	}
	return failure
}

// startAll starts the clusters side by side. If one cannot start, none stays.
func startAll(ctx context.Context, dir *directory, opts Options) ([]*cluster.Cluster, error) {
	clusters := make([]*cluster.Cluster, opts.Clusters)
	group, ctx := errgroup.WithContext(ctx)
	for i := range clusters {
		name := clusterName(i)
		group.Go(func() (err error) {
			clusters[i], err = cluster.Start(ctx, cluster.Config{
				Name:    name,
				DataDir: dir.path(dataDir, name),
				LogDir:  dir.path("logs", name),
				Command: opts.Command,
				Kind:    cluster.Plain(opts.Nodes),
				Report:  func(part string, took time.Duration) { opts.report(name, part, took) },
			})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		stopAll(clusters)
		return nil, err
	}
	return clusters, nil
}

func restartAll(ctx context.Context, clusters []*cluster.Cluster) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, c := range clusters {
		group.Go(func() error { return c.RestartServer(ctx) })
	}
	return group.Wait()
}

func stopAll(clusters []*cluster.Cluster) {
	var group sync.WaitGroup
	for _, c := range clusters {
		if c != nil {
			group.Go(c.Stop)
		}
	}
	group.Wait()
}

// part is a part of the sandbox that may fail.
type part interface {
	Done() <-chan struct{}
	Err() error
}

// await returns nil when ctx ends, or the failure of the first part to fail.
// Meanwhile it restarts whenever it is asked to.
func await(ctx context.Context, parts []part, asked <-chan os.Signal, restart func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for _, c := range parts {
		// Both ends of the wait are ends of this goroutine.
		go func() {
			select {
			case <-c.Done():
				cancel(&failure{c.Err()})
			case <-ctx.Done():
			}
		}()
	}
	for ctx.Err() == nil {
		select {
		case <-asked:
			if err := restart(ctx); err != nil {
				cancel(&failure{err})
			}
		case <-ctx.Done():
		}
	}
	var failed *failure
	if errors.As(context.Cause(ctx), &failed) {
		return failed.error
	}
	return nil
}

// failure tells the end of a cluster from the end of the caller's context.
type failure struct{ error }

// report tells that a part of a cluster is ready.
func (o Options) report(cluster, part string, took time.Duration) {
	fmt.Fprintf(o.Out, "%s  %-24s %6s\n", cluster, part, seconds(took))
}

// lines lets several write, one at a time.
type lines struct {
	mu  sync.Mutex
	out io.Writer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

func clusterName(i int) string { return "cluster-" + strconv.Itoa(i+1) }

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

// redirectLogs sends what client-go logs in this process to a file. Its logger
// is a global of its own, so there can be one sandbox per process only.
func redirectLogs(path string) (restore func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	state := klog.CaptureState()
	klog.LogToStderr(false)
	klog.SetOutput(file)
	return func() {
		klog.Flush()
		state.Restore()
		file.Close()
	}, nil
}
