package daemon

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestWatcherHangs: what cannot be read keeps nothing else from being seen.
func TestWatcherHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		content := make(chan string, 1)
		w := NewWatcher(WatchOptions{subscribe: func() (subscription, error) { return newFakeSubscription(), nil }})
		now := "1"
		w.Watch([]Watched{
			{Path: "/nfs/stuck", Known: "0", Read: func() Reading { <-release; return Reading{Hash: "0"} }},
			{Path: "/disk/forge.cue", Known: "1", Read: func() Reading {
				select {
				case now = <-content:
				default:
				}
				return Reading{Hash: now}
			}},
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		content <- "2"
		want := map[string]bool{"/nfs/stuck": true, "/disk/forge.cue": true}
		for range 2 {
			select {
			case c := <-w.Changes():
				if !want[c.Path] || (c.Reading.Err == nil) != (c.Reading.Hash == "2") {
					t.Errorf("%+v", c)
				}
				delete(want, c.Path)
			case <-time.After(time.Hour):
				t.Fatalf("not told of %v", want)
			}
		}
		close(release)
		select {
		case c := <-w.Changes():
			if c.Path != "/nfs/stuck" || c.Reading.Hash != "0" {
				t.Errorf("%+v", c)
			}
		case <-time.After(time.Hour):
			t.Error("not told that it can be read")
		}
		cancel()
		must(t, <-done)
	})
}
