package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"forged.dev/forged/charts"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/helm/chartsource"
	"forged.dev/forged/internal/providers/helm/offline"
	"forged.dev/forged/internal/rbac"
	"forged.dev/forged/internal/secret"
)

func newRBAC(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "rbac ENVIRONMENT",
		Short: "Write the roles that forged needs for an environment",
		Long: `Write the roles and bindings that let somebody run forged for an environment, and
nothing besides: what is in them follows from what the environment asks for and from
what its charts make. Charts of registries and repositories are fetched; no cluster is
asked.

An environment in several clusters has roles in each of them; name one with --region.
What is granted, and what not, is told in docs/least-privilege.md.`,
		Example: `  forged rbac prod --serviceaccount ci/forged | kubectl --context prod apply -f -
  forged rbac prod --user jane@acme.com -o json
  forged rbac prod --region eu --group deployers`,
		Args: cobra.ExactArgs(1),
	}
	var (
		config  string
		tags    []string
		region  string
		name    string
		subject rbac.Subject
		account string
	)
	c.Flags().StringVarP(&config, "config", "c", "forge.cue", "the forge to read: a file, or a directory")
	_ = c.MarkFlagFilename("config", "cue")
	tagFlag(c, &tags)
	c.Flags().StringVar(&region, "region", "", "the region, of an environment in several clusters")
	c.Flags().StringVar(&account, "serviceaccount", "", "give the rights to this ServiceAccount: NAMESPACE/NAME")
	c.Flags().StringVar(&subject.User, "user", "", "give the rights to this user (default: that of platform.impersonate)")
	c.Flags().StringVar(&subject.Group, "group", "", "give the rights to this group")
	c.Flags().StringVar(&name, "name", "", "name of the roles (default: forged-APP-ENVIRONMENT)")
	c.MarkFlagsMutuallyExclusive("serviceaccount", "user", "group")
	output := choiceFlag(c, "output", "o", "form of the answer", "yaml", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		e, err := newEvaluator(false)
		if err != nil {
			return err
		}
		l, err := loadFile(c.Context(), e, configFlags{config: config, tags: tags, environments: args}, s)
		if err != nil {
			return err
		}
		env := l.generation.Environments[0]
		if account != "" {
			var ok bool
			if subject.ServiceAccountNamespace, subject.ServiceAccount, ok = strings.Cut(account, "/"); !ok || subject.ServiceAccount == "" {
				return fmt.Errorf("--serviceaccount %s: want NAMESPACE/NAME", account)
			}
		}
		if org := onlyOnFly(env.Resources); org != "" {
			return fmt.Errorf("environment %s is on Fly, which has no roles: forged acts with the token that platform.token leads to; make one with \"fly tokens create org --org %s\"", env.Name, org)
		}
		place, err := placeOf(env.Name, env.Resources, region)
		if err != nil {
			return err
		}
		if subject == (rbac.Subject{}) {
			subject = impersonated(place.Target.Impersonate)
		}
		if subject == (rbac.Subject{}) {
			return errors.New("who gets the rights is not said: name --serviceaccount NAMESPACE/NAME, --user or --group")
		}
		place.Prune, place.DestroyData = env.Policy.Prune, !slices.Contains([]string{"", "never"}, env.Policy.DestroyData)
		if place.Objects, err = chartObjects(c.Context(), l.dir, place.Resources); err != nil {
			return err
		}
		rights := rbac.Of(place)
		if name == "" {
			name = "forged-" + l.forge.App.Name + "-" + env.Name
		}
		for _, note := range rights.Notes {
			_, _ = fmt.Fprintln(s.err, "forged: note:", note)
		}
		return writeObjects(s.out, output.value, rights.Objects(name, subject))
	}
	return c
}

// onlyOnFly is the organization of an environment that is on Fly as a whole.
func onlyOnFly(resources []forge.Resource) string {
	org := ""
	for _, r := range resources {
		spec, ok := r.Spec.(forge.OnFly)
		if !ok {
			return ""
		}
		org = spec.OnFly().Org
	}
	return org
}

// impersonated is the subject behind a user that forged acts as. That of a
// ServiceAccount has a name of its own form.
func impersonated(user string) rbac.Subject {
	if rest, ok := strings.CutPrefix(user, "system:serviceaccount:"); ok {
		if namespace, name, ok := strings.Cut(rest, ":"); ok {
			return rbac.Subject{ServiceAccountNamespace: namespace, ServiceAccount: name}
		}
	}
	return rbac.Subject{User: user}
}

