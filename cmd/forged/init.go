package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"forged.dev/forged/schema"
)

// platformWords are the platforms as --platform has them.
var platformWords = []string{
	"compose", "minikube", "kubernetes", "kubernetes:eks", "kubernetes:gke", "kubernetes:aks", "fks", "fly",
}

func newInit(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Write a first forge.cue",
		Long: `Write a commented forge.cue for the chosen platforms into DIR (the working directory by
default), and beside it what makes cue vet and editors understand it: forge_schema.cue, and
the language in cue.mod. What flags do not say is asked for on a terminal, and otherwise
guessed and told. Nothing is overwritten without --force, and nothing but a valid forge is
written.

A PLATFORM is compose, minikube, kubernetes, kubernetes:eks, kubernetes:gke, kubernetes:aks,
fks or fly, with the name of the environment before it if you like: staging=kubernetes:gke.
CONTEXT and MODE are for every environment that can have them, a HOST for the next one that
others reach; with a name they are for that one: staging=api.example.com. What has no place
is an error: nothing that is given is dropped.

--vendor writes no forge.cue: it brings forge_schema.cue and cue.mod up to date with this
forged.`,
		Example: `  forged init
  forged init --platform minikube --app shop --image ghcr.io/acme/shop:1.4.2
  forged init shop --platform local=minikube,prod=kubernetes:eks --context prod=acme-prod \
      --domain prod=api.example.com --postgres prod=external
  forged init --vendor`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
	}
	var a answers
	flags := c.Flags()
	flags.StringSliceVar(&a.platforms, "platform", nil, "where the app runs: [NAME=]PLATFORM (may be repeated)")
	flags.StringVar(&a.app, "app", "", "name of the app (default: that of the directory)")
	flags.StringVar(&a.image, "image", "", "container image with its tag or digest")
	flags.StringSliceVar(&a.domains, "domain", nil, "host name of the app: [NAME=]HOST (may be repeated)")
	flags.StringSliceVar(&a.contexts, "context", nil, "kubeconfig context of a cluster: [NAME=]CONTEXT (may be repeated)")
	flags.StringVar(&a.org, "org", "", "organization at Fly, for fks and fly")
	flags.StringVar(&a.region, "region", "", "region at Fly, for fks and fly")
	for _, service := range services {
		flags.StringSliceVar(a.modes(service), service, nil, "who runs "+serviceNames[service]+": [NAME=]MODE (may be repeated)")
		_ = c.RegisterFlagCompletionFunc(service, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return allModes(service), cobra.ShellCompDirectiveNoFileComp
		})
	}
	force := flags.Bool("force", false, "overwrite what is there")
	vendor := flags.Bool("vendor", false, "only bring forge_schema.cue and cue.mod up to date")
	_ = c.RegisterFlagCompletionFunc("platform", cobra.FixedCompletions(platformWords, cobra.ShellCompDirectiveNoFileComp))
	for _, name := range []string{"app", "image", "domain", "context", "org", "region"} {
		_ = c.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := saying(c); err != nil {
			return err
		}
		dir := "."
		if len(args) > 0 {
			dir = args[0]
		}
		if *vendor {
			return refreshVendored(c.Context(), s, dir, *force)
		}
		return initForge(c.Context(), s, dir, a, *force)
	}
	return c
}

// saying wants every flag that is given to say something: an empty variable of
// a script is not the same as no flag.
func saying(c *cobra.Command) (err error) {
	c.Flags().Visit(func(f *pflag.Flag) {
		if text := f.Value.String(); err == nil && (text == "" || text == "[]") {
			err = fmt.Errorf("--%s is empty; write a value, or leave the flag out", f.Name)
		}
	})
	return err
}

// services are those that init asks about.
var services = []string{"postgres", "redis", "temporal"}

var serviceNames = map[string]string{"postgres": "PostgreSQL", "redis": "Redis", "temporal": "Temporal"}

// allModes are the modes that a service has on any platform.
func allModes(service string) []string {
	var all []string
	for _, word := range platformWords {
		kind, distribution, _ := strings.Cut(word, ":")
		for _, mode := range schema.Values(kind, distribution, "services", service, "mode") {
			if !slices.Contains(all, mode) {
				all = append(all, mode)
			}
		}
	}
	return all
}

func initForge(ctx context.Context, s streams, dir string, a answers, force bool) error {
	target := filepath.Join(dir, "forge.cue")
	if _, err := os.Lstat(target); err == nil && !force {
		return fmt.Errorf("%s exists; --force replaces it, --vendor brings up to date what stands beside it", target)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write %s: %w", target, err)
	}
	if mate, err := readTogether(dir); err != nil {
		return err
	} else if mate != "" && !force {
		return fmt.Errorf("%s is of package forge too, and CUE reads it together with %s; choose a directory beside it, or rename its package", mate, target)
	}
	guesses, err := a.complete(dir, newAsker(ctx, s, "nothing was written"))
	if err != nil {
		return err
	}
	plan, err := a.draft()
	if err != nil {
		return err
	}
	text, err := plan.text()
	if err != nil {
		return err
	}
	// Nothing leaves this command that the next one refuses.
	_, warnings, err := judge(ctx, schema.Source{Dir: dir, Files: []schema.File{{Name: target, Data: text}}})
	if d := schema.Diagnostics(nil); errors.As(err, &d) {
		if err := plan.blame(d); err != nil {
			return err
		}
		_ = d.Write(s.err, schema.WriteOptions{Color: colored(s.err), Excerpt: true})
		return errors.New("these answers make no valid forge; nothing was written")
	}
	if err != nil {
		return err
	}
	_ = warnings.Write(s.err, schema.WriteOptions{Color: colored(s.err), Excerpt: true})

	files := map[string]string{target: string(text)}
	if err := addVendored(files, dir, "forge", plan.names()); err != nil {
		return err
	}
	written, err := writeFiles(files, force, target)
	if err != nil {
		return err
	}
	return plan.next(s.out, dir, written, append(guesses, plan.placeholders()...))
}

