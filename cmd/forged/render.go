package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"forged.dev/forged/internal/compile"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/schema"
)

func newRender(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "render [FILE]",
		Short: "Show what a forge means, offline",
		Long: `Show what a forge means: the resources that its environments ask for, with what
each needs; with --objects, the objects of Kubernetes that their charts and jobs come to;
or, with --config, the forge itself with every default written. FILE is forge.cue by
default; - is standard input. No cluster is asked, and no secret is read: secrets appear
as references.

Objects for Fly Kubernetes are as they are applied, and before each stands what was done
to it, by the table of rules alone: what a cluster can do beyond it is known to forged plan.
Values that come of other resources are left out.

What --config prints is a forge again, with the same meaning.`,
		Example: `  forged render --config                 # every default, and where values come from
  forged render --config -o yaml -e prod
  forged render -e prod                  # the resources of one environment
  forged render -e prod --objects        # what is applied, after the rules of Fly Kubernetes
  forged render -o json | jq '.resources[].id'`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"cue"}, cobra.ShellCompDirectiveFilterFileExt
		},
	}
	config := c.Flags().Bool("config", false, "show the forge with every default, instead of resources")
	objects := c.Flags().Bool("objects", false, "show the objects that charts and jobs come to, instead of resources")
	c.MarkFlagsMutuallyExclusive("config", "objects")
	var environments []string
	c.Flags().StringSliceVarP(&environments, "environment", "e", nil, "only these environments (may be repeated)")
	var tags []string
	tagFlag(c, &tags)
	output := choiceFlag(c, "output", "o", "form of the answer; resources have none in CUE, and are yaml by default", "cue", "yaml", "json")
	c.RunE = func(c *cobra.Command, files []string) error {
		file := "forge.cue"
		if len(files) > 0 {
			file = files[0]
		}
		src, err := readForge(c.Context(), file, s)
		if err != nil {
			return err
		}
		src.Tags = tags
		whole, warnings, err := fill(c.Context(), src)
		if d := schema.Diagnostics(nil); errors.As(err, &d) {
			return refuse(src.Name(), d, s)
		}
		if err != nil {
			return err
		}
		_ = warnings.Write(s.err, schema.WriteOptions{Color: colored(s.err)})
		envs, err := pick(whole.Forge, environments, src.Name())
		if err != nil {
			return err
		}
		if *config {
			whole.Environments(names(envs)...)
			return renderConfig(s.out, whole, output.value)
		}
		if !c.Flags().Changed("output") {
			output.value = "yaml"
		}
		if *objects {
			return renderObjects(c.Context(), s, src.Dir, envs, output.value)
		}
		return renderResources(s.out, envs, output.value)
	}
	return c
}

// fill is judge for those who want to see the defaults, too.
func fill(ctx context.Context, src schema.Source) (whole *schema.Complete, warnings schema.Diagnostics, err error) {
	e, err := newEvaluator(false)
	if err != nil {
		return nil, nil, err
	}
	type answer struct {
		whole    *schema.Complete
		warnings schema.Diagnostics
		err      error
	}
	done := make(chan answer, 1)
	err = e.Within(ctx, src, func(ctx context.Context) {
		var a answer
		a.whole, a.warnings, a.err = schema.Fill(ctx, src, compile.Check, compile.Gaps)
		done <- a
	})
	if err != nil {
		return nil, nil, err
	}
	a := <-done
	return a.whole, a.warnings, a.err
}

// readForge reads the forge that a command line names.
func readForge(ctx context.Context, file string, s streams) (schema.Source, error) {
	if file == "-" {
		return readInput(ctx, s.in)
	}
	if err := follow(file); err != nil {
		return schema.Source{}, err
	}
	return readFile(ctx, file)
}

// pick are the environments of a forge with these names; without any, all.
func pick(f *forge.Forge, only []string, file string) ([]forge.Environment, error) {
	all := names(f.Environments)
	for _, name := range only {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("there is no environment %q in %s; it has %s", name, file, strings.Join(all, ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(f.Environments), func(e forge.Environment) bool {
		return len(only) > 0 && !slices.Contains(only, e.Name)
	}), nil
}

func names(envs []forge.Environment) []string {
	var all []string
	for _, e := range envs {
		all = append(all, e.Name)
	}
	return all
}

func renderConfig(w io.Writer, whole *schema.Complete, form string) error {
	switch form {
	case "json":
		return writeJSON(w, whole.Value())
	case "yaml":
		return writeYAML(w, whole.Value())
	}
	text, err := whole.CUE()
	if err == nil {
		_, err = w.Write(text)
	}
	return err
}

// renderedResources is what render answers; its JSON form is stable.
type renderedResources struct {
	Resources []renderedResource `json:"resources"`
}

type renderedResource struct {
	ID     forge.ID   `json:"id"`
	Target any        `json:"target,omitempty"`
	Needs  []forge.ID `json:"needs,omitempty"`
	After  []forge.ID `json:"after,omitempty"`
	Spec   any        `json:"spec"`
}

func renderResources(w io.Writer, envs []forge.Environment, form string) error {
	if form == "cue" {
		return fmt.Errorf("resources have no form in CUE; write -o yaml or -o json, or ask for --config")
	}
	out := renderedResources{Resources: []renderedResource{}}
	for _, env := range envs {
		resources, err := compile.Environment(env)
		if err != nil {
			return err
		}
		for _, r := range resources {
			out.Resources = append(out.Resources, renderedResource{
				ID: r.ID, Target: plainly(reflect.ValueOf(r.Target)), Needs: r.Needs, After: r.After,
				Spec: plainly(reflect.ValueOf(r.Spec)),
			})
		}
	}
	if form == "json" {
		return writeJSON(w, out)
	}
	return writeYAML(w, out)
}

func writeYAML(w io.Writer, v any) error {
	text, err := yaml.Marshal(v)
	if err == nil {
		_, err = w.Write(text)
	}
	return err
}

// plainly turns a value of the model into what JSON and YAML have: the fields
// of structs under their names with a small first letter, without those that
// are zero. Specs come from several packages, and none of them has to know of
// this command.
func plainly(v reflect.Value) any {
	if !v.IsValid() {
		return nil
	}
	switch x := v.Interface().(type) {
	case forge.ID:
		return x.String()
	case time.Duration:
		return x.String()
	case json.Number:
		return x
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return plainly(v.Elem())
	case reflect.Struct:
		out := map[string]any{}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() || v.Field(i).IsZero() {
				continue
			}
			value := plainly(v.Field(i))
			if below, ok := value.(map[string]any); ok && f.Anonymous {
				for k, x := range below {
					out[k] = x
				}
				continue
			}
			out[lowerFirst(f.Name)] = value
		}
		return out
	case reflect.Map:
		out := map[string]any{}
		for it := v.MapRange(); it.Next(); {
			out[fmt.Sprint(it.Key())] = plainly(it.Value())
		}
		return out
	case reflect.Slice, reflect.Array:
		out := make([]any, 0, v.Len())
		for i := range v.Len() {
			out = append(out, plainly(v.Index(i)))
		}
		return out
	}
	return v.Interface()
}

// lowerFirst is a Go name as JSON has it: ID is id, CPUTarget is cpuTarget.
func lowerFirst(name string) string {
	r := []rune(name)
	for i := range r {
		if i > 0 && i+1 < len(r) && unicode.IsLower(r[i+1]) || unicode.IsLower(r[i]) {
			break
		}
		r[i] = unicode.ToLower(r[i])
	}
	return string(r)
}
