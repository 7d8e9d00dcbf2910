package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// A line says what is new: another state, or another reason for it, and that not
// too often; and nothing is said in vain.
func TestProgress(t *testing.T) {
	var b bytes.Buffer
	p := progress{log: newLogger(&b, "text", slog.LevelInfo), last: map[forge.ID]progressLine{}}
	now := time.Unix(1_700_000_000, 0)
	say := func(state reconcile.State, on, message string) string {
		b.Reset()
		p.tell(reconcile.Status{Environments: []reconcile.EnvironmentStatus{{Resources: []*reconcile.ResourceStatus{
			{ID: id("prod/release/app"), State: state, WaitingFor: on, Message: message},
		}}}}, now)
		_, line, _ := strings.Cut(strings.TrimSpace(b.String()), "msg=")
		return line
	}
	for i, tt := range []struct {
		after       time.Duration
		state       reconcile.State
		on, message string
		line        string
	}{
		{0, reconcile.StateWaiting, "", "not looked at yet", ""},
		{0, reconcile.StateWaiting, "prod/release/db", "", "state resource=prod/release/app state=waiting for=prod/release/db"},
		{time.Second, reconcile.StateProgressing, "", "0 of 2 ready", `state resource=prod/release/app state=progressing message="0 of 2 ready"`},
		{time.Second, reconcile.StateProgressing, "", "1 of 2 ready", ""},
		{time.Second, reconcile.StateProgressing, "", "ImagePullBackOff", ""},
		{3 * time.Second, reconcile.StateProgressing, "", "ImagePullBackOff", "state resource=prod/release/app state=progressing message=ImagePullBackOff"},
		{time.Hour, reconcile.StateProgressing, "", "ImagePullBackOff", ""},
		{0, reconcile.StateReady, "", "", "state resource=prod/release/app state=ready"},
	} {
		now = now.Add(tt.after)
		if got := say(tt.state, tt.on, tt.message); got != tt.line {
			t.Errorf("%d: %q, want %q", i, got, tt.line)
		}
	}
}
