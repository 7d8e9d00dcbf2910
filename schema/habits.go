package schema

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// habit is a key that people write who know another tool, or who look for it
// in another place.
type habit struct {
	at    string // objects, with * for any one name and ** for any number of them
	keys  string
	on    string // kinds of platform; empty: all
	hint  string
	means string // key of the same object that is meant, so that it is not missing
}

// habits are asked in their order, before anything is guessed from the
// letters of a key.
var habits = []habit{
	{at: "", keys: "daemon", hint: "the settings of the daemon are flags of forged run"},
	{at: "", keys: "version apiVersion schema", hint: `the version of the language is written as forge: "v1"`, means: "forge"},

	{at: "environments.*", keys: "kind", hint: "write platform: kind: …", means: "platform"},
	{at: "environments.*", keys: "ingress", hint: `write expose: kind: "ingress"`},
	{at: "environments.*", keys: "gateway", hint: `write expose: kind: "gateway"`},
	{at: "environments.*", keys: "loadbalancer loadBalancer", hint: `write expose: kind: "loadbalancer"`},
	{at: "environments.*", keys: "tls", hint: "write expose: tls: …"},
	{at: "environments.* environments.*.expose", keys: "host hosts hostname hostnames domain", hint: `write domains: ["…"] in the environment`},
	{at: "environments.*", keys: "database db", hint: "write services: postgres: …"},
	{at: "environments.*", keys: "networkPolicy", on: "fks", hint: "Fly Kubernetes has no NetworkPolicy: who connects to what in the cluster is not restricted there"},
	{at: "environments.*", keys: "regions", on: "fks", hint: "a cluster is in one region, which is platform.region: another region is another environment"},
	{at: "environments.* environments.*.app app", keys: "fly flyApp", on: "fks", hint: "write platform for the cluster and its region, and domains in the environment"},
	{at: "environments.* environments.*.app app", keys: "replicas instances", on: "minikube kubernetes fks", hint: "the number of replicas is scaling.min of the environment"},
	{at: "environments.* environments.*.app app", keys: "replicas instances machines", on: "fly", hint: "the number of machines is written for each region, such as regions: iad: machines: 2"},
	{at: "app", keys: "replicas instances", hint: "the number of replicas is scaling.min of an environment"},

	{at: "app environments.*.app environments.*.workers.*", keys: "command cmd entrypoint", hint: `write args: ["…"]`, means: "args"},
	{at: "app environments.*.app", keys: "environment variables vars", hint: `write env: {NAME: "value"}`},
	{at: "app environments.*.app", keys: "livenessProbe liveness", hint: `write health: live: "/health", for all environments under app`},
	{at: "app environments.*.app", keys: "readinessProbe readiness", hint: `write health: ready: "/health/ready", for all environments under app`},
	{at: "app environments.*.app", keys: "startupProbe", hint: `write health: startup: "2m", for all environments under app`},
	{at: "app environments.*.app", keys: "ports containerPort", hint: "write port: 8000, for all environments under app"},
	{at: "app.health", keys: "path liveness livenessProbe", hint: `write live: "/health"`},
	{at: "app.health", keys: "readiness readinessProbe", hint: `write ready: "/health/ready"`},
	{at: "app.migrate", keys: "args timeout", hint: `write run: "before-deploy" beside it`},
	{at: "app.image", keys: "name image url repo", hint: "write repository", means: "repository"},
	{at: "app.image environments.*.app.image", keys: "version", hint: "write tag"},

	{at: "**.resources", keys: "requests", hint: `write what is asked for directly: cpu: "250m", memory: "256Mi"`},
	{at: "**.resources", keys: "limits", hint: `write cpuLimit: "1" and memoryLimit: "1Gi"`},

	{at: "**.secrets.*", keys: "secretKeyRef valueFrom secretRef k8s", hint: `write kubernetes: {name: "…", key: "…"}`},

	{at: "environments.*.workers.*", keys: "livenessProbe readinessProbe liveness", hint: `write health: exec: ["…"]`},
	{at: "environments.*.workers.*", keys: "image", hint: "a worker runs the image of the app"},
	{at: "environments.*.workers.*", keys: "env secrets", hint: "a worker has the variables of the app"},
	{at: "environments.*.workers.*", keys: "replicas instances count", hint: "write scaling: min: …"},

	{at: "**.scaling", keys: "replicas minReplicas minimum", on: "minikube kubernetes fks", hint: "write min"},
	{at: "**.scaling", keys: "maxReplicas maximum", on: "minikube kubernetes", hint: "write max"},
	{at: "**.scaling", keys: "max maxReplicas maximum cpuTarget memoryTarget scaleDownWindow", on: "fks", hint: "Fly Kubernetes has no autoscaler: write as min the number that the most work needs"},
	{at: "**.scaling", keys: "targetCPUUtilizationPercentage targetCPU cpu", on: "minikube kubernetes", hint: "write cpuTarget"},
	{at: "environments.*.scaling", keys: "min max replicas minReplicas maxReplicas", on: "fly", hint: "the number of machines is written for each region, such as regions: iad: machines: 2"},

	{at: "environments.*.expose", keys: "ingressClass ingressClassName class", hint: "write className"},
	{at: "environments.*.expose", keys: "type mode", hint: "write kind", means: "kind"},
	{at: "environments.*.expose.tls", keys: "enabled", hint: `write mode: "none" for plain HTTP, or who provides the certificate`, means: "mode"},
	{at: "environments.*.expose.tls", keys: "type kind", hint: "write mode", means: "mode"},

	{at: "environments.*.services.*", keys: "enabled enable", hint: `write mode: "off" to do without it`, means: "mode"},
	{at: "environments.*.services.*", keys: "type kind", hint: "write mode", means: "mode"},
	{at: "environments.*.services.*", keys: "size disk", on: "minikube kubernetes fks", hint: "write storage"},

	{at: "environments.*.platform", keys: "name type provider mode", hint: "write kind", means: "kind"},
	{at: "environments.*.platform", keys: "region", on: "fly", hint: "write regions: iad: {} beside platform"},
	{at: "environments.*.platform", keys: "regions", on: "fly kubernetes", hint: "write regions beside platform"},
	{at: "environments.*.platform", keys: "regions", on: "fks", hint: "write region: a cluster is in one"},
	{at: "environments.*.platform", keys: "app appName", on: "fks", hint: "the app behind a cluster is Fly's own: the cluster is named by cluster"},
	{at: "environments.*.platform", keys: "cluster", on: "kubernetes minikube", hint: "the cluster is named by context", means: "context"},
	{at: "environments.*.platform", keys: "organization organisation", on: "fly fks", hint: "write org", means: "org"},

	{at: "environments.*.volumes.*", keys: "path mountPath target", hint: "write mount", means: "mount"},
	{at: "environments.*.volumes.*", keys: "access accessMode accessModes", on: "fks", hint: "a volume of Fly Kubernetes is always of one pod: ReadWriteOncePod"},
	{at: "environments.*.volumes.*", keys: "capacity storage", hint: "write size"},

	{at: "notifications.*", keys: "type", hint: "write kind", means: "kind"},
	{at: "notifications.*", keys: "webhook webhookURL", hint: `write url: {env: "NAME"}`, means: "url"},
	{at: "notifications.*", keys: "events", hint: "write on"},
}

