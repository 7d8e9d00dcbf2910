package api

import (
	"context"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// waits answers like Fly: at most 60 seconds at a time, and only for what is
// known.
func waits(reached, known time.Duration) *fake {
	began := time.Now()
	f := &fake{}
	f.serve = func(w http.ResponseWriter, r *http.Request) {
		timeout, err := strconv.Atoi(r.URL.Query().Get("timeout"))
		switch {
		case err != nil || timeout < 1 || timeout > 60:
			says(400, `{"error":"invalid timeout"}`)(w, r)
			return
		case time.Since(began) < known:
			says(404, `{"error":"machine not found"}`)(w, r)
			return
		}
		left := reached - time.Since(began)
		if left > time.Duration(timeout)*time.Second {
			time.Sleep(time.Duration(timeout) * time.Second)
			says(408, `{"error":"deadline_exceeded: machine failed to reach desired state, started, currently starting"}`)(w, r)
			return
		}
		time.Sleep(left)
		says(200, `{"ok":true,"state":"started","version":"01","event_id":"e"}`)(w, r)
	}
	return f
}

func TestWait(t *testing.T) {
	for _, tt := range []struct {
		name           string
		reached, known time.Duration
		wait           WaitFor
		want           Kind
		most           time.Duration
		requests       int
	}{
		{"at once", 0, 0, WaitFor{}, "", time.Second, 1},
		{"longer than Fly waits", 150 * time.Second, 0, WaitFor{Timeout: 5 * time.Minute}, "", 151 * time.Second, 3},
		{"not at all", time.Hour, 0, WaitFor{Timeout: 2 * time.Minute}, TimedOut, 122 * time.Second, 2},
		{"for less than Fly waits", time.Hour, 0, WaitFor{Timeout: 5 * time.Second}, TimedOut, 6 * time.Second, 1},
		{"not known yet", 4 * time.Second, 3 * time.Second, WaitFor{}, "", 6 * time.Second, 4},
		{"never known", 0, time.Hour, WaitFor{Timeout: time.Hour}, NotFound, 15 * time.Second, 11},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := waits(tt.reached, tt.known)
			began := time.Now()
			got, err := newClient(t, f).Wait(t.Context(), "a", "1", tt.wait)
			if KindOf(err) != tt.want || err == nil && got.Version != "01" || time.Since(began) > tt.most || len(f.requests()) != tt.requests {
				t.Errorf("%s: %+v, %v after %s and %d requests", tt.name, got, err, time.Since(began), len(f.requests()))
			}
		})
	}
}

func TestWaitForTheEnd(t *testing.T) {
	got, err := newClient(t, answers(says(404, `{"error":"machine not found"}`))).Wait(t.Context(), "a", "1", WaitFor{States: []string{StateDestroyed}})
	if err != nil || got.State != StateDestroyed {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestWaitAsksForTheVersion(t *testing.T) {
	f := answers(says(200, `{}`))
	if _, err := newClient(t, f).Wait(t.Context(), "a", "1", WaitFor{States: []string{"stopped", "failed"}, Version: "01"}); err != nil {
		t.Fatal(err)
	}
	if q := f.requests()[0].query; q != "instance_id=01&state=stopped%2Cfailed&timeout=60&version=01" {
		t.Error(q)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		f := &fake{fail: func(r *http.Request) error { <-r.Context().Done(); return r.Context().Err() }}
		began := time.Now()
		_, err := newClient(t, f).Wait(ctx, "a", "1", WaitFor{Timeout: time.Hour})
		if err == nil || time.Since(began) > 91*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}
