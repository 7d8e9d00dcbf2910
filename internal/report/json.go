package report

import (
	"encoding/json"
	"io"

	"forged.dev/forged/schema"
)

// The JSON form is stable: docs/reference/validate.md describes it, and keys
// are only ever added.
type jsonReport struct {
	Valid    bool        `json:"valid"`
	Errors   int         `json:"errors"`
	Warnings int         `json:"warnings"`
	Files    []jsonForge `json:"files"`
}

type jsonForge struct {
	File         string             `json:"file"`
	Valid        bool               `json:"valid"`
	App          string             `json:"app,omitempty"`
	Environments []string           `json:"environments,omitempty"`
	Diagnostics  schema.Diagnostics `json:"diagnostics,omitempty"`
	Error        string             `json:"error,omitempty"`
}

// json writes the report for programs.
func (r Report) json(w io.Writer) error {
	j := jsonReport{Valid: r.Accepted(), Files: []jsonForge{}}
	j.Errors, j.Warnings = r.count()
	for _, f := range r.Forges {
		x := jsonForge{
			File: f.File, Valid: r.accepts(f), App: f.App, Environments: f.Environments, Diagnostics: f.Diagnostics,
		}
		if f.Err != nil {
			x.Error = f.Err.Error()
		}
		j.Files = append(j.Files, x)
	}
	return encode(w, j)
}

func encode(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