// habitOf is the habit because of which the key at p may have been written.
func (l *loader) habitOf(p path) (habit, bool) {
	in, last := p[:len(p)-1], p[len(p)-1]
	for _, h := range habits {
		if !slices.Contains(strings.Fields(h.keys), last) || h.at == "" && len(in) > 0 || h.at != "" && !slices.ContainsFunc(strings.Fields(h.at), in.matches) {
			continue
		}
		if h.on != "" {
			if len(p) < 2 || p[0] != "environments" {
				continue
			}
			if kind, ok := l.tag(p[:2].with("platform", "kind")); !ok || !slices.Contains(strings.Fields(h.on), kind) {
				continue
			}
		}
		return h, true
	}
	return habit{}, false
}

// matches tells whether p is of a pattern such as environments.*.app.
func (p path) matches(pattern string) bool {
	want := strings.Split(pattern, ".")
	if want[0] == "**" {
		want = want[1:]
		if len(p) < len(want) {
			return false
		}
		p = p[len(p)-len(want):]
	}
	return slices.EqualFunc(p, want, func(s, w string) bool { return w == "*" || s == w })
}

// unknownKey reports a key that is written and not allowed at p.
func (l *loader) unknownKey(p path) {
	in, last, pos := p[:len(p)-1], p[len(p)-1], l.pos(p, true)
	h, isHabit := l.habitOf(p)
	if all := l.model.find(p); len(all) > 0 {
		if when := l.unread(p, all); when != "" {
			l.add(p, pos, "unread-key", "it is read only when "+when, h.hint)
			return
		}
	}
	if in.matches("**.secrets.*") && last == "value" {
		l.add(p, pos, "secret-value", "the value of a secret has no place in this file", secretHint(in))
		return
	}
	names := l.known(in)
	hint := h.hint
	if isHabit && h.means != "" && slices.Contains(names, h.means) {
		l.breaks(in.with(h.means))
	}
	if hint == "" {
		if plain := latin(last); plain != last && slices.Contains(names, plain) {
			hint = fmt.Sprintf("did you mean %q? %s", plain, foreignLetters(last))
			l.breaks(in.with(plain))
		}
	}
	if hint == "" {
		hint = l.elsewhere(p)
	}
	if hint == "" {
		if near := nearest(last, names); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
			l.breaks(in.with(near))
		}
	}
	switch {
	case hint != "":
	case len(in) == 0 && pos.IsValid() && pos.Column() > 1 && l.indented(pos.Offset(), pos.Filename()):
		hint = `indentation has no meaning: what belongs together is in braces, such as app: {name: "shop", port: 8000}`
	case len(names) > 0:
		hint = "known here: " + strings.Join(names, ", ")
	}
	l.add(p, pos, "unknown-key", fmt.Sprintf("unknown key %q", last), hint)
}

