package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"forged.dev/forged/internal/daemon"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/server"
)

func newStatus(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Ask the running forged how things are",
		Long: `Ask the forged that runs, and show every resource with its state, what was last
done to it and why, and how long ago; below it what was healed lately, and whose
changes those were.`,
		Example: `  forged status
  forged status --address 127.0.0.1:9464 -o json | jq '.environments[] | {name, state}'
  watch -n 2 forged status`,
		Args: noArguments("it asks the forged that runs; --address says where"),
	}
	var address string
	var timeout time.Duration
	c.Flags().StringVar(&address, "address", server.DefaultAddress, "where forged run listens")
	c.Flags().DurationVar(&timeout, "timeout", 5*time.Second, "time to wait for an answer")
	output := choiceFlag(c, "output", "o", "form of the answer", "text", "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(c.Context(), timeout)
		defer cancel()
		body, err := askStatus(ctx, address)
		if err != nil {
			return err
		}
		if output.value == "json" {
			_, err := s.out.Write(body)
			return err
		}
		var snapshot server.Snapshot
		if err := json.Unmarshal(body, &snapshot); err != nil {
			return fmt.Errorf("what answers at %s is not forged: %w; name another with --address", address, err)
		}
		p := newPrinter(s.out)
		showConfig(p, snapshot.Config, time.Now())
		return showStatus(p, snapshot.Status, time.Now())
	}
	return c
}

// maxStatus bounds what is read of an answer, in bytes.
const maxStatus = 64 << 20

