package daemon

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func obedient(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func TestRunEnds(t *testing.T) {
	broken := errors.New("broken")
	tests := map[string]struct {
		components []Component
		signals    []os.Signal
		want       string // part of the error; empty: none
		is         error
		within     time.Duration
	}{
		"on SIGTERM":       {components: []Component{{"a", obedient}, {"b", obedient}}, signals: []os.Signal{syscall.SIGTERM}},
		"on SIGINT":        {components: []Component{{"a", obedient}}, signals: []os.Signal{os.Interrupt}},
		"not on SIGHUP":    {components: []Component{{"a", obedient}}, signals: []os.Signal{syscall.SIGHUP, syscall.SIGTERM}},
		"when one fails":   {components: []Component{{"a", obedient}, {"b", func(context.Context) error { return broken }}}, want: "b: broken", is: broken},
		"when one is gone": {components: []Component{{"a", obedient}, {"b", func(context.Context) error { return nil }}}, want: "b ended without being told to"},
		"a failure while stopping": {
			components: []Component{{"a", func(ctx context.Context) error { <-ctx.Done(); return broken }}},
			signals:    []os.Signal{syscall.SIGTERM}, want: "a: broken", is: broken,
		},
		"after the grace period": {
			components: []Component{{"a", obedient}, {"slow", func(ctx context.Context) error { time.Sleep(time.Hour); return nil }}},
			signals:    []os.Signal{syscall.SIGTERM}, want: "slow did not stop within 10s", within: 10 * time.Second,
		},
		"finishing within it": {
			components: []Component{{"slow", func(ctx context.Context) error { <-ctx.Done(); time.Sleep(9 * time.Second); return nil }}},
			signals:    []os.Signal{syscall.SIGTERM}, within: 9 * time.Second,
		},
		"at once on a second signal": {
			components: []Component{{"slow", func(ctx context.Context) error { time.Sleep(time.Hour); return nil }}},
			signals:    []os.Signal{syscall.SIGTERM, syscall.SIGTERM}, is: ErrKilled, want: "second signal",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				signals := make(chan os.Signal)
				began := time.Now()
				go func() {
					for _, s := range tt.signals {
						synctest.Wait()
						signals <- s
					}
				}()
				err := Run(t.Context(), Options{Components: tt.components, Signals: signals, Grace: 10 * time.Second})
				if got := time.Since(began); got != tt.within {
					t.Errorf("took %s, want %s", got, tt.within)
				}
				if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
					t.Errorf("error %v, want %q", err, tt.want)
				}
				if tt.is != nil && !errors.Is(err, tt.is) {
					t.Errorf("error %v is not %v", err, tt.is)
				}
				time.Sleep(2 * time.Hour) // let the slow ones end
			})
		})
	}
}

// manager is the service manager's end of the notification socket.
func manager(t *testing.T, env map[string]string) (Notifier, func() string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify") // short: socket names are bounded
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixgram"})
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	n := NewNotifier(func(k string) string {
		if k == "NOTIFY_SOCKET" {
			return filepath.Join(dir, "s")
		}
		return env[k]
	})
	return n, func() string {
		must(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		b := make([]byte, 4096)
		n, err := conn.Read(b)
		must(t, err)
		return string(b[:n])
	}
}

func TestNotifications(t *testing.T) {
	n, heard := manager(t, map[string]string{"WATCHDOG_USEC": "60000", "WATCHDOG_PID": strconv.Itoa(os.Getpid())})
	path := filepath.Join(t.TempDir(), "forge.cue")
	must(t, os.WriteFile(path, []byte("one"), 0o600))
	var active []string
	r := NewReloader(ReloadOptions{Path: path, Read: oneWord(path, &active), Notifier: n})
	must(t, r.Start(t.Context()))
	signals := make(chan os.Signal, 1)
	done := make(chan error)
	go func() {
		done <- Run(t.Context(), Options{Reloader: r, Notifier: n, Signals: signals})
	}()
	expect := func(want string) {
		t.Helper()
		for {
			got := heard()
			if strings.HasPrefix(got, want) {
				return
			}
			if got != "WATCHDOG=1" {
				t.Fatalf("heard %q, want %q", got, want)
			}
		}
	}
	expect("READY=1\nSTATUS=running")
	expect("WATCHDOG=1")
	must(t, os.WriteFile(path, []byte("bad bad"), 0o600))
	signals <- syscall.SIGHUP
	expect("RELOADING=1")
	expect("READY=1\nSTATUS=running; the newest configuration is invalid")
	signals <- syscall.SIGTERM
	expect("STOPPING=1")
	must(t, <-done)
}

func TestWatchdogNeedsProgress(t *testing.T) {
	n, heard := manager(t, map[string]string{"WATCHDOG_USEC": "30000"})
	if n.Watchdog() != 30*time.Millisecond {
		t.Fatalf("watchdog %s", n.Watchdog())
	}
	signals := make(chan os.Signal, 1)
	asked := 0
	alive := func() error {
		if asked++; asked < 5 {
			return errors.New("the scheduler hangs")
		}
		signals <- syscall.SIGTERM
		return errors.New("the scheduler hangs")
	}
	must(t, Run(t.Context(), Options{Components: []Component{{"a", obedient}}, Notifier: n, Signals: signals, Alive: alive}))
	for _, want := range []string{"READY=1", "STOPPING=1"} {
		if got := heard(); !strings.HasPrefix(got, want) {
			t.Errorf("heard %q, want %q and no sign of life", got, want)
		}
	}
}

func TestNotifierOutsideSystemd(t *testing.T) {
	none := NewNotifier(func(string) string { return "" })
	other := NewNotifier(func(k string) string {
		return map[string]string{"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_PID": "1", "WATCHDOG_USEC": "1000"}[k]
	})
	for _, n := range []Notifier{none, other} {
		if n.Watchdog() != 0 {
			t.Errorf("watchdog %s", n.Watchdog())
		}
	}
	if err := none.Ready("x"); err != nil {
		t.Error(err)
	}
	if err := other.Alive(); err == nil {
		t.Error("no error for a socket that is not there")
	}
}