// placeOf is the part of an environment that is in one cluster.
func placeOf(environment string, resources []forge.Resource, region string) (rbac.Place, error) {
	var p rbac.Place
	var regions []string
	for _, r := range resources {
		_, at, _ := strings.Cut(r.ID.Name, "@")
		if at != "" && !slices.Contains(regions, at) {
			regions = append(regions, at)
		}
		if at == region {
			p.Target = r.Target
			p.Resources = append(p.Resources, r)
		}
	}
	slices.Sort(regions)
	switch {
	case region == "" && len(regions) > 0:
		return p, fmt.Errorf("environment %s is in several clusters, each of which has roles of its own: name one with --region: %s", environment, strings.Join(regions, ", "))
	case len(p.Resources) == 0 && len(regions) == 0:
		return p, fmt.Errorf("environment %s has no regions; leave --region out", environment)
	case len(p.Resources) == 0:
		return p, fmt.Errorf("environment %s has no region %q; it has %s", environment, region, strings.Join(regions, ", "))
	}
	return p, nil
}

// chartObjects are the objects that the charts of releases make.
func chartObjects(ctx context.Context, dir string, resources []forge.Resource) (map[forge.ID][]rbac.Object, error) {
	source := chartsource.New(chartsource.Options{Logger: slog.New(slog.DiscardHandler)})
	defer source.Close()
	pass := (&secret.Resolver{Dir: dir}).Pass(0)
	all := map[forge.ID][]rbac.Object{}
	for _, r := range resources {
		spec, ok := r.Spec.(forge.ReleaseSpec)
		if !ok {
			continue
		}
		objects, err := releaseObjects(ctx, spec, dir, source, pass)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.ID, err)
		}
		all[r.ID] = objects
	}
	return all, nil
}

func releaseObjects(ctx context.Context, spec forge.ReleaseSpec, dir string, source *chartsource.Source, pass *secret.Pass) ([]rbac.Object, error) {
	var files []charts.File
	if spec.Source == nil {
		var err error
		if files, err = charts.Files(spec.Chart); err != nil {
			return nil, err
		}
	} else {
		from := *spec.Source
		if from.Path != "" {
			from.Path = inDir(dir, from.Path)
		}
		loaded, err := source.Load(ctx, chartsource.Request{ChartSource: from, Secret: pass.Resolve})
		if err != nil {
			return nil, err
		}
		files = loaded.Files
	}
	values, err := withInputs(spec)
	if err != nil {
		return nil, err
	}
	chart := offline.Of(files)
	if spec.Source != nil {
		chart.Apart = newTemplates()
		defer chart.Apart.Close()
	}
	texts, err := chart.Render(ctx, spec.Name, spec.Namespace, values)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name, "crds/") {
			texts[f.Name] = string(f.Data)
		}
	}
	var objects []rbac.Object
	for name, text := range texts {
		found, err := objectsIn(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		objects = append(objects, found...)
	}
	slices.SortFunc(objects, func(a, b rbac.Object) int {
		return strings.Compare(a.GVK.String()+a.Name, b.GVK.String()+b.Name)
	})
	return objects, nil
}

// withInputs are the values of a release with something in the place of what
// other resources make.
func withInputs(spec forge.ReleaseSpec) (map[string]any, error) {
	text, err := json.Marshal(spec.Values)
	if err != nil {
		return nil, err
	}
	values := map[string]any{}
	if err := json.Unmarshal(text, &values); err != nil {
		return nil, err
	}
	for _, input := range spec.Inputs {
		at := values
		for _, key := range input.Path[:len(input.Path)-1] {
			next, ok := at[key].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[key] = next
			}
			at = next
		}
		at[input.Path[len(input.Path)-1]] = strings.Repeat("0", 32)
	}
	return values, nil
}

// objectsIn are the objects in a text of YAML documents.
func objectsIn(text string) ([]rbac.Object, error) {
	var objects []rbac.Object
	for decoder := utilyaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096); ; {
		u := &unstructured.Unstructured{}
		err := decoder.Decode(&u.Object)
		switch {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, err
		case len(u.Object) == 0:
			continue
		}
		add := func(u *unstructured.Unstructured) {
			if strings.HasPrefix(u.GetAnnotations()["helm.sh/hook"], "test") {
				return // forged runs no tests of charts
			}
			gv, _ := schema.ParseGroupVersion(u.GetAPIVersion())
			objects = append(objects, rbac.Object{GVK: gv.WithKind(u.GetKind()), Name: u.GetName()})
		}
		if !u.IsList() {
			add(u)
			continue
		}
		if err := u.EachListItem(func(o runtime.Object) error { add(o.(*unstructured.Unstructured)); return nil }); err != nil {
			return nil, err
		}
	}
}

func writeObjects(w io.Writer, format string, objects []any) error {
	if format == "json" {
		return writeJSON(w, map[string]any{"apiVersion": metav1.SchemeGroupVersion.Version, "kind": "List", "items": objects})
	}
	for i, o := range objects {
		text, err := yaml.Marshal(o)
		if err != nil {
			return err
		}
		if i > 0 {
			text = append([]byte("---\n"), text...)
		}
		text = bytes.ReplaceAll(text, []byte("  creationTimestamp: null\n"), nil)
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	return nil
}
