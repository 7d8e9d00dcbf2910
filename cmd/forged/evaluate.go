package main

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"forged.dev/forged/internal/apart"
	"forged.dev/forged/internal/evaluate"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/helm/render"
	"forged.dev/forged/schema"
)

// evaluateCommand is what a forged calls its child by.
const evaluateCommand = "evaluate"

// newEvaluator bounds evaluations as the environment of the process says.
// always keeps all of them out of this process.
func newEvaluator(always bool) (*evaluate.Evaluator, error) {
	bounds, err := apart.BoundsFrom(os.Getenv)
	if err != nil {
		return nil, err
	}
	return &evaluate.Evaluator{Load: judge, Bounds: bounds, Apart: always, Args: []string{evaluateCommand}}, nil
}

// bounded is judge for commands that read each forge once. After an error that
// is no schema.Diagnostics they are to end.
func bounded() func(context.Context, schema.Source) (*forge.Forge, schema.Diagnostics, error) {
	e, err := newEvaluator(false)
	if err != nil {
		return func(context.Context, schema.Source) (*forge.Forge, schema.Diagnostics, error) { return nil, nil, err }
	}
	return e.Evaluate
}

// templatesCommand is what a forged calls the child by that renders charts.
const templatesCommand = "templates"

// newTemplates bounds the rendering of charts as the environment of the process
// says. A wrong variable is told by whatever evaluates.
func newTemplates() *render.Child {
	bounds, _ := apart.BoundsFrom(os.Getenv)
	return render.NewChild(bounds, templatesCommand)
}

// newTemplatesCommand is the child that a forged starts to render a chart.
func newTemplatesCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use:     templatesCommand,
		Short:   "Render a chart for another process of this program",
		Example: "  forged templates # is for forged itself",
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return render.Serve(c.Context(), s.in, s.out)
		},
	}
}

// readLimit is how long files are waited for. A wrong variable is told by
// whatever evaluates.
func readLimit() time.Duration {
	bounds, _ := apart.BoundsFrom(os.Getenv)
	return bounds.Time
}

// readFile reads a forge, if the system lets us.
func readFile(ctx context.Context, path string) (schema.Source, error) {
	return evaluate.Read(ctx, path, readLimit(), func() (schema.Source, error) { return schema.Read(path) })
}

// readInput reads a forge from standard input, however long it takes.
func readInput(ctx context.Context, in io.Reader) (schema.Source, error) {
	const name = "<stdin>"
	return evaluate.Read(ctx, name, 0, func() (schema.Source, error) { return schema.ReadFrom(name, in) })
}

// newEvaluate is the child that a forged starts to evaluate a forge.
func newEvaluate(s streams) *cobra.Command {
	return &cobra.Command{
		Use:     evaluateCommand,
		Short:   "Evaluate a forge for another process of this program",
		Example: "  forged evaluate # is for forged itself",
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return evaluate.Serve(c.Context(), s.in, s.out, judge)
		},
	}
}
