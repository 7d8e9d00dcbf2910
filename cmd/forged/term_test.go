package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

func id(s string) forge.ID {
	var v forge.ID
	if err := v.UnmarshalText([]byte(s)); err != nil {
		panic(err)
	}
	return v
}

func TestWrap(t *testing.T) {
	tests := []struct {
		text string
		n    int
		want []string
	}{
		{"", 5, []string{""}},
		{"one two three", 7, []string{"one two", "three"}},
		{"äöü äöü", 3, []string{"äöü", "äöü"}},
		{"a unbreakable", 5, []string{"a", "unbre", "akabl", "e"}},
		{"spec.containers.image", 17, []string{"spec.containers", ".image"}},
		{"two\nlines", 80, []string{"two", "lines"}},
	}
	for _, tt := range tests {
		if d := cmp.Diff(tt.want, wrap(tt.text, tt.n)); d != "" {
			t.Errorf("%q in %d: %s", tt.text, tt.n, d)
		}
	}
}

func TestAge(t *testing.T) {
	now := time.Now()
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 119 * time.Second: "119s", 2 * time.Minute: "2m",
		119 * time.Minute: "119m", 3 * time.Hour: "3h", 72 * time.Hour: "3d",
	} {
		if got := age(now, now.Add(-d)); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
	if got := age(now, time.Time{}); got != "-" {
		t.Errorf("never: %s", got)
	}
}

// narrow wants no line wider than the screen.
func narrow(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if w := width(strings.TrimRight(line, "\n")); w > columns {
			t.Errorf("%d columns: %s", w, line)
		}
	}
}

