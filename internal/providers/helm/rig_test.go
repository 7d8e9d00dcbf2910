package helm

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/kube"
	helmrelease "helm.sh/helm/v3/pkg/release"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"forged.dev/forged/charts"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/helm/render"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/sandboxtest"
	"forged.dev/forged/internal/secret"
)

// templatesCommand has this binary play the child that renders templates.
const templatesCommand = "templates"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == templatesCommand {
		if err := render.Serve(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	kube.ManagedFieldsManager = "helm" // as in the helm command
	os.Exit(sandboxtest.Main(m))
}

// demoChart is small enough to reason about and has every shape that went
// wrong for somebody: a map, a list with merge keys, a list of maps, quantities
// that the server rewrites, and an object that comes and goes.
var demoChart = map[string]string{
	"Chart.yaml":  "apiVersion: v2\nname: demo\nversion: 1.0.0\n",
	"values.yaml": "level: info\nreplicas: 1\nextra: false\nextraEnv: {}\nkeys: {}\nkind: ConfigMap\n",
	"templates/all.yaml": `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, labels: {tier: "one"}}
data:
  level: {{ .Values.level | quote }}
  {{- range $k, $v := .Values.keys }}
  {{ $k | quote }}: {{ $v | quote }}
  {{- end }}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8000}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      {{- if .Values.nowhere }}
      nodeSelector: {there.is: no-such-node}
      {{- end }}
      containers:
      - name: web
        image: registry.example/web:1.0.0
        ports: [{containerPort: 8000}]
        env:
        - {name: LEVEL, value: {{ .Values.level | quote }}}
        {{- range $k, $v := .Values.extraEnv }}
        - {name: {{ $k | quote }}, value: {{ $v | quote }}}
        {{- end }}
        resources: {requests: {cpu: "0.5", memory: 64Mi}}
{{- if .Values.extra }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: extra}
data: {k: v}
{{- end }}
`,
}

func chartFiles(string) ([]charts.File, error) {
	var out []charts.File
	for name, text := range demoChart {
		out = append(out, charts.File{Name: name, Data: []byte(text)})
	}
	return out, nil
}

// rig is one release of the demo chart and a provider that looks after it.
type rig struct {
	t        *testing.T
	env      *sandboxtest.Env
	target   forge.Target
	clusters *kubernetes.Clusters
	p        *Provider
	requests atomic.Int64
	events   chan reconcile.Event
	values   map[string]any
	mode     forge.Mode
	policy   forge.Policy      // but for the mode
	more     map[string]string // files of the chart
	key      string            // of checksums; empty: the usual one
	timeout  int               // seconds
	fitter   kubernetes.Fitter
	rules    forge.Rules
}

const releaseName = "shop"

func newRig(t *testing.T) *rig {
	t.Helper()
	env := sandboxtest.Cluster(t)
	env.CreateNamespace(t)
	r := &rig{t: t, env: env, target: env.Target(), values: map[string]any{}, mode: forge.ModeApply}
	r.start()
	t.Cleanup(r.stop)
	return r
}

// start makes a provider that knows nothing yet, as after a start of forged.
func (r *rig) start() {
	r.clusters = kubernetes.NewClusters(kubernetes.Options{
		Instance: r.env.Instance,
		OnRequest: func(_ forge.Target, verb string, _ int) {
			if verb != "WATCH" {
				r.requests.Add(1)
			}
		},
	})
	r.p = New(Options{Clusters: r.clusters, Embedded: r.files, Fitter: r.fitter, Logger: slog.New(slog.DiscardHandler)})
	r.events = make(chan reconcile.Event, 1000)
	clusters, p, events := r.clusters, r.p, r.events
	watching := make(chan struct{})
	go func() {
		close(watching)
		_ = p.Watch(context.Background(), func(e reconcile.Event) { events <- e }) // ends with the clusters
	}()
	<-watching
	_ = clusters
}

func (r *rig) stop() {
	if r.clusters != nil {
		r.clusters.Close()
		r.clusters = nil
	}
}

func (r *rig) restart() {
	r.stop()
	r.start()
}

func (r *rig) request() reconcile.Request {
	policy := r.policy
	policy.Mode = r.mode
	if r.timeout > 0 {
		policy.Timeout = time.Duration(r.timeout) * time.Second
	}
	return reconcile.Request{
		Resource: forge.Resource{
			ID:     forge.ID{Environment: "test", Kind: forge.KindRelease, Name: "app"},
			Target: r.target,
			Needs:  []forge.ID{rigSecrets},
			Spec:   forge.ReleaseSpec{Name: releaseName, Namespace: r.env.Namespace, Chart: "demo", Values: r.values, Rules: r.rules},
		},
		Inputs: map[forge.ID]reconcile.Outputs{rigSecrets: hashKey("test", cmp.Or(r.key, "the usual key"))},
		Policy: policy,
	}
}

// rigSecrets are the Secrets that every release needs.
var rigSecrets = forge.ID{Environment: "test", Kind: forge.KindSecrets, Name: "app"}

// hashKey is the output of the Secrets of an environment that is its key of
// checksums.
func hashKey(environment, key string) reconcile.Outputs {
	return reconcile.Outputs{kubernetes.HashKeyOutput(environment): {Secret: secret.New([]byte(key))}}
}

// plan is what one look would have done.
func (r *rig) plan(req reconcile.Request) []reconcile.Step {
	r.t.Helper()
	o, err := r.p.Observe(r.t.Context(), req)
	if err != nil {
		r.t.Fatal(err)
	}
	steps, err := r.p.Plan(r.t.Context(), req, o)
	if err != nil {
		r.t.Fatalf("plan: %v, %v", steps, err)
	}
	return steps
}

// pass is one look and what follows from it; it returns the steps taken.
func (r *rig) pass(ctx context.Context, req reconcile.Request) ([]reconcile.Step, error) {
	o, err := r.p.Observe(ctx, req)
	if err != nil {
		return nil, err
	}
	steps, err := r.p.Plan(ctx, req, o)
	if err != nil {
		return nil, err
	}
	for i, s := range steps {
		if s.Blocked != "" {
			continue
		}
		o, err := r.p.Apply(ctx, req, s)
		if err != nil {
			return steps, err
		}
		if o.Reason != nil {
			steps[i].Reason = *o.Reason // as the engine does
		}
	}
	return steps, nil
}

// converge passes until there is nothing left to do, and returns all steps.
func (r *rig) converge() []reconcile.Step {
	r.t.Helper()
	var all []reconcile.Step
	for range 6 {
		steps, err := r.pass(r.t.Context(), r.request())
		if err != nil && reconcile.KindOf(err) != reconcile.Stale {
			r.t.Fatalf("pass: %v", err)
		}
		if err != nil {
			r.t.Logf("pass: %v", err)
		}
		if err == nil && len(steps) == 0 {
			return all
		}
		all = append(all, steps...)
	}
	r.t.Fatalf("does not come to rest: %v", all)
	return nil
}

// changed waits until the provider reports a change nobody asked for. object
// may be empty.
func (r *rig) changed(object string) {
	r.t.Helper()
	limit := time.After(time.Minute)
	for {
		select {
		case e := <-r.events:
			if object == "" || e.Object == object {
				return
			}
		case <-limit:
			r.t.Fatalf("no event for %q", object)
		}
	}
}

// drain forgets events of what happened so far.
func (r *rig) drain() {
	for {
		select {
		case <-r.events:
		default:
			return
		}
	}
}

// helm is a stock configuration, as the helm command uses it.
func (r *rig) helm() *action.Configuration {
	r.t.Helper()
	flags := genericclioptions.NewConfigFlags(false)
	flags.KubeConfig, flags.Context, flags.Namespace = &r.env.Kubeconfig, &r.env.Context, &r.env.Namespace
	cfg := new(action.Configuration)
	if err := cfg.Init(flags, r.env.Namespace, "secret", func(string, ...any) {}); err != nil {
		r.t.Fatal(err)
	}
	return cfg
}

func (r *rig) helmUpgrade(values map[string]any) *helmrelease.Release {
	r.t.Helper()
	cfg := r.helm()
	current, err := action.NewGet(cfg).Run(releaseName)
	if err != nil {
		r.t.Fatal(err)
	}
	up := action.NewUpgrade(cfg)
	up.Namespace, up.ReuseValues = r.env.Namespace, true
	rel, err := up.RunWithContext(r.t.Context(), releaseName, current.Chart, values)
	if err != nil {
		r.t.Fatalf("helm upgrade: %v", err)
	}
	return rel
}

// history is what `helm history` shows, oldest first.
func (r *rig) history() string {
	r.t.Helper()
	revs, err := action.NewHistory(r.helm()).Run(releaseName)
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, rel := range revs {
		out = append(out, rel.Info.Status.String())
		r.t.Logf("revision %d %s: %s", rel.Version, rel.Info.Status, rel.Info.Description)
	}
	return strings.Join(out, " ")
}

// live is the state of the release's objects as a person would describe it.
func (r *rig) live() string {
	r.t.Helper()
	ctx, ns := r.t.Context(), r.env.Namespace
	var b strings.Builder
	for _, name := range []string{"settings", "extra"} {
		cm, err := r.env.Client.CoreV1().ConfigMaps(ns).Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			b.WriteString(name + " absent\n")
			continue
		case err != nil:
			r.t.Fatal(err)
		}
		b.WriteString(name + " " + text(cm.Data) + " " + text(cm.Labels) + "\n")
	}
	svc, err := r.env.Client.CoreV1().Services(ns).Get(ctx, "web", metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		b.WriteString("web absent\n")
	case err != nil:
		r.t.Fatal(err)
	default:
		b.WriteString("web " + text(svc.Spec.Ports) + " " + text(svc.Labels) + "\n")
	}
	d, err := r.env.Client.AppsV1().Deployments(ns).Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	c := d.Spec.Template.Spec.Containers
	b.WriteString("web " + text(*d.Spec.Replicas) + " " + text(len(c)) + " " + text(c[0].Env) + " " + text(c[0].Image) + " " + text(c[0].Resources.Requests.Cpu().String()) + "\n")
	return b.String()
}

// ctx is for what is done after the test.
func (r *rig) ctx() context.Context { return context.WithoutCancel(r.t.Context()) }

// eventually waits until ok.
func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			r.t.Fatalf("%s: not within a minute", what)
		}
	}
}

// helmInstall installs the chart as a person would.
func (r *rig) helmInstall(values map[string]any) {
	r.t.Helper()
	in := action.NewInstall(r.helm())
	in.ReleaseName, in.Namespace = releaseName, r.env.Namespace
	files, err := r.files("")
	if err != nil {
		r.t.Fatal(err)
	}
	ch, err := loaded(files)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := in.Run(ch, values); err != nil {
		r.t.Fatal(err)
	}
}
