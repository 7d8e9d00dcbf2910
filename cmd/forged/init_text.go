package main

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"cuelang.org/go/cue/format"

	"forged.dev/forged/schema"
)

// draft is the forge that init writes.
type draft struct {
	app   string
	image image
	envs  []draftEnv
}

type draftEnv struct {
	name, kind, distribution string
	context, org, region     string
	domains                  []string
	port                     int               // of this machine, that leads to the app
	modes                    map[string]string // of services, where they were asked for
}

func (e *draftEnv) onFly() bool  { return e.kind == "fly" || e.kind == "fks" }
func (e *draftEnv) public() bool { return e.kind == "kubernetes" || e.onFly() }

// inKubeconfig tells whether the environment is found by a context.
func (e *draftEnv) inKubeconfig() bool { return e.kind == "minikube" || e.kind == "kubernetes" }

// can are the modes that a service has there, the usual one first.
func (e *draftEnv) can(service string) []string {
	return schema.Values(e.kind, e.distribution, "services", service, "mode")
}

// usualNames are those of environments that are given none.
var usualNames = map[string]string{"compose": "dev", "minikube": "local", "kubernetes": "prod", "fks": "prod", "fly": "prod"}

func (d *draft) env(name string) *draftEnv {
	return &d.envs[slices.IndexFunc(d.envs, func(e draftEnv) bool { return e.name == name })]
}

func (d *draft) names() []string { return namesOf(d.envs) }

func namesOf(envs []draftEnv) []string {
	var names []string
	for _, e := range envs {
		names = append(names, e.name)
	}
	return names
}

// page is text that grows, and explains a thing once.
type page struct {
	strings.Builder
	said []string
}

func (p *page) add(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// why adds a comment and examples below it, unless they are there already.
func (p *page) why(text string, examples ...string) {
	if slices.Contains(p.said, text) {
		return
	}
	p.said = append(p.said, text)
	if before := p.String(); !strings.HasSuffix(before, "{\n") && !strings.HasSuffix(before, "\n\n") {
		p.add("")
	}
	for _, line := range wrap(text, 76) {
		p.add("// %s", line)
	}
	for _, line := range examples {
		p.add("//\t%s", line)
	}
	if len(examples) > 0 {
		p.add("")
	}
}

// text is the whole file, formatted.
func (d *draft) text() ([]byte, error) {
	p := &page{}
	p.add(fileHead)
	p.add("app: {\n// The names of the app's objects begin with it.\nname: %q\n", d.app)
	p.add("// What runs. The tag latest is refused: it is another image tomorrow.\nimage: {\nrepository: %q", d.image.repository)
	if d.image.tag != "" {
		p.add("tag: %q", d.image.tag)
	}
	if d.image.digest != "" {
		p.add("digest: %q", d.image.digest)
	}
	p.add("}")
	p.add(appRest)
	// Fly has sizes of machines instead.
	if slices.ContainsFunc(d.envs, func(e draftEnv) bool { return e.kind != "fly" }) {
		p.add(appResources)
	}
	p.add("}\n\nenvironments: {")
	for i := range d.envs {
		if i > 0 {
			p.add("")
		}
		d.envs[i].write(p, d.app)
	}
	p.add("}")
	return format.Source([]byte(p.String()))
}

const fileHead = `// One app and the environments it is deployed to.
//
//	forged validate           is it well formed?
//	forged render --config    what does it mean, with every default?
//	forged plan               what would change, and why?
//	forged run                make it so, and keep it so
package forge

// The version of this language.
forge: "v1"

// What every environment runs unless it says otherwise.`

const appRest = `
// Where the app listens, and the paths at which it says that it lives and
// that it can serve. A replica receives requests once ready answers 200.
port: 8000
health: {
	live:  "/health"
	ready: "/health/ready"
}

// Settings that anybody may read. What leads to the services below, such as
// DATABASE_URL, is not among them: forged makes it.
env: LOG_LEVEL: "INFO"

// Secrets: never a value, only where it is found. generate makes one once and
// keeps it where the app runs; {env: "NAME"} and {file: "path"} read it here.
secrets: SESSION_SECRET: generate: {}
`

const appResources = `
// What one replica is promised, and the memory it may use at most.
resources: {
	cpu:         "250m"
	memory:      "256Mi"
	memoryLimit: "1Gi"
}
`

// next says what was written and what to do now.
func (d *draft) next(w io.Writer, dir string, written, guesses []string) error {
	p := &page{}
	for _, name := range written {
		p.add("%s", name)
	}
	if len(guesses) > 0 {
		p.add("\nLook at these first:")
		for _, g := range guesses {
			p.add("  %s", g)
		}
	}
	file := filepath.Join(dir, "forge.cue")
	flag, arg := "", ""
	if dir != "." {
		flag, arg = " -c "+quoteWord(file), " "+quoteWord(file)
	}
	for i := range d.envs {
		d.envs[i].before(p)
	}
	p.add("\nNext:")
	n := len("forged validate") + max(len(arg), len(flag))
	p.add("  %-*s  is it well formed?", n, "forged validate"+arg)
	p.add("  %-*s  what would change, and why?", n, "forged plan"+flag)
	p.add("  %-*s  make it so, and keep it so", n, "forged run"+flag)
	_, err := io.WriteString(w, p.String())
	return err
}

// before says what an environment needs that no file can hold.
func (e *draftEnv) before(p *page) {
	if e.kind != "fks" {
		return
	}
	p.add("\nFirst, for %s on Fly Kubernetes:", e.name)
	p.add("  access to the closed beta for organization %s: ask for it at beta@fly.io", e.org)
	p.add("  a token of the organization, one of an app is not enough:")
	p.add("    export FLY_API_TOKEN=\"$(fly tokens create org --org %s --expiry 720h)\"", e.org)
	p.add("  a way into its private network, unless forged runs on a Fly machine there:")
	p.add("    fly wireguard create %s", e.org)
}

// quoteWord makes a word of a path for a shell.
func quoteWord(s string) string {
	if strings.ContainsAny(s, " \t\n'\"$\\*?[]{}!#;&|()<>~`") {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return s
}
