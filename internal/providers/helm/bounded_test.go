package helm

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/reconcile"
)

// Templates cannot be stopped. However often somebody looks, and gives up, one
// rendering runs at a time; and what a library does wrong in it is an error of
// the release, and not the end of the process.
func TestOneRenderingAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &provider(nil).charts
		begun, end := 0, make(chan struct{})
		slow := func() (*rendering, error) {
			begun++
			<-end
			return &rendering{}, nil
		}
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := s.bounded(ctx, "key", slow); reconcile.KindOf(err) != reconcile.Unavailable {
				t.Errorf("error %v", err)
			}
			cancel()
			synctest.Wait()
		}
		if begun != 1 {
			t.Errorf("%d renderings side by side", begun)
		}
		time.Sleep(renderLimit)
		if _, err := s.bounded(t.Context(), "key", slow); reconcile.KindOf(err) != reconcile.Invalid {
			t.Errorf("it has no end: %v", err)
		}
		close(end)
		synctest.Wait()
		if r, err := s.bounded(t.Context(), "key", slow); r == nil || err != nil {
			t.Errorf("afterwards: %v", err)
		}
		_, err := s.bounded(t.Context(), "other", func() (*rendering, error) { panic("no such thing") })
		if reconcile.KindOf(err) != reconcile.Internal {
			t.Errorf("a panic became %v", err)
		}
	})
}
