package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"forged.dev/forged/schema"
)

// platformAliases are other words for platforms, which mean the same.
var platformAliases = map[string]string{
	"k8s": "kubernetes", "eks": "kubernetes:eks", "gke": "kubernetes:gke", "aks": "kubernetes:aks", "docker-compose": "compose",
}

// platformHints are for words that name a platform nearly.
var platformHints = map[string]string{
	"kind": "write minikube, and the context of the cluster with --context",
	"k3d":  "write minikube, and the context of the cluster with --context",

	"kubernetes:generic": "write kubernetes", "docker": "write compose", "machines": "write fly",
}

// noPlatform is the error about a word that is no platform.
func noPlatform(word string) error {
	hint := platformHints[word]
	if hint == "" {
		hint = schema.DidYouMean(word, platformWords)
	}
	if hint != "" {
		hint = "; " + hint
	}
	return fmt.Errorf("platform %q is none of %s%s", word, strings.Join(platformWords, ", "), hint)
}

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
		word = cmp.Or(platformAliases[word], word)
		if !slices.Contains(platformWords, word) {
			return nil, noPlatform(word)
		}
		e := draftEnv{name: name, modes: map[string]string{}}
		e.kind, e.distribution, _ = strings.Cut(word, ":")
		if !named {
			e.name = usualNames[e.kind]
			if taken(e.name) {
				e.name += "-" + strings.TrimPrefix(word, "kubernetes:")
			}
		}
		if err := fitsName(e.name); err != nil {
			return nil, fmt.Errorf("%q is no name of an environment: %w", e.name, err)
		}
		if taken(e.name) {
			return nil, fmt.Errorf("two environments are called %q; name them: --platform NAME=%s", e.name, word)
		}
		all = append(all, e)
	}
	return all, nil
}

