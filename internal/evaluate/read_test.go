package evaluate

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		hangs := func() (int, error) {
			<-release
			return 1, nil
		}
		_, err := Read(t.Context(), "forge.cue", time.Minute, hangs)
		if want := "read forge.cue: the system does not answer within 1m0s; look at the disk or the network that it is on, or allow more with FORGED_MAX_TIME"; err == nil || err.Error() != want {
			t.Error(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("interrupted")
		time.AfterFunc(time.Hour, func() { cancel(gone) })
		if _, err = Read(ctx, "<stdin>", 0, hangs); !errors.Is(err, gone) || err.Error() != "read <stdin>: interrupted" {
			t.Error(err)
		}
		if _, err := Read(ctx, "x", 0, func() (int, error) { t.Error("it is read"); return 0, nil }); !errors.Is(err, gone) {
			t.Error(err)
		}
		time.AfterFunc(59*time.Second, func() { close(release) })
		if got, err := Read(t.Context(), "forge.cue", time.Minute, hangs); got != 1 || err != nil {
			t.Errorf("%d, %v", got, err)
		}
		if _, err := Read(t.Context(), "x", time.Minute, func() (int, error) { return 0, gone }); !errors.Is(err, gone) {
			t.Error(err)
		}
	})
}
