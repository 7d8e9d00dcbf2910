package main

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

func newPlan(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "plan",
		Short: "Show what would change, and why",
		Long: `Compare forge.cue with what runs and show the steps that would remove the
difference, each with its reason. Nothing is changed.

Exit codes: 0 nothing to change, 2 changes are pending, 1 an error.`,
		Example: `  forged plan
  forged plan -e prod
  forged plan -o json | jq '.environments[].items[].steps'`,
		Args: noArguments("name the forge with --config: COMMAND -c ARGUMENT"),
	}
	var flags configFlags
	flags.add(c)
	output := choiceFlag(c, "output", "o", "form of the answer", "text", "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx := c.Context()
		e, err := newEvaluator(false)
		if err != nil {
			return err
		}
		l, err := loadFile(ctx, e, flags, s)
		if err != nil {
			return err
		}
		w, err := l.begin(ctx, worldOptions{dir: l.dir, instance: instanceOf(flags, l), log: newLogger(s.err, "text", slog.LevelError)}, s)
		if err != nil {
			return err
		}
		defer w.close()
		l.warn(s)
		p, err := w.engine.Plan(ctx, l.generation, nil)
		if err != nil {
			return err
		}
		if output.value == "json" {
			err = writeJSON(s.out, p)
		} else {
			err = showPlan(newPrinter(s.out), p)
		}
		switch {
		case err != nil:
			return err
		case p.Failed():
			return fmt.Errorf("not everything could be planned; the errors above say what could not")
		case p.Changes():
			return &exit{exitPending, nil}
		}
		return nil
	}
	return c
}

func instanceOf(f configFlags, l *loaded) string {
	if f.instance != "" {
		return f.instance
	}
	return l.forge.App.Name
}

// marks are the signs that stand before steps, and their colours.
var marks = map[reconcile.Action]struct {
	sign  string
	color color
}{
	reconcile.ActionCreate: {"+", green},
	reconcile.ActionUpdate: {"~", yellow},
	reconcile.ActionHeal:   {"!", cyan},
	reconcile.ActionRepair: {"!", cyan},
	reconcile.ActionDelete: {"-", red},
	reconcile.ActionForget: {"=", dim},
}

// mostChanges is how many fields of one step are shown.
const mostChanges = 8

func showPlan(p *printer, plan *reconcile.Plan) error {
	var t tally
	known := map[trouble]string{}
	for i, env := range plan.Environments {
		if i > 0 {
			p.line(plain, "")
		}
		p.line(bold, fmt.Sprintf("%s  %s %s, mode %s", env.Name, env.Platform, env.Target, env.Mode))
		if !env.Opens.IsZero() {
			p.line(dim, "  no change before "+env.Opens.UTC().Format(time.RFC3339)+", by policy.windows")
		}
		if env.Mode == forge.ModePaused {
			p.line(dim, "  not looked at: the mode is paused")
		}
		if env.Platform == forge.PlatformFKS {
			p.wrapped(dim, "  on Fly Kubernetes: ", "no Ingress, cert-manager, autoscaler or NetworkPolicy: Fly's edge and certificates, "+
				"a fixed number of replicas, and no pod is kept from another")
		}
		shown := showTroubles(p, env, known)
		for _, item := range env.Items {
			if !shown[item.ID] && item.Left == nil {
				showItem(p, item)
			}
		}
		showLeft(p, env, shown)
		t.add(env)
	}
	p.whence()
	p.line(plain, "")
	p.line(bold, t.String())
	return p.err
}

func showItem(p *printer, item reconcile.Item) {
	name, kept := "  "+nameOf(item.ID), "no longer asked for, kept: "+item.Kept
	if item.Left != nil { // below its place
		home, _, _, _ := item.ID.Home()
		name, kept = "  "+nameOf(home), "kept: "+item.Kept
	}
	switch {
	case item.Error != nil:
		p.line(red, name)
		showError(p, "    ", item.Error)
	case item.Kept != "":
		p.wrapped(dim, name+"  ", kept)
		return
	case len(item.Steps) == 0 && item.Waiting == "" && item.Health.Status == reconcile.Failed:
		p.wrapped(yellow, name+"  ", "failed: "+item.Health.Message)
	case len(item.Steps) == 0 && item.Waiting == "":
		p.wrapped(dim, name+"  ", "as it should be"+healthNote(item.Health))
	default:
		p.line(plain, name)
	}
	if item.Waiting != "" {
		p.wrapped(yellow, "    ? ", item.Waiting)
	}
	for _, step := range item.Steps {
		step.ID, _, _, _ = step.ID.Home()
		showStep(p, step)
	}
}

