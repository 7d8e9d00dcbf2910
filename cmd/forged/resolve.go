package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"forged.dev/forged/internal/compile"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
	"forged.dev/forged/internal/secret/sops"
)

// What --resolve looks up.
const (
	resolveNone   = "none"
	resolveStored = "stored" // what is only to be read: a proposal cannot make CI run its commands
	resolveAll    = "all"    // what a command prints as well
)

// resolution looks up where the secrets of forges are said to be.
type resolution struct {
	what         *choice
	environments []string // none: all
	errs         io.Writer
}

func (r *resolution) add(c *cobra.Command) {
	r.what = &choice{resolveNone, []string{resolveNone, resolveStored, resolveAll}}
	f := c.Flags().VarPF(r.what, "resolve", "", "look up each secret where the file says it is: those that are stored somewhere, or all, which runs the commands that print the others")
	f.NoOptDefVal = resolveStored
	_ = c.RegisterFlagCompletionFunc("resolve", cobra.FixedCompletions(r.what.of, cobra.ShellCompDirectiveNoFileComp))
	c.Flags().StringSliceVarP(&r.environments, "environment", "e", nil, "with --resolve: only these environments (may be repeated)")
}

// resolver is nil when nothing is to be looked up.
func (r *resolution) resolver() (func(ctx context.Context, dir string, f *forge.Forge) ([]forge.Finding, error), error) {
	switch {
	case r.what.value != resolveNone:
		return r.look, nil
	case len(r.environments) > 0:
		return nil, errors.New("--environment is for --resolve: without it all environments are checked")
	}
	return nil, nil
}

// misplaced complains about --resolve all, which names a file all.
func (r *resolution) misplaced(c *cobra.Command, files []string) error {
	if !c.Flags().Changed("resolve") || len(files) == 0 || !slices.Contains(r.what.of, files[0]) {
		return nil
	}
	if _, err := os.Lstat(files[0]); err == nil {
		return nil
	}
	return fmt.Errorf("there is no file %s; write --resolve=%[1]s, with an equals sign", files[0])
}

