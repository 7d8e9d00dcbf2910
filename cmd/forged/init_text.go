package main

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
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
	domain                   string
	modes                    map[string]string // of services, where they were asked for
}

func (e *draftEnv) onFly() bool  { return e.kind == "fly" || e.kind == "fks" }
func (e *draftEnv) public() bool { return e.kind == "kubernetes" || e.onFly() }

// usualNames are those of environments that are given none.
var usualNames = map[string]string{"compose": "dev", "minikube": "local", "kubernetes": "prod", "fks": "prod", "fly": "prod"}

// environments are those of --platform, with names.
func (a *answers) environments() ([]draftEnv, error) {
	var all []draftEnv
	taken := func(name string) bool {
		return slices.ContainsFunc(all, func(e draftEnv) bool { return e.name == name })
	}
	for _, p := range a.platforms {
		name, word, named := strings.Cut(p, "=")
		if !named {
			word = p
		}
		if !slices.Contains(platformWords, word) {
			return nil, fmt.Errorf("platform %q is none of %s", word, strings.Join(platformWords, ", "))
		}
		e := draftEnv{name: name, modes: map[string]string{}}
		e.kind, e.distribution, _ = strings.Cut(word, ":")
		if !named {
			e.name = usualNames[e.kind]
			if taken(e.name) {
				e.name += "-" + strings.TrimPrefix(word, "kubernetes:")
			}
		}
		if taken(e.name) {
			return nil, fmt.Errorf("two environments are called %q; name them: --platform NAME=%s", e.name, word)
		}
		all = append(all, e)
	}
	return all, nil
}

// draft brings the answers together.
func (a *answers) draft() (*draft, error) {
	img, err := parseImage(a.image)
	if err != nil {
		return nil, err
	}
	d := &draft{app: a.app, image: img}
	if d.envs, err = a.environments(); err != nil {
		return nil, err
	}
	contexts, context, err := byName("context", a.contexts, d.names())
	if err != nil {
		return nil, err
	}
	domains, domain, err := byName("domain", a.domains, d.names())
	if err != nil {
		return nil, err
	}
	for i := range d.envs {
		e := &d.envs[i]
		e.org, e.region = a.org, a.region
		if c := append(contexts[e.name], context...); len(c) > 0 {
			e.context = c[0]
		}
		switch own := domains[e.name]; {
		case len(own) > 0:
			e.domain = own[0]
		case e.public() && len(domain) > 0: // one each, as long as there are any
			e.domain, domain = domain[0], domain[1:]
		}
	}
	if len(domain) > 0 {
		return nil, fmt.Errorf("--domain %s: no environment is left for it; write NAME=%s", domain[0], domain[0])
	}
	for _, service := range services {
		each, all, err := byName(service, *a.modes(service), d.names())
		if err != nil {
			return nil, err
		}
		for _, mode := range all {
			if !d.everywhere(service, mode) {
				return nil, fmt.Errorf("--%s %s: none of these platforms can do that", service, mode)
			}
		}
		for name, modes := range each {
			d.env(name).modes[service] = modes[len(modes)-1]
		}
	}
	return d, nil
}

// everywhere sets a mode where the platform has it.
func (d *draft) everywhere(service, mode string) (any bool) {
	for i := range d.envs {
		e := &d.envs[i]
		if slices.Contains(schema.Values(e.kind, e.distribution, "services", service, "mode"), mode) {
			e.modes[service], any = mode, true
		}
	}
	return any
}

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
	p.add("environments: {")
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

// What one replica is promised, and the memory it may use at most.
resources: {
	cpu:         "250m"
	memory:      "256Mi"
	memoryLimit: "1Gi"
}
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
	p.add("\nNext:")
	n := len("forged validate") + max(len(arg), len(flag))
	p.add("  %-*s  is it well formed?", n, "forged validate"+arg)
	p.add("  %-*s  what would change, and why?", n, "forged plan"+flag)
	p.add("  %-*s  make it so, and keep it so", n, "forged run"+flag)
	_, err := io.WriteString(w, p.String())
	return err
}

// quoteWord makes a word of a path for a shell.
func quoteWord(s string) string {
	if strings.ContainsAny(s, " \t'\"$\\*?;&|()<>~`") {
		return strconv.Quote(s)
	}
	return s
}
