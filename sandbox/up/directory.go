package up

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"forged.dev/forged/sandbox/cluster"
)

// Names inside the sandbox's directory.
const (
	lockFile  = "lock"   // held for as long as the sandbox runs
	keepFile  = "keep"   // the data are to be used by the next run
	readyFile = "ready"  // everything answers
	caFile    = "ca.crt" // by which Fly's public names are known
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
	return errors.Join(os.MkdirAll(d.path("logs"), 0o700), os.MkdirAll(d.path(dataDir), 0o700))
}

// publish tells how to reach the clusters, and then that they are ready.
func (d *directory) publish(clusters []*cluster.Cluster, more []string, files map[string][]byte) error {
	config := clientcmdapi.NewConfig()
	if len(clusters) > 0 {
		config.CurrentContext = clusterName(0)
	}
	for i, c := range clusters {
		c.Access().AddTo(config, clusterName(i))
	}
	data, err := clientcmd.Write(*config)
	if err != nil {
		return err
	}
	env := fmt.Sprintf("export KUBECONFIG=%s\n", shellQuote(d.path("kubeconfig"))) + strings.Join(more, "\n") + "\n"
	for name, content := range files {
		if err := d.write(name, content); err != nil {
			return err
		}
	}
	return errors.Join(
		d.write("kubeconfig", data),
		d.write("env", []byte(env)),
		d.ready(),
	)
}

// ready says that everything answers, and who is to be asked.
func (d *directory) ready() error {
	return d.write(readyFile, []byte(strconv.Itoa(os.Getpid())+"\n"))
}

// unready takes that back for a while.
func (d *directory) unready() error { return os.Remove(d.path(readyFile)) }

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
	for _, name := range []string{readyFile, "env", "kubeconfig", caFile} {
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
