package main

import (
	"io"

	"github.com/spf13/cobra"

	"forged.dev/forged/schema"
)

func newSchema(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "schema",
		Short: "Print the language of forge.cue",
		Long: `Print the language of forge.cue: as CUE, a package that CUE's own tools import; as
JSON Schema (draft 2020-12), for editors that know JSON and YAML; or as Markdown, the
reference that people read. forged init writes the CUE to where those tools look for it.`,
		Example: `  forged schema | less
  forged schema --format jsonschema > forge.schema.json
  forged schema --format markdown > language.md`,
		Args: noArguments("the form is a flag: --format cue, jsonschema or markdown"),
	}
	form := choiceFlag(c, "format", "", "form of the answer", "cue", "jsonschema", "markdown")
	c.RunE = func(*cobra.Command, []string) error {
		text := ""
		switch form.value {
		case "cue":
			text = schema.CUE()
		case "jsonschema":
			text = string(schema.JSONSchema())
		case "markdown":
			text = schema.Reference()
		}
		_, err := io.WriteString(s.out, text)
		return err
	}
	return c
}
