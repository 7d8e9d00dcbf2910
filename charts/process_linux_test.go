package charts_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

// processTimeout is how long a real server may take for anything at all.
const processTimeout = time.Minute

// secretValues are the Secrets that a pod finds, by name and key.
type secretValues map[string]map[string]string

// machine stands in for the node that a pod runs on: each of its volumes is a
// directory, and its user is one of this machine without rights of its own.
type machine struct {
	t       *testing.T
	dir     string
	secrets secretValues
	texts   []string // further pairs of what is written otherwise on this machine
	env     []string
	user    *syscall.Credential // nil: who runs the tests
}

// newMachine fails where the program is missing: a test that is passed over
// proves nothing.
func newMachine(t *testing.T, program string, secrets secretValues) *machine {
	t.Helper()
	m := &machine{t: t, secrets: secrets}
	const childSubreaper = 36 // PR_SET_CHILD_SUBREAPER
	if _, _, errno := syscall.Syscall(syscall.SYS_PRCTL, childSubreaper, 1, 0); errno != 0 {
		t.Fatal(errno)
	}
	path := os.Getenv("PATH")
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin"); len(found) > 0 {
		slices.Sort(found)
		path = found[len(found)-1] + ":" + path
	}
	t.Setenv("PATH", path)
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%s is not installed; run hack/servers.sh, or: apt-get install postgresql redis-server", program)
	}
	if os.Getuid() == 0 { // PostgreSQL does not run as root
		account, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(account.Uid)
		gid, _ := strconv.Atoi(account.Gid)
		m.user = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	// Not t.TempDir: names of sockets are short, and only root may look there.
	dir, err := os.MkdirTemp("", "pod")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	m.dir = dir
	m.own(dir)
	return m
}

func (m *machine) own(path string) {
	m.t.Helper()
	if m.user == nil {
		return
	}
	if err := os.Chown(path, int(m.user.Uid), int(m.user.Gid)); err != nil {
		m.t.Fatal(err)
	}
}

// freePort is a port that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// volume is the directory of a volume, which stays from one pod to the next.
func (m *machine) volume(name string) string {
	m.t.Helper()
	dir := filepath.Join(m.dir, name)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		m.t.Fatal(err)
	}
	m.own(dir)
	return dir
}

// command is one of the container's, as a process of this machine.
func (m *machine) command(ctx context.Context, pod corev1.PodSpec, words []string, env ...string) *exec.Cmd {
	m.t.Helper()
	container := pod.Containers[0]
	m.mountSecrets(pod)
	here := m.here(container)
	m.volume("tmp")
	env = slices.Concat([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + m.dir, "LC_ALL=C.UTF-8", "TMPDIR=" + m.volume("tmp")}, m.env, env)
	for _, v := range container.Env {
		value := here.Replace(v.Value)
		if v.ValueFrom != nil {
			ref := v.ValueFrom.SecretKeyRef
			value = m.secrets[ref.Name][ref.Key]
		}
		env = append(env, v.Name+"="+value)
	}
	var args []string
	for _, word := range words {
		args = append(args, here.Replace(word))
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env, cmd.Dir = env, m.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: m.user}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

// here writes the directories of the container as those of this machine, the
// longest first.
func (m *machine) here(container corev1.Container) *strings.Replacer {
	mounts := slices.Clone(container.VolumeMounts)
	slices.SortFunc(mounts, func(a, b corev1.VolumeMount) int { return len(b.MountPath) - len(a.MountPath) })
	pairs := slices.Clone(m.texts)
	for _, mount := range mounts {
		pairs = append(pairs, mount.MountPath, m.volume(mount.Name))
	}
	return strings.NewReplacer(pairs...)
}

// mountSecrets writes what the pod finds in volumes of Secrets.
func (m *machine) mountSecrets(pod corev1.PodSpec) {
	m.t.Helper()
	for _, volume := range pod.Volumes {
		if volume.Secret == nil {
			continue
		}
		for _, item := range volume.Secret.Items {
			value, ok := m.secrets[volume.Secret.SecretName][item.Key]
			if !ok {
				m.t.Fatalf("no key %s in Secret %s", item.Key, volume.Secret.SecretName)
			}
			file := filepath.Join(m.volume(volume.Name), item.Path)
			_ = os.Remove(file)
			if err := os.WriteFile(file, []byte(value), os.FileMode(*volume.Secret.DefaultMode)); err != nil {
				m.t.Fatal(err)
			}
			m.own(file)
		}
	}
}

// run runs a command of the container to its end and returns what it says.
func (m *machine) run(pod corev1.PodSpec, words []string, env ...string) (string, error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), processTimeout)
	defer cancel()
	out, err := m.command(ctx, pod, words, env...).CombinedOutput()
	return string(out), err
}

