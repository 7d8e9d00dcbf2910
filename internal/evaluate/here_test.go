package evaluate

import (
	"context"
	"errors"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/apart"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/schema"
)

// held is a Load that goes on until release is closed.
func held(release <-chan struct{}) Load {
	return func(context.Context, schema.Source) (*forge.Forge, schema.Diagnostics, error) {
		<-release
		return &forge.Forge{App: forge.App{Name: "late"}}, nil, nil
	}
}

func TestTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		e := &Evaluator{Load: held(release), Bounds: apart.Bounds{Time: time.Minute, Memory: 8 << 30}}
		began := time.Now()
		_, _, err := e.Evaluate(t.Context(), text("x"))
		if took := time.Since(began); took != time.Minute {
			t.Errorf("it took %s", took)
		}
		want := "read forge.cue: its evaluation takes longer than 1m0s; look for values that multiply, " +
			"such as lists of lists or fields that refer to themselves, or allow more with FORGED_MAX_TIME"
		if err == nil || err.Error() != want {
			t.Error(err)
		}
		if _, _, err := e.Evaluate(t.Context(), text("x")); err == nil || !strings.Contains(err.Error(), "not looked at") {
			t.Errorf("the next one: %v", err)
		}
		close(release)
	})
}

func TestInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		time.AfterFunc(59*time.Second, func() { close(release) })
		limit, percent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
		debug.SetGCPercent(percent)
		e := &Evaluator{Load: held(release), Bounds: apart.Bounds{Time: time.Minute, Memory: 8 << 30}}
		f, _, err := e.Evaluate(t.Context(), text("x"))
		if err != nil || f.App.Name != "late" {
			t.Errorf("%v, %v", f, err)
		}
		if now := debug.SetMemoryLimit(-1); now != limit {
			t.Errorf("the limit of memory is %d and was %d", now, limit)
		}
		if now := debug.SetGCPercent(percent); now != percent {
			t.Errorf("the collector is set to %d and was to %d", now, percent)
		}
	})
}

func TestWithin(t *testing.T) {
	for _, text := range []schema.Source{text(minimal), text(`import "strings"` + "\n" + minimal + `app: env: X: strings.ToUpper("x")` + "\n")} {
		e := child()
		ran := false
		if err := e.Within(t.Context(), text, func(context.Context) { ran = true }); err != nil || !ran {
			t.Errorf("%v, %v", ran, err)
		}
	}
	e := child()
	grow := text(`import "list"` + "\n" + minimal + `app: env: X: "\(len(list.Range(0, 10000000000, 1)))"` + "\n")
	err := e.Within(t.Context(), grow, func(context.Context) { t.Error("it was let through") })
	if x, ok := errors.AsType[*ExceededError](err); !ok || x.Of != "memory" {
		t.Error(err)
	}
}

func TestCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		e := &Evaluator{Load: held(release)}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("no longer wanted"))
		defer cancel()
		for range 2 {
			if _, _, err := e.Evaluate(ctx, text("x")); err == nil ||
				!strings.HasPrefix(err.Error(), "read forge.cue: no") {
				t.Error(err)
			}
		}
		close(release)
	})
}

func TestTooLarge(t *testing.T) {
	release, held := make(chan struct{}), make(chan []byte, 1)
	e := &Evaluator{Bounds: apart.Bounds{Time: time.Hour, Memory: 96 << 20}}
	e.Load = func(context.Context, schema.Source) (*forge.Forge, schema.Diagnostics, error) {
		held <- make([]byte, 100<<20)
		<-release
		return nil, nil, nil
	}
	_, _, err := e.Evaluate(t.Context(), text("x"))
	if x, ok := errors.AsType[*ExceededError](err); !ok || x.Of != "memory" || x.Most != "96 MiB" {
		t.Error(err)
	}
	close(release)
	<-held
}

const minimal = `forge: "v1"
app: {name: "shop", image: {repository: "ghcr.io/acme/shop-api", tag: "1.4.2"}}
environments: local: platform: kind: "minikube"
`

func TestOrdinary(t *testing.T) {
	for text, want := range map[string]bool{
		minimal:                                true,
		`a: *"x" | string`:                     true,
		`a: [...(*1 | int)]`:                   true,
		"a: string |\n\t*1":                    true,
		"* | string":                           true,
		`import "strings"`:                     false,
		`import "forged.dev/forged/schema/v1"`: true,
		"a: 1000000*\"x\"":                     false,
		"a: b * \"x\"":                         false,
		"a: (b)\t*\n\"x\"":                     false,
		`a: "\(1000000*b)"`:                    false,
		`a: "x"*1000000`:                       false,
		"a: é*1000000":                         false,
		"a: #\"x\"#*2":                         false,
		`domains: ["*.acme.com"] // a comment`: false, // it might be
	} {
		if got := ordinary(schema.Source{Files: []schema.File{{Data: []byte(text)}}}); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}
