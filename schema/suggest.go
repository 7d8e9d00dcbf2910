package schema

import (
	"fmt"
	"strings"
)

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

// DidYouMean is a hint that names the word that s is nearly, empty when there
// is none.
func DidYouMean(s string, words []string) string { return didYouMean(s, words) }

// didYouMean is a hint that names the closest of the words, empty when none
// is close.
func didYouMean(s string, words []string) string {
	if near := nearest(s, words); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return ""
}

// nearest is the closest of the words, empty when none is close.
func nearest(s string, words []string) string {
	if len(s) > longest || strings.Trim(s, "0123456789.") == "" {
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
	return best
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

// synonym is a hint for words that other tools use for one of ours.
func synonym(s string) string {
	hints := map[string]string{
		"eks": `write kind: "kubernetes" and distribution: "eks"`, "gke": `write kind: "kubernetes" and distribution: "gke"`,
		"aks": `write kind: "kubernetes" and distribution: "aks"`, "generic": `write kind: "kubernetes"`,
		"k8s": `write kind: "kubernetes"`, "kind": `write kind: "minikube" and the context of the cluster`,
		"k3d": `write kind: "minikube" and the context of the cluster`, "docker": `write kind: "compose"`,
		"docker-compose": `write kind: "compose"`, "lb": `write kind: "loadbalancer"`, "disabled": `write mode: "off"`, "none": `write mode: "off"`,
		"container": `write mode: "in-cluster"`, "internal": `write mode: "in-cluster"`, "dry-run": `write mode: "observe"`, "dryrun": `write mode: "observe"`,
		"enforce": `write mode: "apply"`, "auto": `write mode: "apply"`,
		"machines": `write kind: "fly"`, "letsencrypt": `write mode: "cert-manager"`, "managed": `write mode: "fly-managed"`,
		"rds": `write mode: "external"`, "elasticache": `write mode: "external"`, "nodeport": `write kind: "loadbalancer"`,
	}
	return hints[strings.ToLower(s)]
}
