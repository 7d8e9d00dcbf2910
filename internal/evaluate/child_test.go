package evaluate

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/apart"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/schema"
)

func child() *Evaluator {
	return &Evaluator{
		Load: play, Apart: true, Args: []string{"serve"},
		Bounds: apart.Bounds{Time: time.Minute, Memory: 256 << 20},
	}
}

// TestSameAnswer: what a child says is what the same function says here.
func TestSameAnswer(t *testing.T) {
	files, err := filepath.Glob("../../examples/*.cue")
	if err != nil {
		t.Fatal(err)
	}
	invalid, err := filepath.Glob("../../examples/invalid/*.cue")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 || len(invalid) == 0 {
		t.Fatalf("no examples: %d, %d", len(files), len(invalid))
	}
	packages, err := filepath.Glob("../../examples/composed/*.cue")
	if err != nil || len(packages) == 0 {
		t.Fatal(packages, err)
	}
	for _, file := range slices.Concat(files, invalid, packages[:1]) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			src, err := schema.Read(file)
			if err != nil {
				t.Fatal(err)
			}
			if file == packages[0] {
				src.Tags = []string{"version=2.0.0"}
			}
			here, hereWarnings, hereErr := schema.Load(t.Context(), src)
			there, thereWarnings, thereErr := child().Evaluate(t.Context(), src)
			if d := cmp.Diff(here, there); d != "" {
				t.Error(d)
			}
			same(t, hereWarnings, thereWarnings)
			hereInvalid, _ := errors.AsType[schema.Diagnostics](hereErr)
			thereInvalid, ok := errors.AsType[schema.Diagnostics](thereErr)
			if thereErr != nil && !ok {
				t.Fatal(thereErr)
			}
			same(t, hereInvalid, thereInvalid)
		})
	}
}

// same compares diagnostics by what is shown of them.
func same(t *testing.T, want, got schema.Diagnostics) {
	t.Helper()
	show := func(d schema.Diagnostics) string {
		var b strings.Builder
		if err := d.Write(&b, schema.WriteOptions{Excerpt: true, Color: true}); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if d := cmp.Diff(show(want), show(got)); d != "" {
		t.Error(d)
	}
}

// TestChildDies: whatever becomes of a child is an error of one line.
func TestChildDies(t *testing.T) {
	for _, test := range []struct {
		trick string
		want  string
	}{
		{"overflow", "read forge.cue: its evaluation nests too deep; look for fields that refer to each other"},
		{"one step", "read forge.cue: its evaluation needs more than 256 MiB of memory; look for values that multiply"},
		{"grow", "read forge.cue: its evaluation needs more than 256 MiB of memory; look for values that multiply"},
		{"panic", "read forge.cue: the process that evaluates it ended with exit status 2: panic: a bug"},
		{"exit", "read forge.cue: the process that evaluates it ended with exit status 7: it said nothing"},
		{"kill", "read forge.cue: the process that evaluates it was ended by a signal (killed); the system does that when"},
		{"chatter", "read forge.cue: the process that evaluates it made no sense: invalid character"},
		{"large", "read forge.cue: it comes to more than 1 MiB"},
		{"error", "something else is wrong"},
	} {
		t.Run(test.trick, func(t *testing.T) {
			t.Parallel()
			e := child()
			e.maxAnswer = 1 << 20
			_, _, err := e.Evaluate(t.Context(), text("test: "+test.trick))
			if err == nil || !strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

func TestChildTooLong(t *testing.T) {
	e := child()
	e.Bounds.Time = 50 * time.Millisecond
	_, _, err := e.Evaluate(t.Context(), text("test: hang"))
	if x, ok := errors.AsType[*ExceededError](err); !ok || x.Of != "time" || x.Most != "50ms" {
		t.Error(err)
	}
}

// TestChildKilled: somebody kills the child in the middle.
func TestChildKilled(t *testing.T) {
	e := child()
	e.spawned = func(pid int) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}
	_, _, err := e.Evaluate(t.Context(), text("test: hang"))
	if err == nil || !strings.Contains(err.Error(), "was ended by a signal (killed)") {
		t.Error(err)
	}
	e.spawned = nil
	if _, _, err := e.Evaluate(t.Context(), text("test: error")); err == nil || err.Error() != "something else is wrong" {
		t.Errorf("the next one: %v", err)
	}
}

func TestChildIsNotLeftBehind(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	e := child()
	var process int
	e.spawned = func(pid int) { process = pid; cancel(errors.New("no longer wanted")) }
	_, _, err := e.Evaluate(ctx, text("test: hang"))
	if err == nil || err.Error() != "read forge.cue: no longer wanted" {
		t.Error(err)
	}
	if err := syscall.Kill(process, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the child is still there: %v", err)
	}
	if _, _, err := e.Evaluate(ctx, text("test: hang")); err == nil || err.Error() != "read forge.cue: no longer wanted" {
		t.Error(err)
	}
}

func TestChildKnowsNoSecret(t *testing.T) {
	t.Setenv("FORGED_TEST_TOKEN", "hunter2")
	_, _, err := child().Evaluate(t.Context(), text("test: environment"))
	if err == nil || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "HOME") {
		t.Error(err)
	}
}

func TestChildWithoutBinary(t *testing.T) {
	e := child()
	e.Args = []string{strings.Repeat("x", 1<<20)} // more than the system takes
	_, _, err := e.Evaluate(t.Context(), text("test: error"))
	if err == nil || !strings.HasPrefix(err.Error(), "read forge.cue: start a process for its evaluation: ") {
		t.Error(err)
	}
}

// TestServe: a child whose parent is gone ends, in whatever it is.
func TestServe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	release := make(chan struct{})
	began := make(chan struct{})
	done := make(chan error)
	go func() {
		done <- Serve(t.Context(), r, io.Discard, func(context.Context, schema.Source) (*forge.Forge, schema.Diagnostics, error) {
			close(began)
			<-release
			return nil, nil, nil
		})
	}()
	if err := ask(w, question{Source: text("x"), Bounds: apart.DefaultBounds()}); err != nil {
		t.Fatal(err)
	}
	<-began
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, errParentGone) {
		t.Error(err)
	}
	close(release)

	for name, in := range map[string]string{
		"nothing": "", "a person who types": "hello, is anybody there?\n", "half": "\x00\x00\x00\x00\x00\x00\x00\x09{}",
		"no question": "\x00\x00\x00\x00\x00\x00\x00\x02[]",
	} {
		if err := Serve(t.Context(), strings.NewReader(in), io.Discard, play); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
