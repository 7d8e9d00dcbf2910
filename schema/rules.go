package schema

import (
	"fmt"
	"maps"
	slashpath "path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"forged.dev/forged/internal/secret/detect"
)

// maxLabel is the most characters a namespace or the value of a label may
// have in Kubernetes.
const maxLabel = 63

// check reports what two places of a forge do to each other. It runs on the
// parts that are valid by themselves.
func (l *loader) check(w wire) {
	if l.diags.Errors() == 0 && len(w.envs) == 0 {
		l.rule(path{"environments"}, "no-environment", "there is no environment",
			`write one, such as environments: dev: platform: kind: "minikube"`)
	}
	if w.app != nil {
		l.checkApp(w)
	}
	for i := range w.envs {
		l.checkEnvironment(&w.envs[i], w.app)
	}
	l.checkNeighbours(w)
	l.checkNotifications(w)
}

// rule reports a broken rule at a value.
func (l *loader) rule(p path, rule, message, hint string) {
	l.add(p, l.pos(p, false), rule, message, hint)
}

// ruleAt reports a broken rule at the name of a field.
func (l *loader) ruleAt(p path, rule, message, hint string) {
	l.add(p, l.pos(p, true), rule, message, hint)
}

func (l *loader) checkApp(w wire) {
	app := path{"app"}
	l.checkVariables(app, w.app.Env, w.app.Secrets)
	l.checkConfigFiles(app, w.app.ConfigFiles)
	l.checkLimits(app.with("resources"), w.app.Resources)
	h := app.with("health")
	l.between(h.with("startup"), w.app.Health.Startup, time.Second, time.Hour)
	l.between(h.with("interval"), w.app.Health.Interval, time.Second, time.Hour)
	l.between(h.with("timeout"), w.app.Health.Timeout, time.Second, time.Hour)
	l.between(app.with("migrate", "timeout"), w.app.Migrate.Timeout, 10*time.Second, 24*time.Hour)
	l.checkTexts(app.with("args"), w.app.Args)
	l.checkTexts(app.with("migrate", "args"), w.app.Migrate.Args)
	if s := w.app.Image.PullSecret; s != nil {
		l.checkGiven(app.with("image", "pullSecret"), *s)
	}
	if w.app.Image.Tag == "" && w.app.Image.Digest == "" {
		var loose []string
		for _, e := range w.envs {
			if e.App.Image.Tag == "" && e.App.Image.Digest == "" {
				loose = append(loose, e.name)
			}
		}
		if len(loose) > 0 {
			l.ruleAt(app.with("image"), "image-not-pinned",
				fmt.Sprintf("the image has neither tag nor digest, and environment %s adds none", strings.Join(loose, ", ")),
				`write a tag, such as "1.4.2", or a digest, here or in each environment`)
		}
	}
	l.checkUnused(w)
}

// checkUnused looks for secrets that every environment replaces.
func (l *loader) checkUnused(w wire) {
	if len(w.envs) == 0 || l.isBroken(path{"environments"}) {
		return // one that is not understood may use it
	}
	for _, name := range slices.Sorted(maps.Keys(w.app.Secrets)) {
		used := slices.ContainsFunc(w.envs, func(e wireEnv) bool {
			_, replaced := named(nil, name, e.App.Env, e.App.Secrets)
			return !replaced
		})
		if !used {
			l.ruleAt(path{"app", "secrets", name}, "secret-unused", "every environment replaces it, so that nothing reads it", "leave it out here")
		}
	}
}

// checkVariables looks at names that are set twice, or not by the user, and
// at values that should not be there.
func (l *loader) checkVariables(p path, env map[string]string, refs map[string]wireSecret) {
	for _, name := range slices.Sorted(maps.Keys(refs)) {
		at := p.with("secrets", name)
		l.checkSecret(at, refs[name])
		if _, ok := env[name]; ok {
			l.ruleAt(at, "set-twice", fmt.Sprintf("%s is also set by %s", name, p.with("env", name)), "keep one of the two")
		}
		l.checkPrefix(at, name)
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		at := p.with("env", name)
		l.checkPrefix(at, name)
		l.checkText(at, name, env[name])
	}
}

// checkText looks at a text that becomes a variable, an argument or part of
// an object. Name is what it is called, if it is.
func (l *loader) checkText(p path, name, value string) {
	// The API server reads what is applied as YAML, which knows no control
	// characters. Secrets travel as base64 and may hold any.
	for _, r := range value {
		if r == '\ufeff' || unicode.IsControl(r) && !strings.ContainsRune("\t\n\r", r) {
			l.rule(p, "control-character", fmt.Sprintf("it holds the control character %U", r), "leave it out, or keep the value under secrets")
			return
		}
	}
	l.checkSecretLike(p, name, value)
}

// checkSecretLike warns of a value that everybody may read and that looks as
// if nobody should.
func (l *loader) checkSecretLike(p path, name, value string) {
	if what, ok := detect.Variable(name, value); ok {
		l.rule(p, "secret-like", "everybody may read it, and it looks like "+what, "if it is a secret, change it, and say under secrets where it is found")
	}
}

func (l *loader) checkTexts(p path, texts []string) {
	for i, s := range texts {
		l.checkText(p.with(strconv.Itoa(i)), "", s)
	}
}

