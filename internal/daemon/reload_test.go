package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// oneWord is a language whose only valid files hold one word; the word
// "secret" asks for the secret file token.
func oneWord(path string, active *[]string) func() Reading {
	return orUnjudged(path, active, new(atomic.Bool))
}

// orUnjudged is oneWord, and cannot judge the word "unjudged" until it is told
// that it can.
func orUnjudged(path string, active *[]string, wayOut *atomic.Bool) func() Reading {
	dir := filepath.Dir(path)
	return single(path, func(data []byte) (*Config, error) {
		if words := strings.Fields(string(data)); len(words) != 1 {
			return nil, &InvalidError{[]Problem{
				{File: path, Line: 1, Column: 3, Path: "a.b", Message: "too many words", Hint: "use one"},
				{File: path, Line: 2, Message: "and another thing"},
			}}
		}
		if string(data) == "unjudged" && !wayOut.Load() {
			return nil, &UnjudgedError{errors.New("the machine is on fire")}
		}
		local := map[string][]string{filepath.Join(dir, "chart"): {"prod"}}
		if _, err := os.Stat(filepath.Join(dir, "chart", "good")); err != nil && string(data) == "strict-chart" {
			return &Config{Local: local}, &InvalidError{[]Problem{{File: path, Message: "the chart is no good"}}}
		}
		c := &Config{Activate: func(int, string) error {
			if string(data) == "refused" {
				return errors.New("the engine refuses it")
			}
			*active = append(*active, string(data))
			return nil
		}}
		if string(data) == "secret" {
			c.Secrets = map[string][]string{filepath.Join(dir, "token"): {"prod", "test"}}
		}
		if strings.HasSuffix(string(data), "chart") {
			c.Local = local
		}
		if string(data) == "dubious" {
			c.Warnings = []Problem{{File: path, Line: 1, Path: "a.b", Rule: "F900", Message: "this is dubious", Hint: "do not"}}
		}
		return c, nil
	})
}

type reloaderTest struct {
	*Reloader
	path, token string
	active      []string
	rechecked   []string
	asked       int
	wayOut      atomic.Bool
	logs        recorder
}

func (r *reloaderTest) write(t *testing.T, content string) {
	must(t, os.WriteFile(r.path, []byte(content), 0o600))
	time.Sleep(time.Minute) // synthetic: the poll finds it
	synctest.Wait()
}

func reloading(t *testing.T, content string, test func(t *testing.T, r *reloaderTest)) {
	dir := realDir(t)
	synctest.Test(t, func(t *testing.T) {
		r := &reloaderTest{path: filepath.Join(dir, "forge.cue"), token: filepath.Join(dir, "token"), logs: make(recorder, 100)}
		must(t, os.WriteFile(r.path, []byte(content), 0o600))
		must(t, os.WriteFile(r.token, []byte("hunter2"), 0o600))
		r.Reloader = NewReloader(ReloadOptions{
			Path: r.path, Read: orUnjudged(r.path, &r.active, &r.wayOut), Logger: slog.New(r.logs),
			Watch:   WatchOptions{subscribe: func() (subscription, error) { return newFakeSubscription(), nil }},
			Recheck: func(env string) { r.rechecked = append(r.rechecked, env) },
			Asked:   func() { r.asked++ },
		})
		ctx, cancel := context.WithCancel(t.Context())
		must(t, r.Start(ctx))
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		test(t, r)
		cancel()
		must(t, <-done)
		if err := r.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "stopping") {
			t.Errorf("reload after the end: %v", err)
		}
	})
}

func TestReloadKeepsLastGood(t *testing.T) {
	reloading(t, "one", func(t *testing.T, r *reloaderTest) {
		first := r.State()
		if !first.OK || first.Generation != 1 || first.Active.Hash != hash([]byte("one")) || first.Received.Hash != first.Active.Hash {
			t.Errorf("after the start: %+v", first)
		}

		r.write(t, "one two")
		bad := r.State()
		if bad.OK || bad.Generation != 1 || bad.Failures != 1 || bad.Active != first.Active || bad.Received.Hash != hash([]byte("one two")) {
			t.Errorf("after an invalid save: %+v", bad)
		}
		if len(bad.Problems) != 2 || bad.Problems[0].Position() != r.path+":1:3" {
			t.Errorf("problems %+v", bad.Problems)
		}
		var logged []string
		for len(r.logs) > 0 {
			logged = append(logged, <-r.logs)
		}
		all := strings.Join(logged, "\n")
		for _, want := range []string{r.path + ":1:3", r.path + ":2", "too many words", "use one", "last good configuration stays in force"} {
			if !strings.Contains(all, want) {
				t.Errorf("not logged: %s\n%s", want, all)
			}
		}

		time.Sleep(time.Hour)
		synctest.Wait()
		if got := r.State().Failures; got != 1 {
			t.Errorf("bytes that failed once were tried %d times", got)
		}

		r.write(t, "three")
		good := r.State()
		if !good.OK || good.Error != "" || good.Problems != nil || good.Generation != 2 || good.Active.Hash != hash([]byte("three")) {
			t.Errorf("after a valid save: %+v", good)
		}
		if d := cmp.Diff([]string{"one", "three"}, r.active); d != "" {
			t.Error(d)
		}
	})
}

