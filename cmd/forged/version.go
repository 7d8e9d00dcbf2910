package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"forged.dev/forged/internal/server"
)

// Set by the Makefile; what `go install` builds reads them off the build
// information instead.
var (
	version  = ""
	revision = ""
)

// buildInfo says which forged this is.
func buildInfo() server.BuildInfo {
	b := server.BuildInfo{Version: version, Revision: revision, GoVersion: runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		if b.Version == "" {
			b.Version = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && b.Revision == "" {
				b.Revision = s.Value
			}
		}
	}
	if b.Version == "" {
		b.Version = "(devel)"
	}
	if b.Revision == "" {
		b.Revision = "unknown"
	}
	return b
}

// versionLine is what forged version and forged --version say.
func versionLine(b server.BuildInfo) string {
	return fmt.Sprintf("forged %s (revision %s, %s)", b.Version, b.Revision, b.GoVersion)
}

func newVersion(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "version",
		Short: "Say which forged this is",
		Example: `  forged version
  forged version -o json`,
		Args: noArguments(""),
	}
	output := choiceFlag(c, "output", "o", "form of the answer", "text", "json")
	c.RunE = func(*cobra.Command, []string) error {
		b := buildInfo()
		if output.value == "json" {
			return writeJSON(s.out, b)
		}
		_, err := fmt.Fprintln(s.out, versionLine(b))
		return err
	}
	return c
}
