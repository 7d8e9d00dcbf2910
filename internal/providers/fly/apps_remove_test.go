package fly_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
)

// With an app go the secrets in it. Those whose values nobody else knows are
// named as what they are: data.
func TestRemovalNamesSecretsThatOnlyFlyKnows(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a := r.forged()
		apps, secrets := fly.NewApps(a), fly.NewSecrets(a, vault{"WORD": "a-word"}.resolver())
		res := r.resource(forge.KindFlySecrets, flytest.App, forge.FlySecretsSpec{Account: r.Account(), Apps: []forge.SecretObject{{
			Name: flytest.App, Entries: []forge.SecretEntry{
				{Key: "GIVEN", Ref: &forge.SecretRef{Env: "WORD"}},
				{Key: "MADE", Ref: &forge.SecretRef{Generate: &forge.Generate{Alphabet: "alnum", Length: 24}}},
			},
		}}})
		r.must(r.apply(t.Context(), secrets, ask(res)))
		r.set(flytest.App, "THEIRS", "theirs")
		lost := func(when string) {
			t.Helper()
			steps := r.planned(apps, ask(r.app(), removing))
			if len(steps) != 1 || steps[0].Action != reconcile.ActionDelete || len(steps[0].Destroys) != 1 ||
				!strings.HasSuffix(steps[0].Destroys[0], ": MADE, THEIRS") {
				t.Errorf("%s: %q", when, words(steps))
			}
		}
		lost("before the secrets are removed")
		r.must(r.apply(t.Context(), secrets, ask(res, removing)))
		time.Sleep(time.Minute)
		lost("after that")
	})
}

// What Fly has refused to make is not forged's when somebody makes it later,
// empty as it may be.
func TestRefusedAppIsNotOurs(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		apps := fly.NewApps(r.forged())
		mend := r.Fault(flyemulator.Fault{Action: "apps.create", Body: `"` + flytest.App + `"`, Status: 422, Text: "please add a payment method"})
		if err := r.apply(t.Context(), apps, ask(r.app())); reconcile.KindOf(err) != reconcile.Denied {
			t.Fatal(err)
		}
		mend()
		r.MakeApp(flytest.App) // by somebody else
		time.Sleep(10 * time.Minute)
		if steps := r.planned(apps, ask(r.app(), removing)); len(steps) > 0 {
			t.Errorf("%q", words(steps))
		}
	})
}

// That an app is forged's whose making was not seen to end is certain only while
// it is empty, of secrets, too.
func TestRemovalOfWhatWasNotSeenToBeMade(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		a := r.forged()
		apps := fly.NewApps(a)
		mend := r.Fault(flyemulator.Fault{Action: "apps.create", Body: `"` + flytest.App + `"`, Drop: flyemulator.DropBefore})
		if err := r.apply(t.Context(), apps, ask(r.app())); err == nil {
			t.Fatal("it was made")
		}
		mend()
		r.MakeApp(flytest.App) // by somebody else
		r.set(flytest.App, "THEIRS", "theirs")
		time.Sleep(10 * time.Minute)
		steps := r.planned(apps, ask(r.app(), removing))
		if len(steps) != 1 || steps[0].Action != reconcile.ActionForget {
			t.Errorf("%q", words(steps))
		}
	})
}

// Machines of another environment keep an app, as those of strangers do.
func TestRemovalKeepsMachinesOfAnotherEnvironment(t *testing.T) {
	inApp(t, flyemulator.Options{}, func(t *testing.T, r *rig) {
		m := r.MakeMachine(flytest.App, map[string]string{fly.MarkInstance: flytest.Instance, fly.MarkEnvironment: "staging"})
		steps := r.planned(fly.NewApps(r.forged()), ask(r.app(), removing))
		if len(steps) != 1 || !strings.Contains(steps[0].Blocked, m.Name) {
			t.Errorf("%q", words(steps))
		}
		r.drift(http.MethodDelete, "/v1/apps/"+flytest.App+"/machines/"+m.ID+"?force=true", "")
	})
}
