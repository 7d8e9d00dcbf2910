package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/mattn/go-isatty"
)

// answers are what init is told, by flags or by a person.
type answers struct {
	platforms  []string
	app, image string
	domains    []string
	contexts   []string
	org        string
	region     string
	postgres   []string
	redis      []string
	temporal   []string
}

func (a *answers) modes(service string) *[]string {
	switch service {
	case "postgres":
		return &a.postgres
	case "redis":
		return &a.redis
	}
	return &a.temporal
}

// asker asks a person; nil when there is none.
type asker struct {
	ctx context.Context // of the one command that it asks for
	in  *bufio.Scanner
	out io.Writer

	unharmed string // what is so when there is no answer
}

// newAsker is an asker when both ends are a terminal.
func newAsker(ctx context.Context, s streams, unharmed string) *asker {
	in, ok := s.in.(*os.File)
	out, ok2 := s.out.(*os.File)
	if !ok || !ok2 || !isatty.IsTerminal(in.Fd()) || !isatty.IsTerminal(out.Fd()) {
		return nil
	}
	return &asker{ctx, bufio.NewScanner(in), out, unharmed}
}

// ask asks until the answer fits; the empty answer is the default. Without
// anybody to ask it is the default at once.
func (a *asker) ask(question, fallback string, fits func(string) error) (string, error) {
	for {
		hint := ""
		if fallback != "" {
			hint = " [" + fallback + "]"
		}
		if _, err := fmt.Fprintf(a.out, "%s%s: ", question, hint); err != nil {
			return "", err
		}
		if err := a.read(); err != nil {
			return "", err
		}
		answer := cmp.Or(strings.TrimSpace(a.in.Text()), fallback)
		err := fits(answer)
		if err == nil {
			return answer, nil
		}
		if _, err := fmt.Fprintf(a.out, "  %v\n", err); err != nil {
			return "", err
		}
	}
}

// read reads a line. A terminal cannot be kept from waiting for one, so once
// the command is over the goroutine that waits ends with the process; nobody
// reads after it.
func (a *asker) read() error {
	line := make(chan bool, 1)
	go func() { line <- a.in.Scan() }()
	select {
	case ok := <-line:
		if !ok {
			return errors.Join(errors.New("no answer; "+a.unharmed), a.in.Err())
		}
		return nil
	case <-a.ctx.Done():
		_, _ = fmt.Fprintln(a.out) // the question has a line of its own
		return &exit{exitInterrupted, errors.New("interrupted; " + a.unharmed)}
	}
}

// complete asks for what is missing, or guesses it. What was guessed and must
// be looked at is returned.
func (a *answers) complete(dir string, person *asker) (guesses []string, err error) {
	get := func(value *string, question, fallback, guess string, fits func(string) error) {
		switch {
		case err != nil || *value != "":
		case person != nil:
			*value, err = person.ask(question, fallback, fits)
		default:
			*value = fallback
			if guess != "" {
				guesses = append(guesses, guess)
			}
		}
	}
	if err := a.fit(); err != nil {
		return nil, err
	}
	get(&a.app, "Name of the app", appName(dir), "", fitsName)
	get(&a.image, "Container image with tag", "ghcr.io/example/"+a.app+":0.1.0",
		"app.image is a guess: write your own", fitsImage)
	if len(a.platforms) == 0 {
		list := ""
		get(&list, "Platforms ("+strings.Join(platformWords, ", ")+"; several with commas, and with names: staging=fly,prod=fks)",
			"minikube", "", fitsPlatforms)
		a.platforms = platformList(list)
	}
	if err != nil {
		return nil, err
	}
	envs, err := a.environments()
	if err != nil {
		return nil, err
	}
	contexts, context, err := byName("context", a.contexts, namesOf(envs))
	if err != nil {
		return nil, err
	}
	fly := false
	for i := range envs {
		e := &envs[i]
		fly = fly || e.onFly()
		if e.kind == "kubernetes" && len(contexts[e.name]) == 0 && len(context) == 0 {
			own := ""
			get(&own, "Context of the kubeconfig for "+e.name, e.name,
				fmt.Sprintf("environments.%s.platform.context is a guess: kubectl config get-contexts lists yours", e.name), fitsText)
			a.contexts = append(a.contexts, e.name+"="+own)
		}
	}
	if fly {
		get(&a.org, "Organization at Fly", "personal", "platform.org is a guess: fly orgs list names yours", fitsText)
		get(&a.region, "Region at Fly", "iad", "the region at Fly is a guess: fly platform regions lists them", fitsRegion)
	}
	if person == nil {
		return guesses, err
	}
	if len(a.domains) == 0 {
		for i := range envs {
			domain := "-"
			if e := &envs[i]; e.public() {
				domain = ""
				get(&domain, "Host name of "+e.name+" (- for none)", "-", "", fitsDomain)
			}
			if domain != "-" {
				a.domains = append(a.domains, envs[i].name+"="+domain)
			}
		}
	}
	for _, service := range services[:2] { // Temporal is for those who ask for it
		modes := a.modes(service)
		if len(*modes) > 0 {
			continue
		}
		for i := range envs {
			e := &envs[i]
			all := e.can(service)
			mode := ""
			get(&mode, fmt.Sprintf("Who runs %s of %s (%s)", serviceNames[service], e.name, strings.Join(all, ", ")), all[0], "", oneOf(all))
			*modes = append(*modes, e.name+"="+mode)
		}
	}
	return guesses, err
}

