package reconcile_test

import (
	"context"
	"testing"
	"testing/synctest"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// What was applied last is put back before its inputs are known. It is as it
// was then, but nobody knows yet whether that is what is asked for: it is not
// called ready, and what needs it waits.
func TestHealedBeforeItsInputsAreKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t)
		all := []forge.Resource{fed("app", "db", "url"), res("db", map[string]any{"pod": "1"}), res("site", map[string]any{"pod": "1"}, "app")}
		if _, err := y.engine.Converge(t.Context(), gen(1, policy, all...)); err != nil {
			t.Fatal(err)
		}
		y.SetHealth(id("db"), reconcile.Health{Status: reconcile.Progressing, Message: "restarting"})
		y.Edit(id("app"), "pod", "2", "somebody")
		y.DropEvents()

		again := engineOn(y.World, y.saw)
		y.engine = again
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- again.Run(ctx) }()
		all[2] = res("site", map[string]any{"pod": "2"}, "app")
		y.set(gen(1, policy, all...))
		if got := y.Live(id("app"))["pod"]; got != "1" {
			t.Errorf("it was not put back: pod is %q", got)
		}
		y.wantState("app", reconcile.StateWaiting)
		if got := y.Live(id("site"))["pod"]; got != "1" {
			t.Error("what needs it was rolled out")
		}
		y.SetHealth(id("db"), reconcile.Health{})
		synctest.Wait()
		y.wantState("app", reconcile.StateReady)
		y.wantState("site", reconcile.StateReady)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