func TestReloadRefusedByTheEngine(t *testing.T) {
	reloading(t, "one", func(t *testing.T, r *reloaderTest) {
		r.write(t, "refused")
		s := r.State()
		if s.OK || s.Generation != 1 || s.Active.Hash != hash([]byte("one")) || !strings.Contains(s.Error, "the engine refuses it") {
			t.Errorf("%+v", s)
		}
	})
}

func TestReloadBackToWhatIsInForce(t *testing.T) {
	reloading(t, "one", func(t *testing.T, r *reloaderTest) {
		r.write(t, "one two")
		r.write(t, "one")
		if s := r.State(); !s.OK || s.Error != "" || s.Active.Hash != hash([]byte("one")) {
			t.Errorf("%+v", s)
		}
		must(t, os.Remove(r.path))
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := r.State(); s.OK || !strings.Contains(s.Error, "no such file") || s.Active.Hash != hash([]byte("one")) {
			t.Errorf("%+v", s)
		}
		r.write(t, "one")
		if s := r.State(); !s.OK || s.Error != "" {
			t.Errorf("%+v", s)
		}
	})
}

func TestReloadOnRequest(t *testing.T) {
	reloading(t, "one", func(t *testing.T, r *reloaderTest) {
		must(t, r.Reload(t.Context()))
		if r.asked != 1 {
			t.Errorf("asked %d times", r.asked)
		}
		must(t, os.WriteFile(r.path, []byte("bad bad"), 0o600))
		err := r.Reload(t.Context())
		if invalid := (*InvalidError)(nil); !errors.As(err, &invalid) || len(invalid.Problems) != 2 {
			t.Errorf("error %v", err)
		}
		// The watcher need not tell of the same bytes again.
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := r.State().Failures; got != 1 {
			t.Errorf("%d failures", got)
		}
		must(t, os.WriteFile(r.path, []byte("good"), 0o600))
		r.Request()
		r.Request()
		synctest.Wait()
		if s := r.State(); !s.OK || s.Active.Hash != hash([]byte("good")) {
			t.Errorf("%+v", s)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.Reload(ctx); !errors.Is(err, context.Canceled) && err != nil {
			t.Errorf("cancelled: %v", err)
		}
	})
}

func TestReloadSecretFiles(t *testing.T) {
	reloading(t, "one", func(t *testing.T, r *reloaderTest) {
		change := func(content string) {
			must(t, os.WriteFile(r.token, []byte(content), 0o600))
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		change("hunter3")
		if r.rechecked != nil {
			t.Errorf("rechecked %v for a file nobody uses", r.rechecked)
		}
		r.write(t, "secret")
		change("hunter4")
		if d := cmp.Diff([]string{"prod", "test"}, r.rechecked); d != "" {
			t.Error(d)
		}
		// An invalid configuration does not stop the watch of what is in force.
		r.write(t, "no good")
		change("hunter5")
		if len(r.rechecked) != 4 {
			t.Errorf("rechecked %v", r.rechecked)
		}
		r.write(t, "plain")
		change("hunter6")
		if len(r.rechecked) != 4 {
			t.Errorf("rechecked %v", r.rechecked)
		}
		for len(r.logs) > 0 {
			if l := <-r.logs; strings.Contains(l, "hunter") || strings.Contains(l, hash([]byte("hunter4"))) {
				t.Errorf("a secret was logged: %s", l)
			}
		}
	})
}

func TestStartInvalid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forge.cue")
	must(t, os.WriteFile(path, []byte("a b"), 0o600))
	r := NewReloader(ReloadOptions{Path: path, Read: oneWord(path, new([]string))})
	err := r.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), path+":1:3: a.b: too many words (use one)") ||
		!strings.Contains(err.Error(), path+":2: and another thing") {
		t.Errorf("error %v", err)
	}
}