// known are the names of the keys that are read at p, but for the deprecated.
func (l *loader) known(p path) []string {
	var names []string
	for _, f := range l.model.find(p) {
		if len(l.failing(p, f)) > 0 {
			continue
		}
		for _, c := range f.keys {
			if c.obsolete == "" && !slices.Contains(names, c.name) && l.holds(p, c.when) != no {
				names = append(names, c.name)
			}
		}
	}
	return names
}

// indented tells whether nothing but space is before a place in its line.
func (l *loader) indented(offset int, file string) bool {
	f, ok := l.src.file(file)
	if !ok || offset > len(f.Data) {
		return false
	}
	before := string(f.Data[:offset])
	return strings.TrimSpace(before[strings.LastIndexByte(before, '\n')+1:]) == ""
}

// elsewhere is a hint for a key that the language has in another place nearby.
func (l *loader) elsewhere(p path) string {
	in, last := p[:len(p)-1], p[len(p)-1]
	if len(p) > 3 && p[0] == "environments" && p[2] == "app" && l.model.has(path{"app"}.with(in[3:]...), last) {
		return "it is set under app, for all environments"
	}
	if names := l.known(in); last == "type" || last == "kind" || last == "mode" {
		for _, name := range []string{"kind", "mode"} {
			if slices.Contains(names, name) {
				l.breaks(in.with(name))
				return "write " + name
			}
		}
	}
	var below []string
	for _, name := range l.known(in) {
		if slices.Contains(l.known(in.with(name)), last) && !l.namesOf(in.with(name)) {
			below = append(below, name)
		}
	}
	if len(below) == 1 {
		l.breaks(in.with(below[0]))
		return fmt.Sprintf("write %s: %s: …", below[0], last)
	}
	if len(in) == 2 && in[0] == "environments" && l.model.has(path{"app"}, last) {
		return "it is set under app, for all environments"
	}
	for n := len(in) - 1; n >= 0; n-- {
		if slices.Contains(l.known(in[:n]), last) {
			if n == 0 {
				return "it belongs at the top of the file"
			}
			return "it belongs in " + in[:n].String()
		}
	}
	if len(in) == 0 || len(in) == 1 && in[0] == "app" {
		env := "dev"
		if written := l.fields(path{"environments"}); len(written) > 0 {
			env = written[0]
		}
		if slices.Contains(l.known(path{"environments", env}), last) {
			return fmt.Sprintf("it belongs to an environment, such as environments: %s: %s: …", env, path{last})
		}
	}
	return ""
}

// namesOf tells whether the names below p are free to choose.
func (l *loader) namesOf(p path) bool {
	return slices.ContainsFunc(l.model.find(p), func(f found) bool { return f.names != "" })
}

// homoglyphs are letters that look like those of the language, and these.
const homoglyphs = "аaеeоoрpсcуyхxіiјjѕsԁdһhοoαaιiνvρpᴏo"

// latin is s with letters of the language in the place of those that only look
// like them.
func latin(s string) string {
	return strings.Map(func(r rune) rune {
		if i := strings.IndexRune(homoglyphs, r); r >= utf8.RuneSelf && i >= 0 {
			return rune(homoglyphs[i+utf8.RuneLen(r)])
		}
		return r
	}, s)
}

// foreignLetters names the letters of s that are not of the language.
func foreignLetters(s string) string {
	for _, r := range s {
		if r >= utf8.RuneSelf {
			return fmt.Sprintf("here %c is %U", r, r)
		}
	}
	return ""
}

// unread says under which conditions a key would be read: those that do not
// hold, with the values of one kind or mode put together. What asks for more
// than another way does is left out.
func (l *loader) unread(p path, all []found) string {
	var ways [][]condition
	for _, f := range all {
		failing := l.failing(p, f)
		if len(failing) == 0 {
			return ""
		}
		ways = append(ways, failing)
	}
	var groups []condition
	var others []string
	for i, way := range ways {
		if slices.ContainsFunc(ways[:i], func(w []condition) bool { return implies(way, w) }) ||
			slices.ContainsFunc(ways[i+1:], func(w []condition) bool { return implies(way, w) && !implies(w, way) }) {
			continue
		}
		if len(way) > 1 {
			if s := conditions(way); !slices.Contains(others, s) {
				others = append(others, s)
			}
			continue
		}
		i := slices.IndexFunc(groups, func(c condition) bool { return slices.Equal(c.tag, way[0].tag) })
		if i < 0 {
			i = len(groups)
			groups = append(groups, condition{tag: way[0].tag})
		}
		for _, w := range way[0].want {
			if !slices.Contains(groups[i].want, w) {
				groups[i].want = append(groups[i].want, w)
			}
		}
	}
	var s []string
	for _, g := range groups {
		s = append(s, g.String())
	}
	return strings.Join(append(s, others...), ", or when ")
}

// implies tells whether b holds wherever a does.
func implies(a, b []condition) bool {
	return !slices.ContainsFunc(b, func(want condition) bool {
		return !slices.ContainsFunc(a, func(c condition) bool {
			return slices.Equal(c.tag, want.tag) && !slices.ContainsFunc(c.want, func(s string) bool { return !slices.Contains(want.want, s) })
		})
	})
}
