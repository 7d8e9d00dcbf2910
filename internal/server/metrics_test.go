package server

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"forged.dev/forged/internal/daemon"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

var update = flag.Bool("update", false, "write docs/reference/metrics.md")

// busy is a server to which everything has happened once.
func busy() (*world, *Server) {
	w := &world{config: daemon.ConfigState{
		OK: true, Generation: 3, Failures: 2,
		Active:   daemon.Version{Hash: "abc", At: time.UnixMilli(1_700_000_000_500)},
		Warnings: []daemon.Problem{{Rule: "F601"}, {Rule: "F205"}, {Rule: "F601"}},
	}}
	drifted := resource("prod", "app", reconcile.StateDrifted)
	drifted.Steps = []reconcile.StepStatus{{Action: reconcile.ActionHeal}}
	drifted.Notices = []reconcile.Notice{{Code: "mutated", Message: "x"}, {Code: "mutated", Message: "y"}}
	drifted.Expires = time.Unix(1_800_000_000, 0)
	w.status.Environments = []reconcile.EnvironmentStatus{{
		Name: "prod", Lease: &reconcile.LeaseStatus{Held: true}, Resources: []*reconcile.ResourceStatus{drifted, resource("prod", "redis", reconcile.StateReady)},
	}}
	s := w.server()
	m, id := s.opts.Metrics, drifted.ID
	reason := reconcile.Reason{Code: reconcile.ReasonEdited, Writer: "kubectl-edit"}
	m.Reconciled(id, reconcile.OutcomeApplied, 3*time.Millisecond)
	m.Drift(id, reason)
	m.Healed(id, reason, 7*time.Millisecond)
	m.Stepped(id, reconcile.ActionForget)
	m.Retried(id, reconcile.Unavailable)
	m.Fight(id, "Deployment shop/app", "rival")
	m.Panicked(id)
	m.Request("minikube", "APPLY", 200)
	m.Verified("minikube", 4, 1)
	return w, s
}

func scrape(t *testing.T, s *Server) string {
	t.Helper()
	code, body := get(s.handler(true), request("GET", "/metrics"))
	if code != 200 {
		t.Fatal(code, body)
	}
	return body
}

func TestMetrics(t *testing.T) {
	_, s := busy()
	body := scrape(t, s)
	for _, want := range []string{
		`forged_config_last_reload_successful 1`,
		`forged_config_last_reload_success_timestamp_seconds 1.7000000005e+09`,
		`forged_config_reload_failures_total 2`,
		`forged_config_info{hash="abc"} 1`,
		`forged_config_warnings{rule="F205"} 1`,
		`forged_config_warnings{rule="F601"} 2`,
		`forged_reconcile_duration_seconds_count{environment="prod",kind="release",outcome="applied"} 1`,
		`forged_drift_detected_total{environment="prod",kind="release",reason="edited"} 1`,
		`forged_drift_healed_total{environment="prod",kind="release",reason="edited"} 1`,
		`forged_heal_seconds_bucket{environment="prod",kind="release",le="0.005"} 0`,
		`forged_heal_seconds_bucket{environment="prod",kind="release",le="0.01"} 1`,
		`forged_drifted_resources{environment="prod"} 1`,
		`forged_notices{code="mutated",environment="prod",kind="release"} 2`,
		`forged_expiry_timestamp_seconds{environment="prod",kind="release",name="app"} 1.8e+09`,
		`forged_resources{environment="prod",state="drifted"} 1`,
		`forged_resources{environment="prod",state="ready"} 1`,
		`forged_inventory_entries{environment="prod"} 6`,
		`forged_lease_held{environment="prod"} 1`,
		`forged_verified_objects_total{target="minikube"} 4`,
		`forged_verify_surprises_total{target="minikube"} 1`,
		`forged_steps_total{action="forget",environment="prod",kind="release"} 1`,
		`forged_retries_total{environment="prod",error="unavailable",kind="release"} 1`,
		`forged_fights_total{environment="prod",kind="release"} 1`,
		`forged_panics_total{environment="prod",kind="release"} 1`,
		`forged_api_requests_total{code="200",target="minikube",verb="APPLY"} 1`,
		`forged_build_info{goversion="go1.`,
		`go_goroutines `,
		`process_resident_memory_bytes `,
	} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("not there: %s", want)
		}
	}
	if strings.Contains(body, "rival") || strings.Contains(body, "kubectl-edit") {
		t.Error("a writer is a label")
	}
}

func TestMetricsBeforeAnyConfiguration(t *testing.T) {
	body := scrape(t, (&world{}).server())
	if !strings.Contains(body, "\nforged_config_last_reload_successful 0") || strings.Contains(body, "success_timestamp") {
		t.Errorf("%.300s", body)
	}
}

func TestMetricsForgetEnvironments(t *testing.T) {
	w, s := busy()
	m := s.opts.Metrics
	m.Keep([]string{"prod", "test"})
	m.Drift(forge.ID{Environment: "test", Kind: "release", Name: "app"}, reconcile.Reason{Code: reconcile.ReasonDeleted})
	m.Keep([]string{"test"})
	w.status.Environments = nil
	body := scrape(t, s)
	if strings.Contains(body, `environment="prod"`) {
		t.Error("series of an environment that is gone")
	}
	if !strings.Contains(body, `forged_drift_detected_total{environment="test"`) {
		t.Error("series of an environment that stays are gone")
	}
}