func TestReloadWarnings(t *testing.T) {
	reloading(t, "dubious", func(t *testing.T, r *reloaderTest) {
		time.Sleep(time.Hour)
		synctest.Wait()
		said := 0
		for len(r.logs) > 0 {
			if l := <-r.logs; strings.Contains(l, "this is dubious") {
				said++
				if !strings.Contains(l, "rule=F900") || !strings.Contains(l, r.path+":1") {
					t.Error(l)
				}
			}
		}
		if said != 1 {
			t.Errorf("warned %d times", said)
		}
		if s := r.State(); !s.OK || len(s.Warnings) != 1 || s.Warnings[0].String() != r.path+":1: a.b: this is dubious (do not) [F900]" {
			t.Errorf("%+v", s)
		}
		r.write(t, "no good")
		if s := r.State(); s.OK || len(s.Warnings) != 1 {
			t.Errorf("the warnings are about what is in force: %+v", s)
		}
		r.write(t, "plain")
		if s := r.State(); !s.OK || len(s.Warnings) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestReloadUnjudgedMeanwhile: whatever else happens, and however often, it is
// tried again when it is time.
func TestReloadUnjudgedMeanwhile(t *testing.T) {
	reloading(t, "secret", func(t *testing.T, r *reloaderTest) {
		r.write(t, "unjudged")
		r.wayOut.Store(true)
		for i := range 300 {
			must(t, os.WriteFile(r.token, []byte{byte('a' + i%26)}, 0o600))
			time.Sleep(minRetry / 2)
			select { // as the watcher does
			case r.watcher.changes <- Change{Path: r.token}:
			case <-time.After(time.Second):
			}
			for len(r.logs) > 0 {
				<-r.logs
			}
		}
		synctest.Wait()
		if s := r.State(); !s.OK || s.Generation != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// TestReloadHangs: a system that does not answer keeps nobody from reloading
// or from stopping, and one that answers again is taken at its word.
func TestReloadHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hangs atomic.Pointer[chan struct{}]
		var reads atomic.Int32
		first, second := make(chan struct{}), make(chan struct{})
		defer close(second)
		ok := Reading{Hash: "1", Build: func(context.Context) (*Config, error) {
			return &Config{Activate: func(int, string) error { return nil }}, nil
		}}
		r := NewReloader(ReloadOptions{
			Path: "/nfs/forge.cue",
			Read: func() Reading {
				if release := hangs.Load(); release != nil {
					reads.Add(1)
					<-*release
				}
				return ok
			},
			Watch: WatchOptions{subscribe: func() (subscription, error) { return newFakeSubscription(), nil }},
		})
		ctx, cancel := context.WithCancel(t.Context())
		must(t, r.Start(ctx))
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()

		hangs.Store(&first)
		began := time.Now()
		err := r.Reload(t.Context())
		if err == nil || err.Error() != "read /nfs/forge.cue: the system does not answer; look at the disk or the network that it is on" || time.Since(began) != maxRead {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if s := r.State(); s.OK || s.Generation != 1 || s.Error != err.Error() {
			t.Errorf("%+v", s)
		}
		if n := reads.Load(); n != 2 { // the watcher's, and that of the reload
			t.Errorf("%d reads are under way", n)
		}
		began = time.Now()
		if again := r.Reload(t.Context()); again == nil || again.Error() != err.Error() || time.Since(began) != 0 {
			t.Errorf("after %s: %v", time.Since(began), again)
		}

		hangs.Store(nil)
		close(first)
		time.Sleep(time.Hour)
		synctest.Wait()
		if s := r.State(); !s.OK || s.Error != "" {
			t.Errorf("%+v", s)
		}

		hangs.Store(&second)
		failures := r.State().Failures
		go func() { _ = r.Reload(ctx) }()
		time.Sleep(time.Second)
		began = time.Now()
		cancel()
		must(t, <-done)
		if took := time.Since(began); took > leave {
			t.Errorf("it stopped after %s", took)
		}
		if s := r.State(); !s.OK || s.Failures != failures {
			t.Errorf("a stop is no failure: %+v", s)
		}
	})
}

// TestReloadUnjudged: what could not be judged is tried again, less and less
// often, until it can.
func TestReloadUnjudged(t *testing.T) {
	reloading(t, "one", func(t *testing.T, r *reloaderTest) {
		began := time.Now()
		r.write(t, "unjudged")
		time.Sleep(time.Hour)
		synctest.Wait()
		if s := r.State(); s.OK || s.Active.Hash != hash([]byte("one")) || s.Failures < 10 || s.Failures > 25 {
			t.Errorf("after %s: %+v", time.Since(began), s)
		}
		r.wayOut.Store(true)
		time.Sleep(maxRetry)
		synctest.Wait()
		s := r.State()
		if !s.OK || s.Generation != 2 {
			t.Errorf("%+v", s)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if again := r.State(); again.Generation != 2 || again.Failures != s.Failures {
			t.Errorf("it goes on: %+v", again)
		}
	})
}