// draft brings the answers together. What has no place is an error: nothing
// that was said is dropped.
func (a *answers) draft() (*draft, error) {
	img, err := parseImage(a.image)
	if err != nil {
		return nil, err
	}
	d := &draft{app: a.app, image: img}
	if d.envs, err = a.environments(); err != nil {
		return nil, err
	}
	for i := range d.envs {
		d.envs[i].org, d.envs[i].region = a.org, a.region
	}
	if given := strings.Join(slices.DeleteFunc([]string{a.org, a.region}, func(s string) bool { return s == "" }), ", "); given != "" &&
		!slices.ContainsFunc(d.envs, func(e draftEnv) bool { return e.onFly() }) {
		return nil, fmt.Errorf("--org and --region (%s) are for fks and fly, and none of these environments is there", given)
	}
	if err := d.placeContexts(a.contexts); err != nil {
		return nil, err
	}
	if err := d.placeDomains(a.domains); err != nil {
		return nil, err
	}
	for _, service := range services {
		if err := d.placeModes(service, *a.modes(service)); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (d *draft) placeContexts(given []string) error {
	each, all, err := byName("context", given, d.names())
	if err != nil {
		return err
	}
	if len(all) > 1 {
		return fmt.Errorf("--context %s: --context %s is for all environments already; write NAME=%[1]s", all[1], all[0])
	}
	placed := false
	for i := range d.envs {
		e := &d.envs[i]
		own := each[e.name]
		switch {
		case !e.inKubeconfig() && len(own) > 0:
			return fmt.Errorf("--context %s=%s: %s has no context of a kubeconfig, because it is on %s", e.name, own[0], e.name, e.kind)
		case len(own) > 1:
			return fmt.Errorf("--context %s=%s: %s has the context %s already", e.name, own[1], e.name, own[0])
		case e.inKubeconfig():
			if names := slices.Concat(own, all); len(names) > 0 {
				e.context = names[0]
			}
			placed = true
		}
	}
	if len(all) > 0 && !placed {
		return fmt.Errorf("--context %s: none of these platforms has a context of a kubeconfig; minikube and kubernetes have", all[0])
	}
	return nil
}

// placeDomains gives the environments their host names.
func (d *draft) placeDomains(given []string) error {
	each, rest, err := byName("domain", given, d.names())
	if err != nil {
		return err
	}
	ports, taken := 8000, slices.Clone(rest)
	for _, own := range each {
		taken = append(taken, own...)
	}
	for i := range d.envs {
		e := &d.envs[i]
		own := each[e.name]
		switch {
		case e.kind == "compose":
			if len(own) > 0 {
				return fmt.Errorf("--domain %s=%s: %s is on compose, where an app has no host name but a port of this machine; leave it out", e.name, own[0], e.name)
			}
			e.port, ports = ports, ports+1
		case len(own) > 0:
			e.domains = own
		case e.public() && len(rest) > 0: // one each, as long as there are any
			e.domains, rest = rest[:1], rest[1:]
		case e.kind == "minikube":
			e.domains = []string{d.app + ".local"}
			if slices.Contains(taken, e.domains[0]) {
				e.domains[0] = e.name + "." + d.app + ".local"
			}
			taken = append(taken, e.domains[0])
		}
	}
	if len(rest) > 0 {
		return fmt.Errorf("--domain %s: no environment is left for it; write NAME=%[1]s", rest[0])
	}
	return nil
}

// placeModes gives the environments the modes of a service: a mode without a
// name is for every one that can have it.
func (d *draft) placeModes(service string, given []string) error {
	each, all, err := byName(service, given, d.names())
	if err != nil {
		return err
	}
	for _, mode := range all {
		placed := false
		for i := range d.envs {
			if e := &d.envs[i]; slices.Contains(e.can(service), mode) {
				e.modes[service], placed = mode, true
			}
		}
		if !placed {
			return d.noMode(service, mode, mode, d.envs)
		}
	}
	for i := range d.envs {
		e := &d.envs[i]
		for _, mode := range each[e.name] {
			if !slices.Contains(e.can(service), mode) {
				return d.noMode(service, e.name+"="+mode, mode, d.envs[i:i+1])
			}
			e.modes[service] = mode
		}
	}
	return nil
}

// noMode is the error about a mode that none of envs can have: it says what
// they can.
func (d *draft) noMode(service, given, mode string, envs []draftEnv) error {
	var can, words []string
	for _, e := range envs {
		words = append(words, e.can(service)...)
		if s := e.kind + " has " + strings.Join(e.can(service), ", "); !slices.Contains(can, s) {
			can = append(can, s)
		}
	}
	hint := schema.DidYouMean(mode, words)
	if hint != "" {
		hint = "; " + hint
	}
	return fmt.Errorf("--%s %s: nobody runs %s that way there: %s%s", service, given, serviceNames[service], strings.Join(can, "; "), hint)
}

// blame turns errors of the forge into errors of the flags they come from;
// nil when there is one that comes from none. The file they are in was never
// written.
func (d *draft) blame(found schema.Diagnostics) error {
	var all []string
	for _, x := range found {
		if x.Severity != schema.SeverityError {
			continue
		}
		flag := d.flagOf(strings.Split(x.Path, "."))
		if flag == "" {
			return nil
		}
		text := flag + ": " + schema.Printable(x.Message)
		if x.Hint != "" {
			text += "; " + x.Hint
		}
		// One error of a flag is enough: the others are often its echo.
		if !slices.ContainsFunc(all, func(s string) bool { return strings.HasPrefix(s, flag+": ") }) {
			all = append(all, text)
		}
	}
	if len(all) == 1 {
		return fmt.Errorf("%s; nothing was written", all[0])
	}
	return fmt.Errorf("nothing was written:\n  %s", strings.Join(all, "\n  "))
}

// flagOf is the flag that a place of the forge was made from, with its value.
func (d *draft) flagOf(at []string) string {
	switch {
	case len(at) > 1 && at[0] == "app" && at[1] == "name":
		return "--app " + d.app
	case len(at) > 1 && at[0] == "app" && at[1] == "image":
		return "--image"
	case len(at) < 3 || at[0] != "environments" || !slices.Contains(d.names(), at[1]):
		return ""
	}
	e := d.env(at[1])
	switch at[2] {
	case "domains":
		return "--domain " + e.name + "=" + strings.Join(e.domains, ",")
	case "regions":
		return "--region " + e.region
	case "services":
		if len(at) > 3 {
			return "--" + at[3] + " " + e.name + "=" + cmp.Or(e.modes[at[3]], e.usual(at[3]))
		}
	case "platform":
		switch at[len(at)-1] {
		case "org":
			return "--org " + e.org
		case "region":
			return "--region " + e.region
		case "context":
			return "--context " + e.name + "=" + e.context
		}
	}
	return "--platform " + e.name + "=" + e.kind
}
