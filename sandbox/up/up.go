// Package up runs a sandbox: it owns the directory, starts the clusters in it,
// tells the world how to reach them, and takes all of it down again.
package up

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/klog/v2"

	"forged.dev/forged/sandbox/cluster"
)

// MaxClusters is what a large machine can hold with half a gigabyte for each.
const MaxClusters = 9

// Options say what to run.
type Options struct {
	Dir      string // the sandbox's directory; made if missing
	Clusters int
	Nodes    int  // per cluster
	Keep     bool // leave the data for the next time
	Quiet    bool // report errors only

	Command []string  // program and first arguments that run a component
	Out     io.Writer // where progress goes
}

// Run starts a sandbox and keeps it up until ctx ends, which is no error, or
// until a part of it fails, which is one.
func Run(ctx context.Context, opts Options) (err error) {
	switch {
	case opts.Dir == "":
		return errors.New("no directory given: say --dir")
	case opts.Clusters < 1 || opts.Clusters > MaxClusters:
		return fmt.Errorf("%d clusters: a sandbox has 1 to %d", opts.Clusters, MaxClusters)
	case opts.Nodes < 1 || opts.Nodes > cluster.MaxNodes:
		return fmt.Errorf("%d nodes: a cluster has 1 to %d", opts.Nodes, cluster.MaxNodes)
	}
	if opts.Quiet {
		opts.Out = io.Discard
	}
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

	clusters, err := startAll(ctx, dir, opts)
	if err != nil {
		if ctx.Err() != nil {
			return nil // asked to stop before it was up
		}
		return err
	}
	defer stopAll(clusters)
	if err := dir.publish(clusters); err != nil {
		return err
	}
	fmt.Fprintf(opts.Out, "ready in %s: export KUBECONFIG=%s\n", seconds(time.Since(began)), dir.path("kubeconfig"))

	failure := await(ctx, clusters)
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
	var mu sync.Mutex // one line at a time
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
				Nodes:   opts.Nodes,
				Report: func(part string, took time.Duration) {
					mu.Lock()
					defer mu.Unlock()
					fmt.Fprintf(opts.Out, "%s  %-24s %6s\n", name, part, seconds(took))
				},
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

func stopAll(clusters []*cluster.Cluster) {
	var group sync.WaitGroup
	for _, c := range clusters {
		if c != nil {
			group.Go(c.Stop)
		}
	}
	group.Wait()
}

// await returns nil when ctx ends, or the failure of the first cluster to fail.
func await(ctx context.Context, clusters []*cluster.Cluster) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for _, c := range clusters {
		// Both ends of the wait are ends of this goroutine.
		go func() {
			select {
			case <-c.Done():
				cancel(&failure{c.Err()})
			case <-ctx.Done():
			}
		}()
	}
	<-ctx.Done()
	var failed *failure
	if errors.As(context.Cause(ctx), &failed) {
		return failed.error
	}
	return nil
}

// failure tells the end of a cluster from the end of the caller's context.
type failure struct{ error }

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

// Names inside the sandbox's directory.
const (
	lockFile  = "lock"  // held for as long as the sandbox runs
	keepFile  = "keep"  // the data are to be used by the next run
	readyFile = "ready" // everything answers
	dataDir   = "clusters"
)

// directory is a sandbox's directory, locked for this process.
type directory struct {
	root string
	lock *os.File
}

// openDir makes the directory if need be and locks it.
func openDir(path string) (*directory, error) {
	root, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	d := &directory{root: root}
	// The data directory is removed at the end. One that no sandbox made, in a
	// directory that no sandbox has locked before, is somebody else's.
	_, dataErr := os.Stat(d.path(dataDir))
	_, lockErr := os.Stat(d.path(lockFile))
	if dataErr == nil && errors.Is(lockErr, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s holds a %q that is not a sandbox's: choose another directory", root, dataDir)
	}
	if d.lock, err = lock(d.path(lockFile)); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *directory) path(names ...string) string {
	return filepath.Join(append([]string{d.root}, names...)...)
}

// prepare removes what an earlier run left, except data that were to be kept.
func (d *directory) prepare(keep bool) error {
	if err := d.retract(); err != nil {
		return err
	}
	if _, err := os.Stat(d.path(keepFile)); errors.Is(err, fs.ErrNotExist) {
		if err := os.RemoveAll(d.path(dataDir)); err != nil {
			return err
		}
	}
	if keep {
		// Now, not at the end, so that a crash keeps the data too.
		if err := os.WriteFile(d.path(keepFile), nil, 0o600); err != nil {
			return err
		}
	}
	return os.MkdirAll(d.path("logs"), 0o700)
}

// publish tells how to reach the clusters, and then that they are ready.
func (d *directory) publish(clusters []*cluster.Cluster) error {
	config := clientcmdapi.NewConfig()
	config.CurrentContext = clusterName(0)
	for i, c := range clusters {
		c.Access().AddTo(config, clusterName(i))
	}
	data, err := clientcmd.Write(*config)
	if err != nil {
		return err
	}
	env := fmt.Sprintf("export KUBECONFIG=%s\n", shellQuote(d.path("kubeconfig")))
	return errors.Join(
		d.write("kubeconfig", data),
		d.write("env", []byte(env)),
		d.write(readyFile, []byte(strconv.Itoa(os.Getpid())+"\n")),
	)
}

// write puts a file in its place whole, so that a reader never sees a part of it.
func (d *directory) write(name string, data []byte) error {
	part := d.path("." + name)
	if err := os.WriteFile(part, data, 0o600); err != nil {
		return err
	}
	return os.Rename(part, d.path(name))
}

// retract takes back what publish said.
func (d *directory) retract() error {
	var errs []error
	for _, name := range []string{readyFile, "env", "kubeconfig"} {
		if err := os.Remove(d.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// close discards the data, unless they are kept, and unlocks the directory. The
// logs stay.
func (d *directory) close(keep bool) error {
	var errs []error
	errs = append(errs, d.retract())
	if !keep {
		errs = append(errs, os.RemoveAll(d.path(dataDir)))
		if err := os.Remove(d.path(keepFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, d.lock.Close())...)
}

// shellQuote makes text one word of a POSIX shell.
func shellQuote(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
