package main

import (
	"bytes"
	"strings"
	"testing"
)

// A command that is printed to be copied is about the forge that was read.
func TestDestroyingTakesTheFlagsThatWereGiven(t *testing.T) {
	for want, flags := range map[string]configFlags{
		"forged down -e prod --destroy-data --approve abc":                              {config: usualConfig},
		"forged down -c 'my forge.cue' -t tag=1.2 -e prod --destroy-data --approve abc": {config: "my forge.cue", tags: []string{"tag=1.2"}},
		"forged down -t 'a=it'\\''s' --instance shop-2 -e prod --destroy-data --approve abc": {
			config: usualConfig, tags: []string{"a=it's"}, instance: "shop-2",
		},
	} {
		take := &takedown{Environment: "prod", flags: &downOptions{configFlags: flags}}
		if got := take.destroying("abc"); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

// What stays is listed with the commands that remove it, and with where the
// kubeconfig comes from that they take.
func TestStaysSayWhereTheKubeconfigComesFrom(t *testing.T) {
	const command = "kubectl --kubeconfig acme.kubeconfig.yml --namespace shop-prod delete secret shop-"
	take := &takedown{Stays: []stay{
		{Object: "Secret a", Why: isKept, Remove: command + "a"}, {Object: "Secret b", Why: isKept, Remove: command + "b"},
	}}
	for commands, want := range map[bool]int{true: 1, false: 0} {
		var b bytes.Buffer
		p := newPrinter(&b)
		take.showStays(p, commands)
		p.whence()
		if n := strings.Count(b.String(), "fly ext kubernetes save-kubeconfig acme\n"); n != want || strings.Count(b.String(), command) != 2*want {
			t.Errorf("commands %t, said %d times:\n%s", commands, n, b.String())
		}
	}
}