func askStatus(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/status", nil)
	if err != nil {
		return nil, fmt.Errorf("--address %q: %w; want host:port", address, err)
	}
	// Never through a proxy: loopback is the normal case.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, unanswered(address, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxStatus))
	if err != nil {
		return nil, fmt.Errorf("read the status from %s: %w", address, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("what answers at %s says %s: %s; name another with --address",
			address, resp.Status, fit(strings.TrimSpace(string(body)), 200))
	}
	return body, nil
}

// unanswered says that nothing answers where a daemon was looked for.
func unanswered(address string, err error) error {
	var cause interface{ Unwrap() error }
	if errors.As(err, &cause) && cause.Unwrap() != nil {
		err = cause.Unwrap() // without the URL
	}
	return fmt.Errorf("no forged answers at %s: %w; start it with forged run, or name another with --address", address, err)
}

func showConfig(p *printer, c daemon.ConfigState, now time.Time) {
	p.wrapped(plain, "config: ", fmt.Sprintf("%s, in force since %s, generation %d, hash %.12s",
		c.Path, age(now, c.Active.At), c.Generation, c.Active.Hash))
	if !c.OK {
		p.wrapped(red, "        ", fmt.Sprintf("the newest one (hash %.12s, received %s ago) is not in force:", c.Received.Hash, age(now, c.Received.At)))
		if len(c.Problems) == 0 {
			p.wrapped(red, "        ", c.Error)
		}
		for _, problem := range c.Problems {
			p.wrapped(red, "        ", problem.String())
		}
	}
	for i, w := range c.Warnings {
		if i == shownWarnings {
			p.wrapped(yellow, "        ", fmt.Sprintf("and %d more; forged validate shows them", len(c.Warnings)-i))
			break
		}
		p.wrapped(yellow, "        ", "warning: "+w.String())
	}
	p.line(plain, "")
}

// shownWarnings is how many warnings about the configuration are listed.
const shownWarnings = 5

// stateColors are the colours of states.
var stateColors = map[reconcile.State]color{
	reconcile.StateReady: green, reconcile.StatePaused: dim, reconcile.StateOrphaned: dim,
	reconcile.StateWaiting: yellow, reconcile.StateProgressing: yellow, reconcile.StateDrifted: yellow,
	reconcile.StateBlocked: red, reconcile.StateUnknown: red, reconcile.StateFailed: red,
}

// showStatus writes the table of all resources and, below it, what each one
// that is not ready has to say.
func showStatus(p *printer, status reconcile.Status, now time.Time) error {
	rows := [][]string{{"ENVIRONMENT", "RESOURCE", "STATE", "LAST ACTION", "AGE"}}
	states := []reconcile.State{""}
	for _, env := range status.Environments {
		for _, r := range env.Resources {
			last, at := "-", r.Since
			switch a := r.LastAction; {
			case r.WaitingFor != "":
				last = "waits for " + strings.TrimPrefix(r.WaitingFor, env.Name+"/")
			case a != nil:
				last, at = lastAction(a), a.At
			}
			rows = append(rows, []string{env.Name, nameOf(r.ID), string(r.State), last, age(now, at)})
			states = append(states, r.State)
		}
	}
	p.table(rows, 3, func(row, col int) color {
		switch {
		case row == 0:
			return bold
		case col == 2:
			return stateColors[states[row]]
		}
		return plain
	})
	showOutputs(p, status)
	for _, env := range status.Environments {
		if why := env.Lease.Message(); why != "" {
			p.wrapped(yellow, env.Name+"  ", why)
		}
		for _, r := range env.Resources {
			showDetail(p, r, now)
		}
	}
	p.whence()
	showHeals(p, status.History, now)
	return p.err
}

// showOutputs lists the addresses and the names that resources have been given.
func showOutputs(p *printer, status reconcile.Status) {
	rows := [][]string{{"ENVIRONMENT", "RESOURCE", "OUTPUT", "VALUE"}}
	for _, env := range status.Environments {
		for _, r := range env.Resources {
			for _, name := range slices.Sorted(maps.Keys(r.Outputs)) {
				rows = append(rows, []string{env.Name, r.ID.Kind + "/" + r.ID.Name, name, r.Outputs[name]})
			}
		}
	}
	if len(rows) == 1 {
		return
	}
	p.line(plain, "")
	p.table(rows, 3, func(row, _ int) color {
		if row == 0 {
			return bold
		}
		return plain
	})
}

// shownHeals is how many of the latest heals are listed.
const shownHeals = 8

// showHeals lists what was put right last, the newest first: the table above
// has room for one action of each resource only.
func showHeals(p *printer, history []reconcile.ActionStatus, now time.Time) {
	rows := [][]string{{"HEALED", "OBJECT", "WHY", "TOOK"}}
	for _, a := range slices.Backward(history) {
		if a.Action != reconcile.ActionHeal || a.Error != "" {
			continue
		}
		took := time.Duration(a.Seconds * float64(time.Second)).Round(100 * time.Microsecond)
		rows = append(rows, []string{age(now, a.At) + " ago", a.ID.Environment + " " + a.Object, a.Reason, took.String()})
		if len(rows) > shownHeals {
			break
		}
	}
	if len(rows) == 1 {
		return
	}
	p.line(plain, "")
	p.table(rows, 2, func(row, _ int) color {
		if row == 0 {
			return bold
		}
		return plain
	})
}

func lastAction(a *reconcile.ActionStatus) string {
	s := string(a.Action)
	if a.Object != "" {
		s += " " + a.Object
	}
	if a.Reason != "" {
		s += ": " + a.Reason
	}
	if a.Error != "" {
		s += " (failed)"
	}
	return s
}

func showDetail(p *printer, r *reconcile.ResourceStatus, now time.Time) {
	told := r.State == reconcile.StateReady || r.WaitingFor != "" // in the table
	if told && r.Error == nil && r.Fight == "" && len(r.Steps) == 0 && len(r.Notices) == 0 {
		return
	}
	p.line(plain, "")
	p.line(bold, r.ID.Environment+"/"+nameOf(r.ID)+": "+string(r.State)+" for "+age(now, r.Since))
	switch {
	case r.Error != nil:
		showError(p, "  ", r.Error)
	case r.Message != "":
		p.wrapped(plain, "  ", r.Message)
	}
	if r.Fight != "" {
		p.wrapped(red, "  fight: ", r.Fight)
	}
	for _, n := range r.Notices {
		text := n.Message
		if n.Object != "" {
			text = n.Object + ": " + text
		}
		p.wrapped(yellow, "  note: ", text)
	}
	for _, step := range r.Steps {
		m := marks[step.Action]
		text := string(step.Action)
		if step.Object != "" {
			text += " " + step.Object
		}
		p.wrapped(m.color, "  "+m.sign+" ", text+": "+step.Reason)
		if why := reasons(step.Blocked, step.Held); why != "" {
			p.wrapped(dim, "      ", "not now: "+why)
		}
	}
	if !r.NextRetry.IsZero() {
		if in := r.NextRetry.Sub(now).Round(time.Second); in > 0 {
			p.wrapped(dim, "  ", "next try in "+in.String())
		} else {
			p.line(dim, "  next try as soon as there is room for it")
		}
	}
}

// reasons are several in one line. What ends one may be a command, to be copied:
// words of the next one after it would be arguments.
func reasons(all ...string) string {
	return strings.Join(slices.DeleteFunc(all, func(s string) bool { return s == "" }), "; ")
}