// wholeObject tells "Service shop/app" from a field of it.
func wholeObject(path string) bool {
	kind, name, ok := strings.Cut(path, " ")
	return ok && !strings.ContainsAny(kind, ".:[") && !strings.Contains(name, " ")
}

func healthNote(h reconcile.Health) string {
	if h.Status == reconcile.Ready || h.Status == "" {
		return ""
	}
	if h.Message == "" {
		return ", " + string(h.Status)
	}
	return ", " + string(h.Status) + ": " + h.Message
}

func showStep(p *printer, step reconcile.Step) {
	m := marks[step.Action]
	blocked := step.Blocked
	step.Blocked = ""
	p.wrapped(m.color, "    "+m.sign+" ", step.String())
	showChanges(p, "        ", flat(step.Changes))
	showFitted(p, step)
	for _, lost := range step.Destroys {
		p.wrapped(red, "      destroys: ", lost)
	}
	if blocked != "" {
		p.wrapped(red, "      blocked: ", blocked)
	}
}

// showFitted shows what was made of what a step brings in for Fly Kubernetes to
// run it: what is new, and how much there is besides.
func showFitted(p *printer, step reconcile.Step) {
	const indent = "          "
	if len(step.Fitted) > 0 {
		p.line(dim, "        fitted to Fly Kubernetes:")
		showChanges(p, indent, onOneLine(step.Fitted))
	}
	switch n := step.AsFit; {
	case n == 0:
	case len(step.Fitted) > 0:
		p.wrapped(dim, indent, fmt.Sprintf("and %s as before; forged render --objects shows them", count(n, "place")))
	default:
		p.wrapped(dim, "        ", fmt.Sprintf("fitted to Fly Kubernetes as before, in %s; forged render --objects shows them", count(n, "place")))
	}
}

// mostOfValue is how much of a value is shown that is more than a line.
const mostOfValue = 80

// onOneLine has values that are YAML of several lines as the JSON of one, as
// the values of other changes are.
func onOneLine(changes []reconcile.Change) []reconcile.Change {
	line := func(s string) string {
		if !strings.Contains(s, "\n") {
			return s
		}
		if json, err := yaml.YAMLToJSON([]byte(s)); err == nil {
			s = string(json)
		}
		return fit(strings.Join(strings.Fields(s), " "), mostOfValue)
	}
	out := slices.Clone(changes)
	for i := range out {
		out[i].From, out[i].To = line(out[i].From), line(out[i].To)
	}
	return out
}

// flat has values of several lines, scripts for example, on one.
func flat(changes []reconcile.Change) []reconcile.Change {
	line := func(s string) string {
		if !strings.Contains(s, "\n") {
			return s
		}
		return fit(strings.Join(strings.Fields(s), " "), mostOfValue)
	}
	out := slices.Clone(changes)
	for i := range out {
		out[i].From, out[i].To = line(out[i].From), line(out[i].To)
	}
	return out
}

// showChanges shows the first of some changes.
func showChanges(p *printer, indent string, changes []reconcile.Change) {
	for _, c := range changes[:min(mostChanges, len(changes))] {
		switch {
		case c.From == "" && c.To == "":
			p.wrapped(dim, indent, c.Path)
		case c.From == "" && wholeObject(c.Path):
			p.wrapped(dim, indent, c.Path+": "+c.To)
		default:
			p.wrapped(dim, indent, fmt.Sprintf("%s: %s → %s", c.Path, orNone(c.From), orNone(c.To)))
		}
	}
	if more := len(changes) - mostChanges; more > 0 {
		p.line(dim, fmt.Sprintf("%sand %d more; -o json shows all", indent, more))
	}
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

func showError(p *printer, indent string, e *reconcile.ErrorStatus) {
	p.wrapped(red, indent+"error: ", strings.TrimSuffix(e.Text, " ("+e.Hint+")"))
	if e.Hint != "" {
		p.wrapped(cyan, indent+"hint: ", e.Hint)
	}
}

// environmentsOf names the environments of a generation.
func environmentsOf(g reconcile.Generation) []string {
	names := make([]string, 0, len(g.Environments))
	for _, env := range g.Environments {
		names = append(names, env.Name)
	}
	slices.Sort(names)
	return names
}
