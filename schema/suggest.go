package schema

import (
	"fmt"
	"slices"
	"strings"
)

// laterValues are values that the language will have and this build does not:
// key → value → hint, empty for the general one.
var laterValues = map[string]map[string]string{
	"kind": {
		"compose": "", "fks": "", "fly": "", "port": "",
		"eks": `write kind: "kubernetes"`, "gke": `write kind: "kubernetes"`, "aks": `write kind: "kubernetes"`,
		"generic": `write kind: "kubernetes"`, "kind": `write kind: "minikube" and the context of the cluster`,
	},
	"mode": {
		"external":    `write mode: "off" and give the app its own URL as a secret`,
		"fly-managed": "", "fly-unmanaged": "", "fly-app": "", "upstash": "", "cloud": "",
		"self-signed": "", "acm": "", "gke-managed": "", "fly": "",
		"cert-manager": `make a Certificate yourself and write mode: "secret" with the name of its Secret`,
	},
	"networkPolicy": {"strict": ""},
}

// laterKeys are keys that the language will have and this build does not, by
// the end of their path.
var laterKeys = []struct{ in, key, hint string }{
	{"", "daemon", "the settings of the daemon are flags of forged run"},
	{"app", "configFiles", ""},
	{"app", "migrate", "run migrations when the app starts"},
	{"image", "pullSecret", "give the nodes or the default service account access to the registry"},
	{"environments.*", "regions", "write one environment for each cluster"},
	{"environments.*", "volumes", ""},
	{"environments.*.services", "temporal", ""},
	{"environments.*.platform", "distribution", ""},
	{"environments.*.platform", "loadImages", "load the image with minikube image load"},
	{"environments.*.platform", "podCIDRs", ""},
	{"environments.*.platform", "fieldManager", ""},
	{"environments.*.expose", "redirectHTTP", "write the annotation of your ingress controller"},
	{"environments.*.expose.tls", "issuer", ""},
	{"environments.*.services.postgres", "tls", ""},
	{"environments.*.services.postgres", "backup", ""},
	{"environments.*.services.postgres", "url", ""},
	{"environments.*.services.redis", "url", ""},
	{"environments.*.scaling", "idle", ""},
	{"environments.*.policy", "destroyData", "this build never destroys data"},
	{"environments.*.policy", "recreate", ""},
	{"environments.*.policy", "settle", ""},
	{"environments.*.policy", "maxFailures", ""},
	{"environments.*.policy", "rollback", ""},
	{"environments.*.policy", "windows", ""},
	{"environments.*.policy", "ignoreDrift", ""},
}

// laterSecrets are kinds of secret references that this build does not have.
var laterSecrets = []string{"sops", "k8s", "op", "exec", "jsonPath"}

// laterKey tells whether p is a key of a later build, and what to do instead.
func laterKey(p path) (hint string, ok bool) {
	last, parent := p[len(p)-1], slices.Clone(p[:len(p)-1])
	if isSecret(parent) && slices.Contains(laterSecrets, last) {
		return `this build reads {env: "NAME"}, {file: "path"} and {generate: {}}`, true
	}
	if len(parent) > 1 && parent[0] == "environments" {
		parent[1] = "*"
	}
	in := strings.Join(parent, ".")
	for _, k := range laterKeys {
		if k.key == last && (k.in == in || k.in != "" && strings.HasSuffix(in, "."+k.in)) {
			return k.hint, true
		}
	}
	return "", false
}

// isSecret tells whether p is a reference to a secret.
func isSecret(p path) bool {
	return len(p) > 1 && p[len(p)-2] == "secrets" || len(p) > 0 && p[len(p)-1] == "password"
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func quoted(words []string) string {
	q := make([]string, len(words))
	for i, w := range words {
		q[i] = fmt.Sprintf("%q", w)
	}
	if len(q) < 2 {
		return strings.Join(q, "")
	}
	return strings.Join(q[:len(q)-1], ", ") + " and " + q[len(q)-1]
}

func anyOf(words []string) string {
	if len(words) == 1 {
		return quoted(words)
	}
	return "one of " + strings.ReplaceAll(quoted(words), " and ", ", ")
}

// didYouMean is a hint that names the closest of the words, empty when none
// is close.
func didYouMean(s string, words []string) string {
	if len(s) > longest {
		return ""
	}
	best, least := "", max(1, len(s)/3)+1
	for _, w := range words {
		d := distance(strings.ToLower(s), strings.ToLower(w))
		if len(s) >= 3 && (strings.HasPrefix(w, s) || strings.HasPrefix(s, w)) {
			d = min(d, 1)
		}
		if d < least {
			best, least = w, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// longest is the most letters of words that are compared.
const longest = 64

// distance is the number of letters to add, drop, change or swap with the
// next to get from a to b.
func distance(a, b string) int {
	var rows [3][longest + 1]int
	for j := range len(b) + 1 {
		rows[1][j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row := &rows[(i+2)%3], &rows[i%3], &rows[(i+1)%3]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return rows[(len(a)+1)%3][len(b)]
}
