package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// scale is many releases of a small chart: environments of ten releases of ten
// objects each. None has pods, so that what is measured is forged and the API
// server, and not the start of containers.
type scale struct {
	*bench
	environments int
	idle         time.Duration
}

const perEnvironment = 10 // releases

func (s *scale) releases() int { return s.environments * perEnvironment }
func (s *scale) objects() int  { return s.releases() * len(scaleKinds) }

// scaleKinds are what a release consists of.
var scaleKinds = []struct {
	schema.GroupVersionResource
	kind, suffix string
	body         string // JSON, NAME stands for the release
}{
	{core("serviceaccounts"), "ServiceAccount", "", `"automountServiceAccountToken": false`},
	{core("configmaps"), "ConfigMap", "", `"data": {"LOG_LEVEL": "info", "LISTEN": ":8000", "NAME": "NAME"}`},
	{core("configmaps"), "ConfigMap", "-files", `"data": {"app.conf": "[server]\nport = 8000\nworkers = 4\n\n[log]\nlevel = info\n"}`},
	{core("secrets"), "Secret", "", `"type": "Opaque", "stringData": {"password": "for the benchmark only"}`},
	{core("services"), "Service", "", `"spec": {"clusterIP": "None", "selector": {"app.kubernetes.io/name": "NAME"}, "ports": [{"name": "http", "port": 8000, "protocol": "TCP", "targetPort": "http"}]}`},
	{in("rbac.authorization.k8s.io", "v1", "roles"), "Role", "", `"rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["NAME"], "verbs": ["get"]}]`},
	{in("rbac.authorization.k8s.io", "v1", "rolebindings"), "RoleBinding", "", `"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "NAME"}, "subjects": [{"kind": "ServiceAccount", "name": "NAME"}]`},
	{in("networking.k8s.io", "v1", "networkpolicies"), "NetworkPolicy", "", `"spec": {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "NAME"}}, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": 8000, "protocol": "TCP"}]}]}`},
	{in("policy", "v1", "poddisruptionbudgets"), "PodDisruptionBudget", "", `"spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app.kubernetes.io/name": "NAME"}}}`},
	{in("apps", "v1", "deployments"), "Deployment", "", `"spec": {"replicas": 0, "selector": {"matchLabels": {"app.kubernetes.io/name": "NAME"}}, "template": {"metadata": {"labels": {"app.kubernetes.io/name": "NAME"}}, "spec": {"serviceAccountName": "NAME", "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}, "containers": [{"name": "app", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}, "image": "registry.example/scale:1.0.0", "args": ["serve"], "ports": [{"name": "http", "containerPort": 8000, "protocol": "TCP"}], "envFrom": [{"configMapRef": {"name": "NAME"}}, {"secretRef": {"name": "NAME"}}], "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}]}}}`},
}

func core(resource string) schema.GroupVersionResource { return in("", "v1", resource) }

func in(group, version, resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: version, Resource: resource}
}

// The label that the benchmark edits, and its value in the chart.
const stateLabel, stateWanted, stateEdited = "bench.example/state", "wanted", "edited"

// manifest is one object of a release.
func manifest(i int, release string) string {
	k := scaleKinds[i]
	return fmt.Sprintf(`{"apiVersion": %q, "kind": %q, "metadata": {"name": %q, "labels": {"app.kubernetes.io/name": %q, "app.kubernetes.io/part-of": "scale", %q: %q}}, %s}`,
		k.GroupVersion().String(), k.kind, release+k.suffix, release, stateLabel, stateWanted, strings.ReplaceAll(k.body, "NAME", release))
}

// write writes the chart and the forge.cue that has it many times.
func (s *scale) write(interval time.Duration) error {
	templates := filepath.Join(s.dir, "chart", "templates")
	if err := os.MkdirAll(templates, 0o700); err != nil {
		return err
	}
	var all strings.Builder
	for i := range scaleKinds {
		all.WriteString("---\n" + manifest(i, "{{ .Release.Name }}") + "\n")
	}
	var cue strings.Builder
	fmt.Fprintf(&cue, `forge: "v1"
app: {
	name: "scale"
	image: {repository: "registry.example/scale", tag: "1.0.0"}
}
_chart: {kind: "path", path: "chart"}
_env: {
	platform: {kind: "kubernetes", context: %q}
	expose: kind: "none"
	services: {postgres: mode: "off", redis: mode: "off"}
	app: chart: _chart
	charts: {%s}
	policy: {mode: "apply", interval: %q}
}
environments: {
`, kubeContext, beside(), interval.String())
	for i := range s.environments {
		fmt.Fprintf(&cue, "\te%02d: _env\n", i)
	}
	cue.WriteString("}\n")
	for path, text := range map[string]string{
		"chart/Chart.yaml":         "apiVersion: v2\nname: scale\nversion: 1.0.0\n",
		"chart/templates/all.yaml": all.String(),
		"forge.cue":                cue.String(),
	} {
		if err := replace(filepath.Join(s.dir, path), text); err != nil {
			return err
		}
	}
	return nil
}

