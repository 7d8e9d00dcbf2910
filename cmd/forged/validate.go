package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"forged.dev/forged/schema"
)

func newValidate(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "validate [FILE...]",
		Short: "Check forges, offline",
		Long: `Check forges and say everything that is wrong with them, with line and column.
Each FILE is a forge of its own; - is standard input; without any it is
forge.cue in the working directory. No cluster is asked and no secret is read.

Exit codes: 0 all are valid, 1 at least one is not, 2 one could not be read.`,
		Example: `  forged validate
  forged validate staging/forge.cue prod/forge.cue
  forged validate -o json < forge.cue -
  git ls-files '*forge.cue' | xargs forged validate`,
		Args: cobra.ArbitraryArgs,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"cue"}, cobra.ShellCompDirectiveFilterFileExt
		},
	}
	output := choiceFlag(c, "output", "o", "form of the answer", "text", "json")
	c.RunE = func(c *cobra.Command, files []string) error {
		if len(files) == 0 {
			files = []string{"forge.cue"}
		}
		report := validateAll(c.Context(), files, s)
		if output.value == "json" {
			return report.writeJSON(s)
		}
		return report.writeText(s)
	}
	return c
}

// validation is what validate answers; its JSON form is stable.
type validation struct {
	Valid bool            `json:"valid"`
	Files []validatedFile `json:"files"`
}

type validatedFile struct {
	File         string             `json:"file"`
	Valid        bool               `json:"valid"`
	App          string             `json:"app,omitempty"`
	Environments []string           `json:"environments,omitempty"`
	Diagnostics  schema.Diagnostics `json:"diagnostics,omitempty"`
	Error        string             `json:"error,omitempty"` // why it could not be judged
}

func validateAll(ctx context.Context, files []string, s streams) validation {
	v := validation{Valid: true}
	for _, file := range files {
		f := validateOne(ctx, file, s)
		v.Valid = v.Valid && f.Valid
		v.Files = append(v.Files, f)
	}
	return v
}

func validateOne(ctx context.Context, file string, s streams) validatedFile {
	out := validatedFile{File: file}
	var src schema.Source
	var err error
	if file == "-" {
		out.File = "<stdin>"
		src, err = schema.ReadFrom(out.File, s.in)
	} else {
		src, err = schema.Read(file)
	}
	if err != nil {
		out.Error = err.Error()
		return out
	}
	l, err := load(ctx, src, nil)
	switch {
	case errors.As(err, &out.Diagnostics):
	case err != nil:
		out.Error = err.Error()
	default:
		out.Valid, out.App = true, l.forge.App.Name
		for _, env := range l.forge.Environments {
			out.Environments = append(out.Environments, env.Name)
		}
	}
	return out
}

// exit is how validate ends; what could not be judged outweighs what is
// invalid.
func (v validation) exit(err error) error {
	for _, f := range v.Files {
		if f.Error != "" {
			return &exit{exitNotRun, err}
		}
	}
	if !v.Valid {
		return &exit{exitError, err}
	}
	return nil
}

func (v validation) writeJSON(s streams) error {
	if err := writeJSON(s.out, v); err != nil {
		return &exit{exitNotRun, err}
	}
	return v.exit(nil)
}

func (v validation) writeText(s streams) error {
	var bad []string
	for _, f := range v.Files {
		switch {
		case f.Error != "":
			hint := ""
			if len(v.Files) == 1 && f.File == "forge.cue" {
				hint = "; name the file: forged validate FILE"
			}
			bad = append(bad, f.Error+hint)
		case !f.Valid:
			_ = f.Diagnostics.Write(s.err, schema.WriteOptions{Color: colored(s.err), Excerpt: true})
			bad = append(bad, fmt.Sprintf("%s is invalid: %s", f.File, count(len(f.Diagnostics), "mistake")))
		default:
			if _, err := fmt.Fprintf(s.out, "%s: valid: %s in %s\n", f.File, f.App, strings.Join(f.Environments, ", ")); err != nil {
				return &exit{exitNotRun, err}
			}
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return v.exit(errors.New(strings.Join(bad, "\nforged: ")))
}

func writeJSON(w interface{ Write([]byte) (int, error) }, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