// server is a container that runs.
type server struct {
	*machine
	pod corev1.PodSpec
	cmd *exec.Cmd
	out *bytes.Buffer
	end chan struct{} // closed when it has ended
	err error
}

func (m *machine) start(pod corev1.PodSpec) *server {
	m.t.Helper()
	// Not the test's context: its cleanup comes first, and stops in order.
	s := &server{machine: m, pod: pod, out: &bytes.Buffer{}, end: make(chan struct{})}
	s.cmd = m.command(context.Background(), pod, slices.Concat(pod.Containers[0].Command, pod.Containers[0].Args))
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	if err := s.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	go func() {
		defer close(s.end)
		s.err = s.cmd.Wait()
	}()
	m.t.Cleanup(s.kill)
	return s
}

// kill ends it and all that it has started, as a node that loses its power.
func (s *server) kill() {
	s.t.Helper()
	if err := syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		s.t.Error(err)
	}
	<-s.end
	// Nothing of a container outlives it, nor does any of its numbers.
	eventually(s.t, func() bool { return reap(s.cmd.Process.Pid) == 0 })
}

// reap takes leave of the orphans of a group, which newMachine has made ours,
// and returns how many are left.
func reap(group int) int {
	left := 0
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if fields[2] != strconv.Itoa(group) {
			continue
		}
		left++
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil && fields[0] == "Z" && fields[1] == strconv.Itoa(os.Getpid()) {
			_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
		}
	}
	return left
}

// stop ends it as Kubernetes does: its own preStop, then SIGTERM.
func (s *server) stop() {
	s.t.Helper()
	if hook := s.pod.Containers[0].Lifecycle; hook != nil && hook.PreStop.Exec != nil {
		if out, err := s.run(s.pod, hook.PreStop.Exec.Command); err != nil {
			s.t.Errorf("preStop: %v\n%s", err, out)
		}
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	s.wait()
}

// wait returns how it has ended.
func (s *server) wait() error {
	s.t.Helper()
	select {
	case <-s.end:
		return s.err
	case <-time.After(processTimeout):
		s.kill()
		s.t.Fatalf("it did not end:\n%s", s.out)
		return nil
	}
}

// probe asks what Kubernetes asks.
func (s *server) probe(probe *corev1.Probe) (string, error) {
	return s.run(s.pod, probe.Exec.Command)
}

// ready waits until it may be sent clients.
func (s *server) ready() {
	s.t.Helper()
	container := s.pod.Containers[0]
	for _, probe := range []*corev1.Probe{container.StartupProbe, container.ReadinessProbe, container.LivenessProbe} {
		var last string
		err := wait.PollUntilContextTimeout(s.t.Context(), 50*time.Millisecond, processTimeout, true, func(context.Context) (bool, error) {
			out, err := s.probe(probe)
			last = out
			select {
			case <-s.end:
				return false, fmt.Errorf("it has ended: %w", s.err)
			default:
				return err == nil, nil
			}
		})
		if err != nil {
			s.t.Fatalf("not ready: %v\n%s\n%s", err, last, s.out)
		}
	}
}
