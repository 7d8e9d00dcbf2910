package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/helm"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/server"
)

func newHistory(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "history [RELEASE]",
		Short: "Show what was rolled out, and when",
		Long: `Show the revisions of each release, the newest first, as Helm has them on record in
the cluster: when, how it ended, who did it, which chart and which images. With
--address also what the forged that runs there has done lately, heals included.

RELEASE is the name of one, as forged status and forged plan show it after
release/: app, postgres, redis, or that of a chart of yours.`,
		Example: `  forged history -e prod
  forged history -e prod app -o json | jq '.[0].revisions[0].images'
  forged history -e prod --address 127.0.0.1:9464`,
		Args: cobra.MaximumNArgs(1),
	}
	var flags configFlags
	flags.add(c)
	c.ValidArgsFunction = flags.completeReleases
	var address string
	c.Flags().StringVar(&address, "address", "", "where forged run listens, to show what it did, too")
	output := choiceFlag(c, "output", "o", "form of the answer", "text", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		ctx := c.Context()
		l, w, err := flags.look(ctx, s)
		if err != nil {
			return err
		}
		defer w.close()
		all := []releaseHistory{}
		for _, env := range l.generation.Environments {
			releases, err := releasesOf(env, args)
			if err != nil {
				return err
			}
			there, err := w.survey(ctx, l, env.Name)
			if err != nil {
				return err
			}
			for _, r := range releases {
				h := releaseHistory{Release: r.ID, Object: objectOf(r), Revisions: []helm.Revision{}, none: "nothing was rolled out"}
				if there.absent {
					h.none = noCluster
				} else if h.Revisions, err = w.releases.History(ctx, r); err != nil {
					return err
				}
				all = append(all, h)
			}
		}
		var done []reconcile.ActionStatus
		if address != "" {
			if done, err = actionsAt(ctx, address, environmentsOf(l.generation)); err != nil {
				return err
			}
		}
		if output.value == "json" {
			if address != "" {
				return writeJSON(s.out, struct {
					Releases []releaseHistory         `json:"releases"`
					Actions  []reconcile.ActionStatus `json:"actions"`
				}{all, done})
			}
			return writeJSON(s.out, all)
		}
		p := newPrinter(s.out)
		showHistory(p, all, time.Now())
		if address != "" {
			showActions(p, done, time.Now())
		}
		return p.err
	}
	return c
}

// releaseHistory is what was rolled out of one release.
type releaseHistory struct {
	Release   forge.ID        `json:"release"`
	Object    string          `json:"object"`
	Revisions []helm.Revision `json:"revisions"` // the newest first
	none      string          // said where there are no revisions
}

// noCluster is said of releases whose cluster has yet to be made.
const noCluster = "there is no cluster yet: nothing was rolled out"

// look reads the forge, and makes a world to look at what there is.
func (f *configFlags) look(ctx context.Context, s streams) (*loaded, *world, error) {
	e, err := newEvaluator(false)
	if err != nil {
		return nil, nil, err
	}
	l, err := loadFile(ctx, e, *f, s)
	if err != nil {
		return nil, nil, err
	}
	w, err := newWorld(worldOptions{dir: l.dir, instance: instanceOf(*f, l), log: newLogger(s.err, "text", slog.LevelError)})
	return l, w, err
}

// surveyed is what a look at the clusters that are resources of an environment says.
type surveyed struct {
	opens  time.Time // when something may be changed there; zero: now
	absent bool      // one of them has yet to be made
}

// survey looks at the clusters that are resources of an environment, and has the
// ways into them known.
func (w *world) survey(ctx context.Context, l *loaded, environment string) (found surveyed, err error) {
	g := l.generation
	g.Environments = slices.DeleteFunc(slices.Clone(g.Environments), func(env reconcile.Environment) bool { return env.Name != environment })
	for i := range g.Environments {
		g.Environments[i].Policy.Mode = forge.ModeObserve // paused or not, a person wants to look
		g.Environments[i].Policy.Prune = false
	}
	p, err := w.engine.Plan(ctx, g, func(id forge.ID) bool { return id.Kind == forge.KindFlyCluster })
	if err != nil {
		return surveyed{}, err
	}
	for _, env := range p.Environments {
		for _, item := range env.Items {
			switch {
			case item.Remove: // the one before, which is not asked for any more
			case item.Error != nil:
				return surveyed{}, fmt.Errorf("%s: %s", item.ID, item.Error.Text)
			case slices.ContainsFunc(item.Steps, func(s reconcile.Step) bool { return s.Action == reconcile.ActionCreate }):
				found.absent = true
			}
		}
		found.opens = env.Opens
	}
	return found, nil
}

