package charts_test

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// asRoot has containers started by who runs the tests, as a platform does that
// reads no security context, with a volume that belongs to root. When that is
// not root itself, they start as they do elsewhere.
func (m *machine) asRoot(volume string) {
	m.t.Helper()
	m.user = nil
	for dir, mode := range map[string]os.FileMode{m.dir: 0o755, m.volume("tmp"): 0o777 | os.ModeSticky, m.volume(volume): 0o755} {
		if err := os.Chmod(dir, mode); err != nil {
			m.t.Fatal(err)
		}
		if err := os.Chown(dir, os.Getuid(), os.Getgid()); err != nil {
			m.t.Fatal(err)
		}
	}
}

// runsAs fails when a process is not that of an account, as far as it could
// become that.
func (s *server) runsAs(name string) {
	s.t.Helper()
	want := os.Getuid()
	if want == 0 {
		account, err := user.Lookup(name)
		if err != nil {
			s.t.Fatal(err)
		}
		want, _ = strconv.Atoi(account.Uid)
	}
	info, err := os.Stat(filepath.Join("/proc", strconv.Itoa(s.cmd.Process.Pid)))
	if err != nil {
		s.t.Fatal(err)
	}
	if got := int(info.Sys().(*syscall.Stat_t).Uid); got != want {
		s.t.Errorf("it runs as %d, want %d, which is %s", got, want, name)
	}
}

func deployed(t *testing.T, chart, release string, values map[string]any) corev1.PodSpec {
	t.Helper()
	for _, object := range decode(t, mustRender(t, chart, release, "shop", values)) {
		if o, ok := object.(*appsv1.Deployment); ok {
			return o.Spec.Template.Spec
		}
	}
	t.Fatal("there is no Deployment")
	return corev1.PodSpec{}
}

// TestPostgresAsRoot: where nobody says who runs the server, it becomes the
// account of the image, also after its first start and with a key that only
// root reads.
func TestPostgresAsRoot(t *testing.T) {
	d := newDatabase(t, true)
	d.values["workload"] = "Deployment"
	d.values["storage"] = map[string]any{"claim": "data-localhost-0"}
	pod := deployed(t, "postgres", "localhost", d.values)
	d.asRoot("data")
	for range 2 {
		d.server = d.start(pod)
		d.server.ready()
		d.server.runsAs("postgres")
		d.must(nil, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", "t")
		d.server.stop()
	}
}

// TestRedisAsRoot: the same, of Redis.
func TestRedisAsRoot(t *testing.T) {
	c := newCache(t, nil, "pw")
	c.asRoot("data")
	for _, want := range []string{"", "7"} {
		s := c.start(c.pod)
		s.ready()
		s.runsAs("redis")
		if got := c.cli("pw", "get", "kept"); got != want {
			t.Errorf("it holds %q, want %q", got, want)
		}
		if got := c.cli("pw", "set", "kept", "7"); got != "OK" {
			t.Error(got)
		}
		s.stop()
	}
}