// replace writes a file in one go, if it is another than it was: the daemon
// watches it.
func replace(path, text string) error {
	if old, err := os.ReadFile(path); err == nil && string(old) == text {
		return nil
	}
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func beside() string {
	var names []string
	for i := 1; i < perEnvironment; i++ {
		names = append(names, fmt.Sprintf("c%d: _chart", i))
	}
	return strings.Join(names, ", ")
}

func (s *scale) measure(ctx context.Context) (out []result, err error) {
	const rarely = 30 * time.Minute
	if err := s.write(rarely); err != nil {
		return nil, err
	}
	began := time.Now()
	d, err := s.start(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if d != nil {
			err = errors.Join(err, d.stop())
		}
	}()
	if err := d.ready(ctx, 10*time.Minute, statusEvery); err != nil {
		return nil, err
	}
	installed := time.Since(began)
	sent, err := d.requests(ctx)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "installed in %s with %s\n", installed.Round(time.Millisecond), sent)
	floor, err := s.floors(ctx)
	if err != nil {
		return nil, err
	}
	outside := (installed - floor.helm).Seconds()
	out = append(
		out,
		result{
			Name:  fmt.Sprintf("install %d objects in %d releases, without what Helm asks and writes", s.objects(), s.releases()),
			Value: outside, Unit: "s", Floor: floor.apply.Seconds(), Target: "≤ 1.3× floor", Met: outside <= 1.3*floor.apply.Seconds(),
		},
		result{Name: "… and with that; the floor does it too", Value: installed.Seconds(), Unit: "s", Floor: (floor.apply + floor.helm).Seconds()},
		result{Name: "… requests", Value: sent.total(), Unit: "", Floor: float64(2*s.objects() + 2*s.releases()), Note: sent.String()},
	)
	for _, part := range []func(context.Context, *daemon) ([]result, error){s.steady, s.burst} {
		rs, err := part(ctx, d)
		if err != nil {
			return nil, err
		}
		out = append(out, rs...)
	}
	if err := d.stop(); err != nil {
		return nil, err
	}
	var rs []result
	d, rs, err = s.restart(ctx)
	return append(out, rs...), err
}