func TestShowStatus(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	app := id("prod/release/app")
	status := reconcile.Status{Environments: []reconcile.EnvironmentStatus{{Name: "prod", Resources: []*reconcile.ResourceStatus{
		{
			ID: app, State: reconcile.StateReady, Since: now.Add(-time.Hour),
			LastAction: &reconcile.ActionStatus{
				ID: app, Action: reconcile.ActionHeal, Object: "Deployment shop/shop-with-a-name-that-is-long",
				Reason: "edited by kubectl-edit at 03:03:55: spec.replicas, spec.template.spec.containers", At: now.Add(-10 * time.Second),
			},
		},
		{ID: id("prod/release/worker"), State: reconcile.StateWaiting, WaitingFor: "prod/release/app", Since: now},
		{
			ID: id("prod/secrets/shop"), State: reconcile.StateFailed, Since: now.Add(-3 * time.Minute), Message: "told by the error",
			Error: &reconcile.ErrorStatus{
				Kind: reconcile.Denied, Text: "apply Secret shop/env: forbidden (grant patch on secrets)", Hint: "grant patch on secrets",
			},
			NextRetry: now.Add(30 * time.Second),
		},
		{
			ID: id("prod/release/redis"), State: reconcile.StateDrifted, Since: now.Add(-time.Minute), Fight: "rival keeps changing spec.replicas",
			Steps:     []reconcile.StepStatus{{Action: reconcile.ActionHeal, Object: "StatefulSet shop/redis", Reason: "edited by rival", Held: "the mode is observe"}},
			NextRetry: now.Add(-2 * time.Second),
		},
	}}}}
	var b bytes.Buffer
	if err := showStatus(newPrinter(&b), status, now); err != nil {
		t.Fatal(err)
	}
	narrow(t, b.String())
	const want = `ENVIRONMENT  RESOURCE        STATE    LAST ACTION                                                AGE
prod         release/app     ready    heal Deployment shop/shop-with-a-name-that-is-long:        10s
                                      edited by kubectl-edit at 03:03:55: spec.replicas,
                                      spec.template.spec.containers
prod         release/worker  waiting  waits for release/app                                      0s
prod         secrets/shop    failed   -                                                          3m
prod         release/redis   drifted  -                                                          60s

prod/secrets/shop: failed for 3m
  error: apply Secret shop/env: forbidden
  hint: grant patch on secrets
  next try in 30s

prod/release/redis: drifted for 60s
  fight: rival keeps changing spec.replicas
  ! heal StatefulSet shop/redis: edited by rival
      not now: the mode is observe
  next try as soon as there is room for it
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}

var unknown = reconcile.Health{Status: reconcile.Unknown}

func TestShowPlan(t *testing.T) {
	long := strings.Repeat("value ", 30)
	plan := &reconcile.Plan{Environments: []reconcile.EnvironmentPlan{
		{Name: "prod", Platform: "kubernetes", Target: "acme-prod", Mode: forge.ModeApply, Items: []reconcile.Item{
			{ID: id("prod/namespace/shop"), Exists: true, Health: reconcile.Health{Status: reconcile.Ready}},
			{ID: id("prod/release/redis"), Exists: true, Health: reconcile.Health{Status: reconcile.Progressing, Message: "0 of 1 ready"}},
			{ID: id("prod/release/app"), Exists: true, Steps: []reconcile.Step{
				{
					Action: reconcile.ActionUpdate, ID: id("prod/release/app"), Object: "Deployment shop/app",
					Reason:  reconcile.Reason{Code: reconcile.ReasonConfig},
					Changes: []reconcile.Change{{Path: "spec.replicas", From: "1", To: "2"}, {Path: "data.key"}, {Path: "x", To: long}, {Path: "command", To: "sh -c wait() {\n  true\n}\nwait\n"}},
					Fitted:  []reconcile.Change{{Path: "Deployment shop/app, spec.template.spec.containers[0].livenessProbe (FKS314)", From: "httpGet:\n  path: /\n"}},
					AsFit:   14,
				},
				{
					Action: reconcile.ActionUpdate, ID: id("prod/release/app"), Object: "Deployment shop/other",
					Reason: reconcile.Reason{Code: reconcile.ReasonConfig}, AsFit: 1,
				},
				{
					Action: reconcile.ActionDelete, ID: id("prod/release/app"), Object: "Service shop/old", Deletes: 1,
					Reason: reconcile.Reason{Code: reconcile.ReasonUnwanted}, Blocked: "more than policy.maxDelete",
				},
			}},
			{ID: id("prod/claim/uploads"), Remove: true, Steps: []reconcile.Step{{
				Action: reconcile.ActionForget, ID: id("prod/claim/uploads"), Object: "PersistentVolumeClaim shop/uploads",
				Reason: reconcile.Reason{Code: reconcile.ReasonUnwanted, Text: "it stays; forged lets go of it"},
			}}},
			{ID: id("prod/release/worker"), Waiting: "unknown until prod/release/app is applied"},
			{ID: id("prod/secrets/shop"), Health: unknown, Error: &reconcile.ErrorStatus{Text: "read: no route to host", Hint: "check the VPN"}},
			{ID: id("prod/release/gone"), Remove: true, Kept: "policy.prune is none", Steps: []reconcile.Step{{Action: reconcile.ActionDelete}}},
		}},
		{Name: "test", Platform: "minikube", Target: "minikube", Mode: forge.ModePaused},
	}}
	var b bytes.Buffer
	if err := showPlan(newPrinter(&b), plan); err != nil {
		t.Fatal(err)
	}
	narrow(t, b.String())
	const want = `prod  kubernetes acme-prod, mode apply
  namespace/shop  as it should be
  release/redis  as it should be, progressing: 0 of 1 ready
  release/app
    ~ update Deployment shop/app: config
        spec.replicas: 1 → 2
        data.key
        x: (none) → value value value value value value value value value value value value value
        value value value value value value value value value value value value value value value
        value value
        command: (none) → sh -c wait() { true } wait
        fitted to Fly Kubernetes:
          Deployment shop/app, spec.template.spec.containers[0].livenessProbe (FKS314):
          {"httpGet":{"path":"/"}} → (none)
          and 14 places as before; forged render --objects shows them
    ~ update Deployment shop/other: config
        fitted to Fly Kubernetes as before, in 1 place; forged render --objects shows them
    - delete Service shop/old: unwanted
      blocked: more than policy.maxDelete
  claim/uploads
    = forget PersistentVolumeClaim shop/uploads: unwanted (it stays; forged lets go of it)
  release/worker
    ? unknown until prod/release/app is applied
  secrets/shop
    error: read: no route to host
    hint: check the VPN
  release/gone  no longer asked for, kept: policy.prune is none

test  minikube minikube, mode paused
  not looked at: the mode is paused

Plan: 2 to update, 1 to forget, 1 blocked, 1 not known yet. Could not look at 1 of 7 resources.
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}