// appName makes a name of that of the directory.
func appName(dir string) string {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "app"
	}
	name := regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(filepath.Base(abs)), "-")
	name = strings.TrimLeft(name, "-0123456789")
	if len(name) > 30 {
		name = name[:30]
	}
	return cmp.Or(strings.Trim(name, "-"), "app")
}

// fit judges what flags have said, before anything is asked for.
func (a *answers) fit() error {
	for _, flag := range []struct {
		name, value string
		fits        func(string) error
	}{{"app", a.app, fitsName}, {"image", a.image, fitsImage}, {"region", a.region, fitsRegion}} {
		if flag.value == "" {
			continue
		}
		if err := flag.fits(flag.value); err != nil {
			return fmt.Errorf("--%s %s: %w", flag.name, flag.value, err)
		}
	}
	if len(a.platforms) == 0 {
		return nil
	}
	if _, err := a.environments(); err != nil {
		return fmt.Errorf("--platform: %w", err)
	}
	return nil
}

// What a person types is judged at once; whether all of it makes a forge, the
// language decides in the end.
func fitsText(s string) error {
	if s == "" {
		return errors.New("it is needed")
	}
	return nil
}

func fitsName(s string) error {
	if !regexp.MustCompile(`^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$`).MatchString(s) {
		return errors.New(`it has lower-case letters, digits and "-", at most 40, and begins with a letter`)
	}
	return nil
}

func fitsImage(s string) error { _, err := parseImage(s); return err }

func fitsPlatforms(s string) error {
	a := answers{platforms: platformList(s)}
	_, err := a.environments()
	return err
}

// platformList are the platforms of an answer.
func platformList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func fitsRegion(s string) error {
	if !regexp.MustCompile(`^[a-z]{3}$`).MatchString(s) {
		return errors.New("it has three lower-case letters, such as iad")
	}
	return nil
}

func fitsDomain(s string) error {
	if s != "-" && !regexp.MustCompile(`^([*][.])?([a-z0-9]([-a-z0-9]*[a-z0-9])?[.])+[a-z]([-a-z0-9]*[a-z0-9])?$`).MatchString(s) {
		return errors.New("it is a whole name in lower case, such as api.example.com")
	}
	return nil
}

func oneOf(words []string) func(string) error {
	return func(s string) error {
		if !slices.Contains(words, s) {
			return fmt.Errorf("it is one of %s", strings.Join(words, ", "))
		}
		return nil
	}
}

// image is a container image in its parts.
type image struct{ repository, tag, digest string }

func parseImage(s string) (image, error) {
	rest, digest, _ := strings.Cut(s, "@")
	repository, tag := rest, ""
	if i := strings.LastIndex(rest, ":"); i > strings.LastIndex(rest, "/") {
		repository, tag = rest[:i], rest[i+1:]
	}
	if tag == "" && digest == "" || repository == "" {
		return image{}, fmt.Errorf("it has no tag; write one, such as %s:1.4.2", cmp.Or(repository, "ghcr.io/acme/shop"))
	}
	if tag == "latest" && digest == "" {
		return image{}, errors.New("latest is another image tomorrow; write the tag of a release")
	}
	return image{repository, tag, digest}, nil
}
