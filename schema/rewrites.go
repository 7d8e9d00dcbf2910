package schema

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// rewrite is a value that people write in another form than the language has
// it. Nothing is offered that the scalar does not accept.
type rewrite struct {
	scalar string         // the definition; empty: any
	from   *regexp.Regexp // of the whole text, or of the number as it is written
	to     string         // what to write, with $1
	advice string         // instead: what to do
}

// rewrites are asked in their order.
var rewrites = []rewrite{
	{scalar: "#Duration", from: regexp.MustCompile(`^(\d{1,5})$`), to: "${1}s"},
	{scalar: "#Duration", from: regexp.MustCompile(`^(\d{1,5}) *(?:s|secs?|seconds?)$`), to: "${1}s"},
	{scalar: "#Duration", from: regexp.MustCompile(`^(\d{1,5}) *(?:m|mins?|minutes?)$`), to: "${1}m"},
	{scalar: "#Duration", from: regexp.MustCompile(`^(\d{1,5}) *(?:h|hours?)$`), to: "${1}h"},
	{scalar: "#Duration", from: regexp.MustCompile(`^\d+ *ms$`), advice: "the smallest unit is a second"},

	{scalar: "#Storage", from: regexp.MustCompile(`^(\d+) *(?:|[gG]|[gG][bBi]|[gG]i[bB])$`), to: "${1}Gi"},
	{scalar: "#Storage", from: regexp.MustCompile(`^(\d+) *(?:[mM]|[mM][bBi]|[mM]i[bB])$`), to: "${1}Mi"},
	{scalar: "#Storage", from: regexp.MustCompile(`^(\d+) *(?:[tT]|[tT][bBi]|[tT]i[bB])$`), to: "${1}Ti"},
	{scalar: "#Memory", from: regexp.MustCompile(`^(\d+) *(?:[gG]|[gG][bBi]|[gG]i[bB])$`), to: "${1}Gi"},
	{scalar: "#Memory", from: regexp.MustCompile(`^(\d+) *(?:m|[mM][bBi]|[mM]i[bB])$`), to: "${1}Mi"},
	{scalar: "#Memory", from: regexp.MustCompile(`^\d+$`), advice: `a number has a unit, such as "512Mi"`},
	{scalar: "#RedisMemory", from: regexp.MustCompile(`^(\d+) *[mM](?:i|[bB]|i[bB])?$`), to: "${1}mb"},
	{scalar: "#RedisMemory", from: regexp.MustCompile(`^(\d+) *[gG](?:i|[bB]|i[bB])?$`), to: "${1}gb"},

	{scalar: "#Clock", from: regexp.MustCompile(`^(\d:[0-5]\d)$`), to: "0$1"},
	{scalar: "#Clock", from: regexp.MustCompile(`^(\d\d)$`), to: "$1:00"},
	{scalar: "#Clock", from: regexp.MustCompile(`^(\d)$`), to: "0$1:00"},

	{scalar: "#Host", from: regexp.MustCompile(`^https?://([^/:@]+)(?::\d+)?(?:/.*)?$`), to: "$1"},
	{scalar: "#Host", from: regexp.MustCompile(`^([^/:@]+):\d+$`), to: "$1"},
	{scalar: "#Host", from: regexp.MustCompile(`^([^/:@]+)/.*$`), to: "$1"},
	{scalar: "#Host", from: regexp.MustCompile(`^([^/:@]+)\.$`), to: "$1"},

	{scalar: "#EnvName", from: regexp.MustCompile(`^\$\{?[A-Z_][A-Z0-9_]*\}?$`), advice: "write the name alone, without $ and braces"},
	{scalar: "#OCIURL", from: regexp.MustCompile(`^oci://.*[^/]:[-\w.]+$`), advice: "the version has a key of its own: version"},
	{scalar: "#OCIURL", from: regexp.MustCompile(`^https?://([^@]+)$`), to: "oci://$1"},
	{scalar: "#OCIURL", from: regexp.MustCompile(`^([^@:]+/[^@:]+)$`), to: "oci://$1"},
	{scalar: "#HTTPSURL", from: regexp.MustCompile(`^http://([^@]+)$`), to: "https://$1"},
	{scalar: "#HTTPSURL", from: regexp.MustCompile(`^([-\w.]+\.[-\w.]+(?:/.*)?)$`), to: "https://$1"},
	{scalar: "#Path", from: regexp.MustCompile(`^~`), advice: "write the whole path, or a relative one, which starts at the directory of forge.cue"},
	{scalar: "#Digest", from: regexp.MustCompile(`^([0-9a-f]{64})$`), to: "sha256:$1"},
	{scalar: "#HTTPPath", from: regexp.MustCompile(`^([-\w.][-\w./]*)$`), to: "/$1"},
	{scalar: "#AbsolutePath", from: regexp.MustCompile(`^(/.*[^/])/+$`), to: "$1"},
	{scalar: "#AbsolutePath", from: regexp.MustCompile(`^[^/~]`), advice: "it begins with /"},
	{scalar: "#FieldPath", from: regexp.MustCompile(`^[./]`), advice: "write the names of the fields with dots between them, such as spec.replicas"},
	{scalar: "#Repository", from: regexp.MustCompile(`^(https?|docker)://`), advice: "an image has no scheme: write it as docker pull takes it"},
	{scalar: "#Kind", from: regexp.MustCompile(`^([a-z])`), advice: `a kind begins with a capital letter, such as "Deployment"`},
	{scalar: "#ACMARN", from: regexp.MustCompile(`^arn:aws[a-z-]*:acm:[a-z0-9-]+:(?:\d{0,11}|\d{13,}):`), advice: "the account in it has to have 12 digits"},
	{scalar: "#ACMARN", from: regexp.MustCompile(`^arn:aws[a-z-]*:iam:`), advice: "it is a certificate of IAM, and one of ACM is wanted"},
}