// An error that several resources share is said once, and nothing is fine that
// nobody has looked at.
func TestShowPlanTroubles(t *testing.T) {
	down := &reconcile.ErrorStatus{Text: "connect: no such context", Hint: "known contexts: none"}
	item := func(s string, e *reconcile.ErrorStatus) reconcile.Item {
		if e == nil {
			return reconcile.Item{ID: id(s), Exists: true, Health: reconcile.Health{Status: reconcile.Ready}}
		}
		return reconcile.Item{ID: id(s), Health: unknown, Error: e}
	}
	failed := item("dev/secrets/shop", nil)
	failed.Error = &reconcile.ErrorStatus{Text: "the variable KEY is not set"}
	for name, tt := range map[string]struct {
		envs []reconcile.EnvironmentPlan
		want string
	}{
		"no environment": {nil, "\nNothing to change.\n"},
		"a cluster that is not there": {
			[]reconcile.EnvironmentPlan{
				{Name: "a", Platform: "minikube", Target: "m", Mode: "apply", Error: down, Items: []reconcile.Item{item("a/namespace/shop", down), item("a/release/app", down)}},
				{Name: "b", Platform: "minikube", Target: "m", Mode: "apply", Error: down, Items: []reconcile.Item{item("b/namespace/shop", down)}},
				{Name: "c", Platform: "minikube", Target: "n", Mode: "apply", Items: []reconcile.Item{item("c/namespace/shop", nil)}},
			},
			`a  minikube m, mode apply
  error: connect: no such context
  hint: known contexts: none
  not looked at: 2 resources: namespace/shop, release/app

b  minikube m, mode apply
  error: the same as in a
  not looked at: 1 resource: namespace/shop

c  minikube n, mode apply
  namespace/shop  as it should be

Could not look at 3 of 4 resources.
`,
		},
		"only what is owned could not be listed": {
			[]reconcile.EnvironmentPlan{{Name: "a", Platform: "minikube", Target: "m", Mode: "apply", Error: down, Items: []reconcile.Item{item("a/release/app", nil)}}},
			`a  minikube m, mode apply
  error: connect: no such context
  hint: known contexts: none
  release/app  as it should be

Could not look for what is no longer asked for in a.
`,
		},
		"looked at, and not planned": {
			[]reconcile.EnvironmentPlan{{Name: "dev", Platform: "minikube", Target: "m", Mode: "apply", Items: []reconcile.Item{failed}}},
			`dev  minikube m, mode apply
  secrets/shop
    error: the variable KEY is not set

Could not plan 1 of 1 resource.
`,
		},
		"paused": {
			[]reconcile.EnvironmentPlan{{Name: "dev", Platform: "minikube", Target: "m", Mode: "paused"}},
			`dev  minikube m, mode paused
  not looked at: the mode is paused

Nothing was looked at: the mode is paused.
`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := showPlan(newPrinter(&b), &reconcile.Plan{Environments: tt.envs}); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, b.String()); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestVerdict(t *testing.T) {
	tests := map[string]struct {
		states []reconcile.State
		code   int
	}{
		"ready":        {[]reconcile.State{reconcile.StateReady, reconcile.StatePaused, reconcile.StateOrphaned}, 0},
		"drift left":   {[]reconcile.State{reconcile.StateReady, reconcile.StateDrifted}, exitPending},
		"needs person": {[]reconcile.State{reconcile.StateBlocked}, exitPending},
		"failed":       {[]reconcile.State{reconcile.StateDrifted, reconcile.StateFailed}, exitError},
		"unread":       {[]reconcile.State{reconcile.StateUnknown, reconcile.StateWaiting}, exitError},
	}
	for name, tt := range tests {
		var env reconcile.EnvironmentStatus
		for _, s := range tt.states {
			env.Resources = append(env.Resources, &reconcile.ResourceStatus{State: s})
		}
		err := verdict(reconcile.Status{Environments: []reconcile.EnvironmentStatus{env}})
		code := exitOK
		if e := (*exit)(nil); errors.As(err, &e) {
			code = e.code
		} else if err != nil {
			code = exitError
		}
		if code != tt.code {
			t.Errorf("%s: exit code %d, want %d", name, code, tt.code)
		}
	}
}

// What people copy is on one line: a word of the last column is not broken.
func TestTableOfLongWords(t *testing.T) {
	host := "shop.shop-prod.svc.fks-default-" + strings.Repeat("x", 90) + ".fly.dev"
	var b bytes.Buffer
	newPrinter(&b).table([][]string{{"OUTPUT", "VALUE"}, {"address", host + " 2a09:8280:1::1"}, {"none", ""}}, 1, func(int, int) color { return plain })
	if want := "OUTPUT   VALUE\naddress  " + host + "\n         2a09:8280:1::1\nnone\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

func TestColour(t *testing.T) {
	var b bytes.Buffer
	if newPrinter(&b).color {
		t.Error("colours into a buffer")
	}
	p := &printer{w: &b, color: true}
	p.table([][]string{{"A", "B"}, {"x", "yy"}}, 1, func(row, _ int) color {
		if row == 0 {
			return bold
		}
		return plain
	})
	if want := "\x1b[1mA\x1b[0m  \x1b[1mB\x1b[0m\nx  yy\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}
