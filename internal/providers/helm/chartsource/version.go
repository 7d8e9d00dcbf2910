package chartsource

import (
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// exact tells whether a version is one, rather than a constraint.
func exact(version string) bool {
	_, err := semver.StrictNewVersion(strings.TrimPrefix(version, "v"))
	return err == nil
}

// satisfies tells whether a version is what a version or a constraint asks for.
func satisfies(want, version string) bool {
	if want == version {
		return true
	}
	v, err := semver.NewVersion(version)
	if err != nil {
		return false
	}
	if exact(want) {
		w, err := semver.NewVersion(want)
		return err == nil && w.Equal(v) && w.Metadata() == v.Metadata()
	}
	c, err := semver.NewConstraint(want)
	return err == nil && c.Check(v)
}

// choose is the newest version that is asked for; keep is preferred where it
// is one of them. False: there is none.
func choose(want, keep string, versions []string) (string, bool) {
	if slices.Contains(versions, want) {
		return want, true
	}
	if keep != "" && satisfies(want, keep) && slices.Contains(versions, keep) {
		return keep, true
	}
	var best *semver.Version
	var chosen string
	for _, text := range versions {
		v, err := semver.NewVersion(text)
		if err != nil || !satisfies(want, text) {
			continue
		}
		if best == nil || v.GreaterThan(best) {
			best, chosen = v, text
		}
	}
	return chosen, best != nil
}

// newest are a few versions, the newest first, for an error that says what
// there is.
func newest(versions []string) string {
	var parsed []*semver.Version
	for _, text := range versions {
		if v, err := semver.NewVersion(text); err == nil {
			parsed = append(parsed, v)
		}
	}
	slices.SortFunc(parsed, func(a, b *semver.Version) int { return b.Compare(a) })
	const most = 5
	var out []string
	for _, v := range parsed[:min(most, len(parsed))] {
		out = append(out, v.Original())
	}
	switch {
	case len(out) == 0:
		return "it has no version at all"
	case len(parsed) > most:
		return "the newest of its versions are " + strings.Join(out, ", ")
	}
	return "it has " + strings.Join(out, ", ")
}