var (
	days        = regexp.MustCompile(`^(\d{1,3}) *d(?:ays?)?$`)
	weeks       = regexp.MustCompile(`^(\d{1,2}) *w(?:eeks?)?$`)
	tooManyTime = regexp.MustCompile(`^(\d+h)?(\d+m)?(\d+s)?$`)
	imageTag    = regexp.MustCompile(`^([^@]+):([A-Za-z0-9_][-A-Za-z0-9_.]*)$`)
	imageDigest = regexp.MustCompile(`^([^@]+)@(sha256:[0-9a-f]{64})$`)
)

// rewritten is a hint for a text, or a number as it is written, that k does not
// accept; empty when there is none.
func (l *loader) rewritten(k *key, s string) string {
	for _, r := range rewrites {
		if r.scalar != k.scalar || !r.from.MatchString(s) {
			continue
		}
		if r.advice != "" {
			return r.advice
		}
		if to := r.from.ReplaceAllString(s, r.to); l.fits(k.scalar, to) {
			return fmt.Sprintf("write %q", to)
		}
	}
	if k.scalar == "#Duration" {
		for _, u := range []struct {
			unit  *regexp.Regexp
			hours int
		}{{days, 24}, {weeks, 7 * 24}} {
			if m := u.unit.FindStringSubmatch(s); m != nil {
				n, _ := strconv.Atoi(m[1])
				return fmt.Sprintf("write %q", fmt.Sprintf("%dh", n*u.hours))
			}
		}
	}
	return ""
}

// splitImage is an image with its tag or digest in keys of their own.
func (l *loader) splitImage(s string) string {
	for _, x := range []struct {
		form        *regexp.Regexp
		key, scalar string
	}{{imageTag, "tag", "#Tag"}, {imageDigest, "digest", "#Digest"}} {
		if m := x.form.FindStringSubmatch(s); m != nil && l.fits("#Repository", m[1]) && l.fits(x.scalar, m[2]) {
			return fmt.Sprintf("repository: %q, %s: %q", m[1], x.key, m[2])
		}
	}
	return ""
}