// refreshVendored brings what forged writes for other tools up to date.
func refreshVendored(ctx context.Context, s streams, dir string, force bool) error {
	src, err := readFile(ctx, filepath.Join(dir, "forge.cue"))
	if err != nil {
		return fmt.Errorf("%w; forged init --vendor is for a directory with a forge.cue", err)
	}
	pkg, names := schema.Environments(src)
	if pkg == "" {
		return fmt.Errorf("%s has no package clause, without which other tools do not see it together with the language; write package forge as its first line",
			filepath.Join(dir, "forge.cue"))
	}
	files := map[string]string{}
	if err := addVendored(files, dir, pkg, names); err != nil {
		return err
	}
	written, err := writeFiles(files, force, "")
	if err != nil {
		return err
	}
	if len(written) == 0 {
		_, err = fmt.Fprintln(s.out, "everything is up to date")
		return err
	}
	for _, name := range written {
		if _, err := fmt.Fprintln(s.out, name); err != nil {
			return err
		}
	}
	return nil
}

// addVendored adds the files that other tools need. The language goes into
// the CUE module around dir; without one, dir becomes it.
func addVendored(files map[string]string, dir, pkg string, environments []string) error {
	beside, module := schema.Workspace(pkg, environments)
	for name, text := range beside {
		files[filepath.Join(dir, name)] = text
	}
	root, err := moduleRoot(dir)
	if err != nil {
		return err
	}
	for name, text := range module {
		at := filepath.Join(root, "cue.mod", filepath.FromSlash(name))
		if name == "module.cue" {
			if _, err := os.Stat(at); err == nil {
				continue // whose module it is, is not ours to say
			}
		}
		files[at] = text
	}
	return nil
}

// moduleRoot is the directory of the CUE module around dir, or dir itself.
func moduleRoot(dir string) (string, error) {
	root, err := schema.ModuleRoot(dir)
	if root == "" {
		return dir, err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if rel, err := filepath.Rel(abs, root); err == nil {
		return filepath.Join(dir, rel), nil
	}
	return root, nil
}

// readTogether names a file that is read together with a forge.cue in dir: one
// of the same package there, or in a directory above it in the same module.
func readTogether(dir string) (string, error) {
	root, err := moduleRoot(dir)
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Join(at, "..") {
		entries, err := os.ReadDir(at)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		for _, entry := range entries {
			name := entry.Name()
			own := at == dir && (name == "forge.cue" || name == schema.WorkspaceFile)
			if own || filepath.Ext(name) != ".cue" || !entry.Type().IsRegular() {
				continue
			}
			// What cannot be read is told by whatever reads the forge.
			if pkg, err := schema.PackageOf(filepath.Join(at, name)); err == nil && pkg == "forge" {
				return filepath.Join(at, name), nil
			}
		}
		if same, err := sameDir(at, root); err != nil || same {
			return "", err
		}
	}
}

func sameDir(a, b string) (bool, error) {
	a, err := filepath.Abs(a)
	if err != nil {
		return false, err
	}
	b, err = filepath.Abs(b)
	return a == b, err
}

// writeFiles writes what differs from what is there, and tells what. Without
// force it replaces only what forged has made; first is written last, as what
// it needs is there by then.
func writeFiles(files map[string]string, force bool, last string) ([]string, error) {
	var todo []string
	for name, text := range files {
		old, err := os.ReadFile(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, fmt.Errorf("write %s: %w", name, err)
		case string(old) == text:
			continue
		case !force && !schema.Generated(old):
			return nil, fmt.Errorf("%s exists and was not made by forged; nothing was written; --force replaces it", name)
		}
		todo = append(todo, name)
	}
	slices.SortFunc(todo, func(a, b string) int {
		return cmp.Or(cmp.Compare(btoi(a == last), btoi(b == last)), cmp.Compare(a, b))
	})
	for _, name := range todo {
		if err := writeWhole(name, files[name]); err != nil {
			return nil, fmt.Errorf("write %s: %w", name, err)
		}
	}
	return todo, nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// writeWhole writes a file that is there whole or not at all.
func writeWhole(name, text string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".forged-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already when all went well
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// byName splits [NAME=]VALUE flags into what is for one environment and what
// is for all.
func byName(flag string, values, environments []string) (each map[string][]string, all []string, err error) {
	each = map[string][]string{}
	for _, v := range values {
		name, value, ok := strings.Cut(v, "=")
		switch {
		case v == "":
			return nil, nil, fmt.Errorf("--%s is empty in one place; write a value there, or leave it out", flag)
		case !ok:
			all = append(all, v)
		case value == "":
			return nil, nil, fmt.Errorf("--%s %s has no value; write one, or leave the flag out", flag, v)
		case !slices.Contains(environments, name):
			return nil, nil, fmt.Errorf("--%s %s: there is no environment %q; there is %s", flag, v, name, strings.Join(environments, ", "))
		default:
			each[name] = append(each[name], value)
		}
	}
	return each, all, nil
}