const referenceFile = "../../docs/reference/metrics.md"

// TestMetricsReference keeps docs/reference/metrics.md current. Run with
// -update after a change.
func TestMetricsReference(t *testing.T) {
	_, s := busy()
	got := reference(t, s.opts.Metrics.registry)
	if *update {
		if err := os.WriteFile(referenceFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s is not current; run go test ./internal/server -update\n%s", referenceFile, d)
	}
}

func reference(t *testing.T, r *prometheus.Registry) []byte {
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	described := make(chan *prometheus.Desc, 1000)
	r.Describe(described)
	close(described)
	ours := 0
	for d := range described {
		if strings.Contains(d.String(), `"forged_`) {
			ours++
		}
	}
	var b bytes.Buffer
	b.WriteString(`# Metrics

<!-- Generated from the registry by go test ./internal/server -update. Do not edit. -->

` + "`GET /metrics`" + ` on the address given to ` + "`--listen`" + ` (default ` + "`" + DefaultAddress + "`" + `) answers in the
Prometheus text format. Names end with their unit. Every label takes a bounded
set of values: environments and targets are those of forge.cue, and the series
of an environment that left forge.cue are dropped. What has no bound (the names
of objects, of other writers) is in the log and in ` + "`/status`" + `, never in a label.

Beside these there are the usual ` + "`go_*`, `process_*` and `promhttp_*`" + ` metrics.

| metric | type | labels | meaning |
|---|---|---|---|
`)
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "forged_") {
			continue
		}
		ours--
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		slices.Sort(labels)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp())
	}
	if ours != 0 {
		t.Errorf("%d metrics are described but have no sample in this test", ours)
	}
	b.WriteString(`
## Values of labels

| label | values |
|---|---|
| ` + "`kind`" + ` | ` + list(kinds(t)...) + ` |
| ` + "`name`" + ` | that of the resource, as in forge.cue |
| ` + "`target`" + ` | a cluster, by its context or, of Fly Kubernetes, its name; an organization on Fly |
| ` + "`outcome`" + ` | ` + list(reconcile.OutcomeUnchanged, reconcile.OutcomeApplied, reconcile.OutcomeHeld, reconcile.OutcomeWaiting, reconcile.OutcomeFailed) + ` |
| ` + "`reason`" + ` | one of the [reasons](#reasons) |
| ` + "`action`" + ` | one of the [actions](#actions) |
| ` + "`state`" + ` | ` + list(reconcile.StateReady, reconcile.StatePaused, reconcile.StateOrphaned, reconcile.StateWaiting, reconcile.StateProgressing, reconcile.StateDrifted, reconcile.StateBlocked, reconcile.StateUnknown, reconcile.StateFailed) + ` |
| ` + "`error`" + ` | ` + list(reconcile.Invalid, reconcile.Denied, reconcile.Conflict, reconcile.Stale, reconcile.Throttled, reconcile.Unavailable, reconcile.Internal) + ` |
| ` + "`rule`" + ` | the id of one of the [rules](rules/README.md) |
| ` + "`verb`" + ` | ` + list("GET", "LIST", "WATCH", "CREATE", "UPDATE", "PATCH", "APPLY", "DELETE", "DRYRUN") + ` of a cluster; of Fly the name of the call, ` + "`addon.list`" + ` for example |
| ` + "`code`" + ` | of a request the HTTP status, 0 where there was no answer; of a notice the word for what it is about: ` + "`fks`" + ` is what the rules of Fly Kubernetes have to say, ` + "`dns`" + ` a record that is wanted |
`)
	for _, words := range []struct{ title, text, file, of string }{
		{"Reasons", "Why a step is needed. The same words stand in the plan, the status and the log. Only\n`edited`, `deleted`, `replaced`, `ownership` and `foreign-revision` are drift: somebody else's doing.", "../reconcile/reason.go", "ReasonCode"},
		{"Actions", "What a step does.", "../reconcile/provider.go", "Action"},
	} {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| word | meaning |\n|---|---|\n", words.title, words.text)
		for _, w := range constants(t, words.file, words.of) {
			fmt.Fprintf(&b, "| `%s` | %s |\n", w.word, w.meaning)
		}
	}
	return b.Bytes()
}

// kinds are those of resources.
func kinds(t *testing.T) (all []string) {
	t.Helper()
	const file = "../forge/resource.go"
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Kind") {
			return true
		}
		text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text)
		return true
	})
	for _, kind := range []string{forge.KindEndpoint, forge.KindFlyCluster, forge.KindRelease} {
		if !slices.Contains(all, kind) {
			t.Errorf("%s names no kind %s", file, kind)
		}
	}
	return all
}

type word struct{ word, meaning string }

// constants are the words of a type, with the comments behind them.
func constants(t *testing.T, file, of string) (words []word) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || spec.Type == nil {
			return true
		}
		if name, ok := spec.Type.(*ast.Ident); !ok || name.Name != of {
			return true
		}
		text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil || spec.Comment == nil {
			t.Fatalf("%s: %s has no comment", file, spec.Names[0].Name)
		}
		words = append(words, word{text, strings.TrimSpace(spec.Comment.Text())})
		return true
	})
	if len(words) < 5 {
		t.Fatalf("%s: only %d constants of type %s", file, len(words), of)
	}
	return words
}

func list[T ~string](values ...T) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = "`" + string(v) + "`"
	}
	return strings.Join(quoted, ", ")
}
