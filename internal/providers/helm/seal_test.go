package helm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// guessable is a chart with a Secret that is one of a few words, and what looks
// it up.
const guessable = `
apiVersion: v1
kind: Secret
metadata: {name: door}
stringData: {code: {{ .Values.code | quote }}, dice: {{ randAlphaNum 20 | quote }}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: asked}
data: {there: {{ empty (lookup "v1" "Secret" .Release.Namespace "outside") | quote }}}
`

// Who may read ConfigMaps and no Secrets cannot try guesses of a secret on what
// the inventory says of it: no hash in it can be made without a key that lies
// in a Secret.
func TestInventoryConfirmsNoGuess(t *testing.T) {
	r := newRig(t)
	r.with(map[string]string{"templates/guessable.yaml": guessable})
	r.values = map[string]any{"code": "1234"}
	r.converge()
	record := r.record()
	objects, err := r.p.applied(t.Context(), r.opened())
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	for ref, o := range objects {
		sum := sha256.Sum256(o.json)
		if strings.Contains(string(text), hex.EncodeToString(sum[:16])) {
			t.Errorf("a hash of %s is in the inventory: whoever guesses it right can see that", ref)
		}
	}
	one := notesOf(record)
	r.key = "another key"
	r.restart()
	r.converge()
	other := r.record()
	for i, e := range record.Entries {
		if other.Entries[i].Desired == "" || other.Entries[i].Desired == e.Desired {
			t.Errorf("%s: its hash does not depend on the key", e.Ref)
		}
	}
	if two := notesOf(other); two.Key == one.Key || two.Good.Key == one.Good.Key {
		t.Errorf("the render key does not depend on the key: %s", two.Key)
	}
}

// opened is the release as the provider sees it.
func (r *rig) opened() *handle {
	r.t.Helper()
	h, err := r.p.open(r.t.Context(), r.request())
	if err != nil {
		r.t.Fatal(err)
	}
	return h
}

// When the key of checksums is lost, or there was none yet, nothing can be
// compared with what was written down. What runs is compared instead: nothing
// is rolled out, chance is not rolled anew, and it is all written down again.
// What has changed meanwhile is rolled out, and nothing else.
func TestLostKeyRollsNothingOut(t *testing.T) {
	r := newRig(t)
	hooks := map[string]string{
		"templates/guessable.yaml": guessable,
		"templates/hook.yaml":      hook("ConfigMap", "after", `"post-install,post-upgrade"`),
	}
	r.with(hooks)
	r.values = map[string]any{"code": "1234"}
	r.converge()
	r.untilReady()
	dice := func() string {
		t.Helper()
		s, err := r.env.Client.CoreV1().Secrets(r.env.Namespace).Get(t.Context(), "door", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return string(s.Data["dice"]) + s.ResourceVersion
	}
	before := dice()
	quiet := func(when string) {
		t.Helper()
		if steps := r.converge(); len(steps) != 0 {
			t.Errorf("%s: %v", when, steps)
		}
		if dice() != before || r.history() != "deployed" {
			t.Errorf("%s: something was rolled out", when)
		}
	}
	r.key = "another key"
	r.restart()
	quiet("another key")
	// An inventory that was written before there were keys.
	h := r.opened()
	n := notesOf(r.record())
	n.Key, n.Good.Key = "", "0123456789abcdef"
	h.inventory.Note(h.id, n.raw())
	for _, e := range r.record().Entries {
		e.Desired = "0123456789abcdef"
		h.inventory.Rebase(h.id, e)
	}
	r.restart()
	quiet("no key")
	r.restart()
	quiet("once more")
	for _, e := range r.record().Entries {
		if verdict, err := r.p.verify(t.Context(), r.opened().cluster, r.env.Namespace, r.record(), e); err != nil || verdict == 0 {
			t.Errorf("%s cannot be verified any more: %v", e.Ref, err)
		}
	}
	r.key = "a third key"
	hooks["templates/hook.yaml"] = hook("ConfigMap", "later", `"post-install,post-upgrade"`)
	r.with(hooks)
	if steps := r.converge(); len(steps) != 1 || len(steps[0].Changes) != 0 {
		t.Errorf("a hook has changed as well: %v", steps)
	}
	if got := dice(); got != before {
		t.Error("chance was rolled anew")
	}
}

// As long as the key is not known, a first install is planned and not begun;
// what runs is healed, and what is written down of it stays.
func TestWithoutTheKey(t *testing.T) {
	r := newRig(t)
	req := r.request()
	req.Inputs = nil
	steps := r.plan(req)
	if len(steps) != 1 || len(steps[0].Changes) != 3 {
		t.Fatalf("steps %v", steps)
	}
	if _, err := r.p.Apply(t.Context(), req, steps[0]); reconcile.KindOf(err) != reconcile.Waiting {
		t.Errorf("it was installed: %v", err)
	}
	r.converge()
	before := r.record()
	r.drain()
	r.patchMap(`{"data":{"level":"edited"}}`)
	r.changed("ConfigMap " + r.env.Namespace + "/settings")
	steps, err := r.pass(t.Context(), req)
	if err != nil || len(steps) != 1 || steps[0].Action != reconcile.ActionHeal {
		t.Errorf("steps %v, err %v", steps, err)
	}
	for i, e := range r.record().Entries {
		if e.Desired != before.Entries[i].Desired {
			t.Errorf("%s: hash %q, and it was %q", e.Ref, e.Desired, before.Entries[i].Desired)
		}
	}
	r.values = map[string]any{"level": "debug"}
	req = r.request()
	req.Inputs = map[forge.ID]reconcile.Outputs{}
	if steps, err := r.pass(t.Context(), req); len(steps) != 0 || reconcile.KindOf(err) != reconcile.Waiting {
		t.Errorf("what cannot be compared was rolled out, or taken for what is asked for: %v, %v", steps, err)
	}
}
