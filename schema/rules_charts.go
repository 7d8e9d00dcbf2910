package schema

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"

	"forged.dev/forged/internal/forge"
)

// Things of an environment that others may need.
const needApp = "app"

var needServices = []string{"postgres", "redis", "temporal"}

func (l *loader) checkCharts(p path, e *wireEnv) {
	edges := map[string][]string{}
	places := map[[2]string]path{}
	check := func(of string, at path, needs []string) {
		for i, need := range needs {
			known := need == needApp || e.Charts[need].Kind != "" || slices.Contains(needServices, need) && e.mode(need) != forge.ModeOff
			where := at.with("needs", strconv.Itoa(i))
			if !known {
				words := append([]string{needApp}, slices.Sorted(maps.Keys(e.Charts))...)
				for _, s := range needServices {
					if e.mode(s) != forge.ModeOff {
						words = append(words, s)
					}
				}
				hint := didYouMean(need, words)
				if hint == "" {
					hint = "there are " + strings.Join(words, ", ")
				}
				if slices.Contains(needServices, need) {
					hint = fmt.Sprintf("services.%s is off", need)
				}
				l.rule(where, "unknown-need", fmt.Sprintf("%s has no %q", e.name, need), hint)
				continue
			}
			edges[of] = append(edges[of], need)
			places[[2]string{of, need}] = where
		}
	}
	check(needApp, p.with("app"), e.App.Needs)
	if c := e.App.Chart; c != nil {
		l.checkChart(p.with("app", "chart"), *c)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Charts)) {
		c, at := e.Charts[name], p.with("charts", name)
		if name == needApp || slices.Contains(needServices, name) {
			l.ruleAt(at, "name", fmt.Sprintf("%q is the name of something that forged makes itself", name), "choose another name")
			continue
		}
		l.checkChart(at, c.wireChart)
		check(name, at, c.Needs)
	}
	for _, service := range needServices {
		// The app needs its services without saying so.
		if e.mode(service) != forge.ModeOff {
			edges[needApp] = append(edges[needApp], service)
		}
	}
	for _, cycle := range cycles(edges) {
		for i := range cycle {
			from, to := cycle[i], cycle[(i+1)%len(cycle)]
			if at, ok := places[[2]string{from, to}]; ok {
				l.rule(at, "need-cycle", "everything here waits for something else: "+strings.Join(append(slices.Clone(cycle[i:]), append(slices.Clone(cycle[:i]), from)...), " needs "), "leave one of the needs out")
				break
			}
		}
	}
}

// cycles returns one cycle for each group of nodes that need each other, each
// beginning with its smallest name.
func cycles(edges map[string][]string) [][]string {
	var found [][]string
	done := map[string]bool{}
	var visit func(node string, stack []string)
	visit = func(node string, stack []string) {
		if i := slices.Index(stack, node); i >= 0 {
			cycle := slices.Clone(stack[i:])
			least := slices.Index(cycle, slices.Min(cycle))
			found = append(found, append(cycle[least:], cycle[:least]...))
			return
		}
		if done[node] {
			return
		}
		done[node] = true
		for _, next := range edges[node] {
			visit(next, append(stack, node))
		}
	}
	for _, node := range slices.Sorted(maps.Keys(edges)) {
		visit(node, nil)
	}
	return found
}

func (l *loader) checkChart(p path, c wireChart) {
	if c.Version != "" {
		if _, err := semver.NewConstraint(c.Version); err != nil {
			l.rule(p.with("version"), "chart-source", fmt.Sprintf("%q is neither a version nor a constraint", c.Version), `write one, such as "1.4.2" or "^1.4"`)
		}
	}
	l.checkValues(p.with("values"), c.Values)
	l.optional(p.with("username"), c.Username, l.checkGiven)
	l.optional(p.with("password"), c.Password, l.checkGiven)
}

// checkValues warns of what looks like a secret in the values of a chart.
func (l *loader) checkValues(p path, v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			l.checkValues(p.with(name), v[name])
		}
	case []any:
		for i, x := range v {
			l.checkValues(p.with(strconv.Itoa(i)), x)
		}
	case string:
		l.checkSecretLike(p, p[len(p)-1], v)
	}
}