// dayWords is a hint for days in words or as a range.
func dayWords(s string) string {
	week := []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
	day := func(s string) int {
		return slices.IndexFunc(week, func(d string) bool { return len(s) >= 3 && strings.HasPrefix(strings.ToLower(s), d) })
	}
	from, to, isRange := strings.Cut(s, "-")
	i, j := day(from), day(to)
	switch {
	case !isRange && i >= 0:
		return fmt.Sprintf("write %q", week[i])
	case isRange && i >= 0 && j > i:
		return "write " + strings.ReplaceAll(quoted(week[i:j+1]), " and ", ", ")
	}
	return ""
}

// byName says how what others write as a list is written here.
var byName = map[string]string{
	"env":           `write each by its name: env: {NAME: "value"}`,
	"secrets":       `write each by its name: secrets: {NAME: {env: "NAME"}}`,
	"workers":       `write each by its name: workers: {mail: {args: ["…"]}}`,
	"volumes":       `write each by its name: volumes: {data: {mount: "/data"}}`,
	"charts":        `write each by its name: charts: {queue: {kind: "path", path: "…"}}`,
	"environments":  `write each by its name: environments: {dev: {platform: {kind: "minikube"}}}`,
	"notifications": `write each by its name: notifications: {ops: {kind: "slack", url: {env: "NAME"}}}`,
	"configFiles":   `write each by its path: configFiles: {"/app/config.yaml": {file: "config.yaml"}}`,
	"annotations":   `write each by its name: annotations: {"name": "value"}`,
	"services":      `write each by its name: services: {postgres: {mode: "in-cluster"}}`,
}

// nameFault says what is wrong with a name, for the definitions of names that
// are made of lower-case letters, digits and hyphens.
func nameFault(def, s string) string {
	most := map[string]int{"#Name": 40, "#Namespace": 63, "#FlyName": 63, "#ObjectName": 253}[def]
	if most == 0 || s == "" {
		return ""
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && (def != "#ObjectName" || r != '.') {
			return fmt.Sprintf("it has %q in it", string(r))
		}
	}
	first, last := s[0], s[len(s)-1]
	switch {
	case first == '-' || first == '.':
		return fmt.Sprintf("it begins with %q", s[:1])
	case def == "#Name" && first <= '9':
		return "it begins with a digit"
	case last == '-' || last == '.':
		return fmt.Sprintf("it ends with %q", s[len(s)-1:])
	case len(s) > most:
		return fmt.Sprintf("it has %d characters", len(s))
	}
	return ""
}

var suchAs = regexp.MustCompile(`such as ("[^"]*")`)

// examples are of required keys whose type has none in its words.
var examples = map[string]string{
	"forge": `"v1"`, "app": `{name: "shop", image: {repository: "ghcr.io/acme/shop", tag: "1.4.2"}}`,
	"environments": `{dev: {platform: {kind: "minikube"}}}`, "platform": `{kind: "minikube"}`,
	"image": `{repository: "ghcr.io/acme/shop", tag: "1.4.2"}`, "name": `"shop"`, "org": `"acme"`, "context": `"acme-prod"`,
	"cluster": `"acme"`, "email": `"ops@example.com"`, "args": `["…"]`, "fields": `["spec.replicas"]`, "version": `"1.4.2"`,
	"url": `{env: "NAME"}`, "arn": `"arn:aws:acm:us-east-1:123456789012:certificate/…"`, "namespace": `"shop"`, "gateway": `{name: "public"}`,
	"mount": `"/data"`, "to": `"17:00"`, "from": `"09:00"`,
}

// example is a value that k takes, empty when there is none to show.
func (k *key) example() string {
	if k.ref == "#SecretRef" {
		return `{env: "NAME"}`
	}
	if e := examples[k.name]; e != "" && (k.typ != scalar || k.scalar == "#Clock" || !suchAs.MatchString(k.what)) {
		return e
	}
	if m := suchAs.FindStringSubmatch(k.what); m != nil {
		return m[1]
	}
	return ""
}