// steady is what it costs when nothing happens: first with nothing to do at
// all, then with a look at everything as often as forge.cue may ask for it.
func (s *scale) steady(ctx context.Context, d *daemon) ([]result, error) {
	if err := wait(ctx, 8*time.Second); err != nil { // inventories are written, memory is given back
		return nil, err
	}
	renewals, stop, err := s.renewals(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	quiet, err := s.watchFor(ctx, d, s.idle)
	if err != nil {
		return nil, err
	}
	mem, err := d.memory()
	if err != nil {
		return nil, err
	}
	renewed := float64(renewals())
	rest := quiet.calls.total() - renewed - quiet.verified
	perMinute := func(n float64) float64 { return n / quiet.took.Minutes() }

	const often = 10 * time.Second
	if err := s.write(often); err != nil {
		return nil, err
	}
	if err := wait(ctx, 8*time.Second); err != nil { // it is loaded, and the memory of that is given back
		return nil, err
	}
	busy, err := s.watchFor(ctx, d, max(s.idle, 6*often))
	if err != nil {
		return nil, err
	}
	if err := s.write(30 * time.Minute); err != nil {
		return nil, err
	}
	cycles := busy.took.Seconds() / often.Seconds()
	cpu := func(sp span) float64 { return sp.cpu.Seconds() * 1000 / sp.took.Minutes() }
	cycle := (cpu(busy) - cpu(quiet)) * often.Minutes()
	looked := busy.calls.since(calls{"PATCH": busy.calls["PATCH"]}).total() - busy.verified // renewals were counted above
	return []result{
		{Name: "steady: requests, renewals and verification apart", Value: perMinute(rest), Unit: "/min", Target: "0 /min", Met: rest == 0, Note: quiet.calls.String()},
		{Name: "steady: renewals of leases", Value: perMinute(renewed), Unit: "/min", Note: fmt.Sprintf("%d leases", s.environments)},
		{Name: "steady: objects verified against the server", Value: perMinute(quiet.verified), Unit: "/min"},
		{Name: fmt.Sprintf("cycle over %.0f resources: processor time", busy.resources), Value: cycle, Unit: "ms", Target: "< 1 ms", Met: cycle < 1, Note: fmt.Sprintf("%.1f cycles, %.0f passes in full", cycles, busy.passes)},
		{Name: "cycle: requests", Value: looked / cycles, Unit: "", Target: "0", Met: looked == 0, Note: busy.calls.String()},
		{Name: "steady: processor time of the process, with no cycle", Value: cpu(quiet), Unit: "ms/min"},
		{Name: fmt.Sprintf("steady: the same, with %.1f cycles a minute", cycles/busy.took.Minutes()), Value: cpu(busy), Unit: "ms/min"},
		{Name: "resident memory", Value: mem.resident, Unit: "MB", Target: "≤ 80 MB", Met: mem.resident <= 80, Note: fmt.Sprintf("%.1f MB its own, %.1f MB pages of the program", mem.own, mem.file)},
	}, nil
}

// span is what a daemon did in a while.
type span struct {
	took      time.Duration
	cpu       time.Duration
	calls     calls
	passes    float64
	resources float64
	verified  float64
}

// watchFor leaves the daemon alone for a while.
func (s *scale) watchFor(ctx context.Context, d *daemon, long time.Duration) (sp span, err error) {
	before, err := d.metrics(ctx)
	if err != nil {
		return sp, err
	}
	began := time.Now()
	cpu, err := d.cpu()
	if err != nil {
		return sp, err
	}
	if err := wait(ctx, long); err != nil {
		return sp, err
	}
	after, err := d.cpu() // before it has to answer
	if err != nil {
		return sp, err
	}
	sp.took, sp.cpu = time.Since(began), after-cpu
	now, err := d.metrics(ctx)
	if err != nil {
		return sp, err
	}
	delta := func(name string) float64 { return sum(now, name) - sum(before, name) }
	sp.calls = callsOf(now).since(callsOf(before))
	sp.passes = delta("forged_reconcile_duration_seconds_count")
	sp.verified = delta("forged_verified_objects_total")
	sp.resources = sum(now, "forged_resources")
	return sp, nil
}

// restart starts a daemon that finds everything as it is to be.
func (s *scale) restart(ctx context.Context) (*daemon, []result, error) {
	began := time.Now()
	d, err := s.start(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := d.ready(ctx, time.Minute, 10*time.Millisecond); err != nil {
		return d, nil, err
	}
	took := time.Since(began)
	sent, err := d.requests(ctx)
	if err != nil {
		return d, nil, err
	}
	cpu, err := d.cpu()
	if err != nil {
		return d, nil, err
	}
	return d, []result{
		{Name: "restart: process start until everything is known to be in sync", Value: took.Seconds(), Unit: "s", Target: "< 1 s", Met: took < time.Second, Note: fmt.Sprintf("%.2f s of processor time", cpu.Seconds())},
		{Name: "restart: requests", Value: sent.total(), Unit: "", Note: sent.String()},
	}, nil
}

func (s *scale) start(ctx context.Context) (*daemon, error) {
	return s.bench.start(ctx, filepath.Join(s.dir, "forge.cue"))
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// burst edits every object while the daemon is stopped, and measures from when
// it goes on until all are as they were. The floor is the same number of
// server-side applies, after the same edits.
func (s *scale) burst(ctx context.Context, d *daemon) ([]result, error) {
	if err := wait(ctx, 3*time.Second); err != nil {
		return nil, err
	}
	before, err := d.requests(ctx)
	if err != nil {
		return nil, err
	}
	ours := "forged.dev/instance=scale"
	if err := d.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return nil, err
	}
	err = s.editAll(ctx, ours)
	var healed func() error
	if err == nil {
		healed, err = s.restored(ctx, ours, s.objects())
	}
	began := time.Now()
	if err := errors.Join(err, d.cmd.Process.Signal(syscall.SIGCONT)); err != nil {
		return nil, err
	}
	if err := healed(); err != nil {
		return nil, err
	}
	took := time.Since(began)
	after, err := d.requests(ctx)
	if err != nil {
		return nil, err
	}
	floor, err := s.healFloor(ctx)
	if err != nil {
		return nil, err
	}
	sent := after.since(before)
	return []result{
		{Name: fmt.Sprintf("burst of %d edits healed", s.objects()), Value: took.Seconds(), Unit: "s", Floor: floor.Seconds(), Target: "≤ 1.2× floor", Met: took.Seconds() <= 1.2*floor.Seconds()},
		{Name: "burst: requests", Value: sent.total(), Unit: "", Floor: float64(s.objects()), Note: sent.String()},
	}, nil
}

func parse(text string) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	return u, json.Unmarshal([]byte(text), &u.Object)
}