// checkPrefix refuses names that beat others inside the app, so that what
// forged sets would not be what the app uses.
func (l *loader) checkPrefix(at path, name string) {
	for _, prefix := range []string{"PRODUCTION_", "DEVELOPMENT_"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			l.ruleAt(at, "prefix", fmt.Sprintf("%s… is not accepted: apps let such names override the plain ones", prefix),
				fmt.Sprintf("write %s, in each environment where it differs", rest))
		}
	}
}

func (l *loader) checkConfigFiles(p path, files map[string]wireConfigFile) {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f, at := files[name], p.with("configFiles", name)
		l.checkPlace(at, name, true)
		switch {
		case f.File != "" && f.Text != nil:
			l.ruleAt(at, "config-file", "a file has one source, and this one has two", "keep file or text")
		case f.File == "" && f.Text == nil:
			l.ruleAt(at, "config-file", "a file has one source, and this one has none", `write {file: "path"} or {text: "..."}`)
		}
		if f.Text != nil {
			l.checkText(at.with("text"), "", *f.Text)
		}
	}
}

// ownPlace is where forged puts files of its own.
const ownPlace = "/run/forged"

// checkPlace looks at a path in the container.
func (l *loader) checkPlace(p path, name string, label bool) {
	switch clean := slashpath.Clean(name); {
	case clean != name:
		l.add(p, l.pos(p, label), "value", fmt.Sprintf("%q is not the shortest way to say it", name), fmt.Sprintf("write %q", clean))
	case clean == ownPlace || strings.HasPrefix(clean, ownPlace+"/"):
		l.add(p, l.pos(p, label), "mount-twice", "forged keeps files of its own below "+ownPlace, "choose another place")
	}
}

// sources are the keys of a reference that are set.
func (s wireSecret) sources() []string {
	var set []string
	for _, x := range []struct {
		name string
		set  bool
	}{
		{"env", s.Env != ""},
		{"file", s.File != ""},
		{"sops", s.SOPS != nil},
		{"kubernetes", s.Kubernetes != nil},
		{"op", s.OP != ""},
		{"exec", len(s.Exec) > 0},
		{"generate", s.Generate != nil},
	} {
		if x.set {
			set = append(set, x.name)
		}
	}
	return set
}

func (l *loader) checkSecret(p path, s wireSecret) {
	switch set := s.sources(); len(set) {
	case 1:
	case 0:
		l.ruleAt(p, "secret-source", "a secret has one source, and this one has none", secretHint(p))
	default:
		l.ruleAt(p, "secret-source", "a secret has one source, and this one has "+strings.ReplaceAll(quoted(set), `"`, ""), "keep one of them")
	}
}

// checkGiven is checkSecret for a secret that somebody else decides on.
func (l *loader) checkGiven(p path, s wireSecret) {
	l.checkSecret(p, s)
	if s.Generate != nil {
		l.ruleAt(p.with("generate"), "secret-source", "a value that forged makes up would open nothing here", "say where the value is found")
	}
}

func (e *wireEnv) mode(service string) string {
	switch service {
	case "postgres":
		return e.Services.Postgres.Mode
	case "redis":
		return e.Services.Redis.Mode
	}
	return e.Services.Temporal.Mode
}

func named(p path, name string, env map[string]string, refs map[string]wireSecret) (path, bool) {
	if _, ok := env[name]; ok {
		return p.with("env", name), true
	}
	_, ok := refs[name]
	return p.with("secrets", name), ok
}

// leastMemory is less than any container runs with, in bytes.
const leastMemory = 4 << 20

// checkLimits compares what is promised with what is allowed.
func (l *loader) checkLimits(p path, r wireResources) {
	for _, x := range []struct{ key, request, limit string }{
		{"memory", r.Memory, r.MemoryLimit},
		{"cpu", r.CPU, r.CPULimit},
	} {
		if x.key == "memory" {
			for _, amount := range []struct{ key, text string }{{"memory", x.request}, {"memoryLimit", x.limit}} {
				if amount.text != "" && quantity(amount.text) < leastMemory {
					l.rule(p.with(amount.key), "bound", amount.text+" is less than any process needs", `write a unit, such as "256Mi"`)
				}
			}
		}
		if x.limit != "" && x.request != "" && quantity(x.limit) < quantity(x.request) {
			l.rule(p.with(x.key+"Limit"), "limit", fmt.Sprintf("the limit %s is less than the request %s", x.limit, x.request),
				fmt.Sprintf("raise %sLimit, or lower %s", x.key, x.key))
		}
	}
}

// quantity is the amount of a Kubernetes quantity, exact enough to compare.
func quantity(s string) float64 {
	digits := strings.TrimRight(s, "kKMGTim")
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		panic("quantity " + s + ": " + err.Error())
	}
	return n * map[string]float64{
		"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
		"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40,
	}[s[len(digits):]]
}

// between checks a duration that the schema has let through, if there is one.
func (l *loader) between(p path, s string, least, most time.Duration) {
	switch d := duration(s); {
	case s == "":
	case d < least:
		l.rule(p, "bound", fmt.Sprintf("%s is less than %s", s, short(least)), "")
	case d > most:
		l.rule(p, "bound", fmt.Sprintf("%s is more than %s", s, short(most)), "")
	}
}

// short is a duration as people write it: 1h, not 1h0m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
