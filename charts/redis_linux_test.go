package charts_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

func eventually(t *testing.T, happened func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 2*time.Millisecond, processTimeout, true, func(context.Context) (bool, error) { return happened(), nil })
	if err != nil {
		t.Fatal("it never happened")
	}
}

// cache is a redis release on this machine.
type cache struct {
	*machine
	port string
	pod  corev1.PodSpec
}

func newCache(t *testing.T, values map[string]any, password string) *cache {
	t.Helper()
	c := &cache{machine: newMachine(t, "redis-server", secretValues{"app-redis": {"password": password}}), port: freePort(t)}
	c.texts = []string{"port 6379", "port " + c.port, "redis-cli ", "redis-cli -p " + c.port + " "}
	for _, object := range decode(t, mustRender(t, "redis", "shop-redis", "shop", values)) {
		if set, ok := object.(*appsv1.StatefulSet); ok {
			c.pod = set.Spec.Template.Spec
		}
	}
	// A probe that is no script has its words one by one.
	probe := c.pod.Containers[0].LivenessProbe.Exec
	probe.Command = append([]string{probe.Command[0], "-p", c.port}, probe.Command[1:]...)
	return c
}

// cli is what redis-cli answers; its password is no argument.
func (c *cache) cli(password string, words ...string) string {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), "redis-cli", append([]string{"-p", c.port, "--no-auth-warning"}, words...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	if password != "" {
		cmd.Env = append(cmd.Env, "REDISCLI_AUTH="+password)
	}
	out, _ := cmd.CombinedOutput()
	return strings.TrimSpace(string(out))
}

// TestRedis: nobody gets in without the password, whatever its characters, and
// the probes tell a server that lets them in from one that only answers.
func TestRedis(t *testing.T) {
	const awkward = awkwardText
	c := newCache(t, map[string]any{"maxMemory": "64mb", "eviction": "volatile-lru"}, awkward)
	s := c.start(c.pod)
	s.ready()
	if got := c.cli(awkward, "ping"); got != "PONG" {
		t.Errorf("with the password: %s", got)
	}
	if got := c.cli("", "ping"); !strings.HasPrefix(got, "NOAUTH") {
		t.Errorf("without a password: %s", got)
	}
	if got := c.cli("wrong", "ping"); !strings.Contains(got, "WRONGPASS") {
		t.Errorf("with a wrong password: %s", got)
	}
	for setting, want := range map[string]string{"maxmemory": "67108864", "maxmemory-policy": "volatile-lru", "appendonly": "yes"} {
		if got := c.cli(awkward, "config", "get", setting); got != setting+"\n"+want {
			t.Errorf("%s is %q", setting, got)
		}
	}
	arguments, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	// The shell that starts it has given way to the server by now.
	if strings.Contains(string(arguments), `p\`) || !strings.HasPrefix(string(arguments), "redis-server") {
		t.Errorf("arguments that ps shows: %q", arguments)
	}

	// The server answers NOAUTH or WRONGPASS, and redis-cli exits 0: only what
	// it says tells that clients would not get in.
	c.secrets["app-redis"]["password"] = "not yet known to it"
	if out, err := s.probe(c.pod.Containers[0].ReadinessProbe); err == nil {
		t.Errorf("ready with a password that does not work: %s", out)
	}
	if out, err := s.probe(c.pod.Containers[0].LivenessProbe); err != nil {
		t.Errorf("a password is no reason to restart: %v %s", err, out)
	}

	// A new password and a restart: the data stays, the old one is worth nothing.
	c.secrets["app-redis"]["password"] = awkward
	if got := c.cli(awkward, "set", "kept", "7"); got != "OK" {
		t.Error(got)
	}
	s.stop()
	c.secrets["app-redis"]["password"] = "new"
	again := c.start(c.pod)
	again.ready()
	if got := c.cli("new", "get", "kept"); got != "7" {
		t.Errorf("after a restart: %s", got)
	}
	if got := c.cli(awkward, "ping"); !strings.Contains(got, "WRONGPASS") {
		t.Errorf("with the old password: %s", got)
	}
}

// TestRedisWithoutPersistence keeps nothing, and writes nothing.
func TestRedisWithoutPersistence(t *testing.T) {
	c := newCache(t, map[string]any{"persistence": false}, "pw")
	s := c.start(c.pod)
	s.ready()
	if got := c.cli("pw", "set", "gone", "7"); got != "OK" {
		t.Error(got)
	}
	s.stop()
	files, err := os.ReadDir(c.volume("data"))
	if err != nil || len(files) > 0 {
		t.Errorf("%v, %v", files, err)
	}
}
