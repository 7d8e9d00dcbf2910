package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/external"
)

const (
	// imageVariable names the image that Jobs of forged run, where that of the
	// release is not to be had.
	imageVariable = "FORGED_IMAGE"

	imageRepository = "ghcr.io/forged/forged"

	// answerFile is where Kubernetes looks for what a container leaves behind.
	answerFile = "/dev/termination-log"
)

var released = regexp.MustCompile(`^v?([0-9]+\.[0-9]+\.[0-9]+)$`)

// ownImage is an image of this forged; empty: there is none of this build.
func ownImage(getenv func(string) string) string {
	if image := getenv(imageVariable); image != "" {
		return image
	}
	if m := released.FindStringSubmatch(buildInfo().Version); m != nil {
		return imageRepository + ":" + m[1]
	}
	return ""
}

// newProbe is what a Job in a cluster runs to ask a service of somebody else.
func newProbe(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:     external.ProbeCommand + " SERVICE",
		Short:   "Ask a service of somebody else whether it lets the app in, for another process of this program",
		Example: "  forged probe postgres --secrets=/run/forged # is for forged itself",
		Hidden:  true,
		Args:    cobra.ExactArgs(1),
	}
	var spec forge.ProbeSpec
	var dir, file string
	c.Flags().StringVar(&dir, "secrets", "", "directory with what it takes to log in")
	c.Flags().StringVar(&spec.SSLMode, "ssl-mode", "verify-full", "how much of the certificate is checked")
	c.Flags().StringVar(&spec.Address, "address", "", "of Temporal")
	c.Flags().StringVar(&spec.TemporalNamespace, "namespace", "", "of Temporal")
	c.Flags().BoolVar(&spec.TLS, "tls", false, "encrypt the connection to Temporal")
	c.Flags().StringVar(&file, "answer", answerFile, "where the answer is left")
	c.RunE = func(c *cobra.Command, args []string) error {
		spec.Service = args[0]
		told, err := external.Probe(c.Context(), spec, dir)
		if err != nil {
			return err
		}
		raw, err := told.JSON()
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			return fmt.Errorf("leave the answer behind: %w", err)
		}
		_, err = fmt.Fprintln(s.out, strings.TrimSpace(told.String()))
		return err
	}
	return c
}