// look finds the secrets that are not where the forge says they are. An error
// names those of which that is not known.
func (r *resolution) look(ctx context.Context, dir string, f *forge.Forge) ([]forge.Finding, error) {
	envs, err := r.chosen(f)
	if err != nil {
		return nil, err
	}
	klog.SetSlogLogger(slog.New(slog.DiscardHandler)) // what matters of it comes back as an error
	w, err := newWorld(worldOptions{dir: dir, instance: f.App.Name, log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	defer w.close()
	l := &looking{all: r.what.value == resolveAll, world: w, pass: (&secret.Resolver{Dir: dir}).Pass(time.Hour)}
	var names []string
	for _, env := range envs {
		names = append(names, env.Name)
		refs := f.References(env)
		places, err := l.placesOf(ctx, env, refs)
		for _, ref := range refs {
			if ref.Kubernetes != nil && err != nil {
				l.unknown(ref, "", err)
				continue
			}
			l.reference(ctx, ref, places)
		}
	}
	for _, ref := range f.NotificationReferences(names) {
		l.reference(ctx, ref, nil)
	}
	if len(l.left) > 0 {
		_, _ = fmt.Fprintf(r.errs, "forged: not looked up, because commands print them: %s; --resolve=all runs the commands\n", strings.Join(l.left, ", "))
	}
	if len(l.unread) > 0 {
		return l.findings, fmt.Errorf("not every secret could be looked up:\n  %s", strings.Join(l.unread, "\n  "))
	}
	return l.findings, nil
}

// chosen are the environments to look at.
func (r *resolution) chosen(f *forge.Forge) ([]forge.Environment, error) {
	if len(r.environments) == 0 {
		return f.Environments, nil
	}
	var chosen []forge.Environment
	for _, name := range r.environments {
		i := slices.IndexFunc(f.Environments, func(e forge.Environment) bool { return e.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no environment %q; there is %s", name, strings.Join(names(f.Environments), ", "))
		}
		chosen = append(chosen, f.Environments[i])
	}
	return chosen, nil
}

// site is where an environment has Secrets.
type site struct {
	target    forge.Target
	namespace string
}

// placesOf are the clusters of an environment, if anything refers to them. One that
// is a resource itself is opened.
func (l *looking) placesOf(ctx context.Context, env forge.Environment, refs []forge.Reference) ([]site, error) {
	if !slices.ContainsFunc(refs, func(r forge.Reference) bool { return r.Kubernetes != nil }) {
		return nil, nil
	}
	resources, err := compile.Environment(env)
	if err != nil {
		return nil, err
	}
	var places []site
	for _, r := range resources {
		switch spec := r.Spec.(type) {
		case forge.FlyClusterSpec:
			if err := l.open(ctx, r, env.Policy); err != nil {
				return nil, err
			}
		case forge.SecretsSpec:
			if at := (site{r.Target, spec.Namespace}); !slices.Contains(places, at) {
				places = append(places, at)
			}
		}
	}
	if len(places) == 0 {
		return nil, errors.New("the environment has no cluster that this build could ask")
	}
	return places, nil
}

// open finds the way into a cluster of Fly Kubernetes.
func (l *looking) open(ctx context.Context, cluster forge.Resource, policy forge.Policy) error {
	o, err := l.world.onFly.Observe(ctx, reconcile.Request{Resource: cluster, Policy: policy})
	switch {
	case err != nil:
		return err
	case !o.Exists:
		return fmt.Errorf("cluster %s of organization %s is not in use yet, so that there is nobody to ask; forged plan says what is to be done", cluster.ID.Name, cluster.Target.Org)
	case o.Health.Status != reconcile.Ready:
		return errors.New(o.Health.Message)
	}
	return nil
}

// looking is one look at the secrets of a forge.
type looking struct {
	all      bool
	world    *world
	pass     *secret.Pass
	findings []forge.Finding
	unread   []string
	left     []string // paths of those that were not looked up
}

func (l *looking) reference(ctx context.Context, ref forge.Reference, places []site) {
	switch {
	case ref.Generate != nil:
	case ref.Kubernetes != nil:
		for _, at := range places {
			err := l.world.clusters.CheckSource(ctx, at.target, at.namespace, *ref.Kubernetes, ref.MultiLine)
			l.note(ref, "in the cluster of "+at.target.String()+": ", err)
		}
	case !l.all && (ref.OP != "" || len(ref.Exec) > 0):
		if path := strings.Join(ref.Path, "."); !slices.Contains(l.left, path) {
			l.left = append(l.left, path)
		}
	case ref.MultiLine:
		_, err := l.pass.ResolveText(ctx, ref.SecretRef)
		l.note(ref, "", err)
	default:
		_, err := l.pass.Resolve(ctx, ref.SecretRef)
		l.note(ref, "", err)
	}
}

// note keeps what came out of one look. Environments that share a reference
// share the finding.
func (l *looking) note(ref forge.Reference, where string, err error) {
	switch {
	case err == nil:
	case kubernetes.Unread(err) || secret.Unread(err):
		l.unknown(ref, where, err)
	default:
		f := forge.Finding{Path: ref.Path, Rule: "secret-missing", Message: where + err.Error(), Hint: hintFor(ref.SecretRef, err)}
		if !slices.ContainsFunc(l.findings, func(g forge.Finding) bool { return g.Message == f.Message && slices.Equal(g.Path, f.Path) }) {
			l.findings = append(l.findings, f)
		}
	}
}

// unknown notes that nothing is known of a secret.
func (l *looking) unknown(ref forge.Reference, where string, err error) {
	text := strings.Join(ref.Path, ".") + ": " + where + err.Error()
	if !slices.Contains(l.unread, text) {
		l.unread = append(l.unread, text)
	}
}

func hintFor(ref forge.SecretRef, err error) string {
	switch {
	case ref.Env != "":
		return "set it where forged runs, or name another source"
	case ref.Kubernetes != nil:
		return "make it in the cluster, or name another Secret or key"
	case errors.Is(err, sops.ErrNotEncrypted):
		return "sops encrypt --in-place " + ref.SOPS.File + " encrypts it; what was in it in plain has to be replaced at its source"
	case errors.Is(err, sops.ErrChanged):
		return "take it back from version control, and change it with sops edit only"
	case errors.Is(err, sops.ErrNoKey):
		return "sops edit " + ref.SOPS.File + " opens it"
	}
	return ""
}