// releasesOf are the releases of an environment, or the one that is named.
func releasesOf(env reconcile.Environment, named []string) ([]forge.Resource, error) {
	var all []forge.Resource
	var names []string
	for _, r := range env.Resources {
		if r.ID.Kind == forge.KindRelease {
			all = append(all, r)
			names = append(names, r.ID.Name)
		}
	}
	switch {
	case len(all) == 0:
		hint := ""
		if app := flyAppOf(env); app != "" {
			hint = "; Fly's own record is shown by: fly releases --app " + app
		}
		return nil, fmt.Errorf("nothing in %s is a release%s", env.Name, hint)
	case len(named) == 0:
		return all, nil
	}
	all = slices.DeleteFunc(all, func(r forge.Resource) bool { return r.ID.Name != named[0] })
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no release %q; it has %s", env.Name, named[0], strings.Join(names, ", "))
	}
	return all, nil
}

// flyAppOf is the app that an environment on Fly is; empty: it is none.
func flyAppOf(env reconcile.Environment) string {
	for _, r := range env.Resources {
		if r.ID.Kind == forge.KindFlyApp {
			return r.ID.Name
		}
	}
	return ""
}

func objectOf(r forge.Resource) string {
	spec, _ := r.Spec.(forge.ReleaseSpec)
	return "release " + spec.Namespace + "/" + spec.Name
}

// actionsAt is what the forged that answers at an address has done in some
// environments, the newest first.
func actionsAt(ctx context.Context, address string, environments []string) ([]reconcile.ActionStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	body, err := askStatus(ctx, address)
	if err != nil {
		return nil, err
	}
	var snapshot server.Snapshot
	if err := json.Unmarshal(body, &snapshot); err != nil {
		return nil, fmt.Errorf("what answers at %s is not forged: %w; name another with --address", address, err)
	}
	done := slices.DeleteFunc(snapshot.History, func(a reconcile.ActionStatus) bool { return !slices.Contains(environments, a.ID.Environment) })
	slices.Reverse(done)
	return done, nil
}

func showHistory(p *printer, all []releaseHistory, now time.Time) {
	for i, h := range all {
		if i > 0 {
			p.line(plain, "")
		}
		p.line(bold, h.Release.String()+"  "+h.Object)
		if len(h.Revisions) == 0 {
			p.line(dim, "  "+h.none)
			continue
		}
		rows := [][]string{{"  REVISION", "AGE", "STATUS", "BY", "CHART", "IMAGES"}}
		for _, r := range h.Revisions {
			status := r.Status
			if r.Runs {
				status += ", runs"
			}
			rows = append(rows, []string{fmt.Sprintf("  %d", r.Number), age(now, r.At), status, r.By, r.Chart, strings.Join(r.Images, " ")})
		}
		p.table(rows, 5, func(row, _ int) color {
			switch {
			case row == 0:
				return dim
			case h.Revisions[row-1].Runs:
				return green
			}
			return plain
		})
	}
}

func showActions(p *printer, done []reconcile.ActionStatus, now time.Time) {
	p.line(plain, "")
	if len(done) == 0 {
		p.line(dim, "The forged that runs has done nothing here yet.")
		return
	}
	rows := [][]string{{"DONE", "RESOURCE", "WHAT"}}
	for _, a := range done {
		rows = append(rows, []string{age(now, a.At) + " ago", a.ID.String(), lastAction(&a)})
	}
	p.table(rows, 2, func(row, _ int) color {
		if row == 0 {
			return bold
		}
		return plain
	})
}
