package flypostgres_test

import (
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/flypostgres"
	"forged.dev/forged/internal/reconcile"
)

// A quiet cluster stays quiet, and is looked into every few minutes; a rotated
// password reaches who needs it.
func TestManagedQuiet(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		p := flypostgres.NewManaged(r.Accounts())
		q := r.managed(further)
		before := r.reveal(r.Converge(p, q), forge.OutputPassword)
		events := make(chan reconcile.Event, 100)
		go func() {
			_ = p.Watch(r.t.Context(), func(ev reconcile.Event) { events <- ev }) // ends with the test
		}()
		time.Sleep(10 * time.Minute)
		for len(events) > 0 {
			<-events
		}
		requests := r.Line.Requests()
		time.Sleep(5 * time.Hour)
		if len(events) > 0 {
			r.t.Errorf("%d events about nothing", len(events))
		}
		// The engine asks no more for two hours: then nobody looks into it.
		if n := r.Line.Requests() - requests; n > 5*120*2+24*9 {
			r.t.Errorf("%d requests in five hours", n)
		}
		if _, steps := r.Plan(p, q); len(steps) > 0 || !p.Follows(q.Resource) {
			r.t.Errorf("%v, followed %v", steps, p.Follows(q.Resource))
		}
		r.Must(r.Somebody.RotatePostgresPassword(r.t.Context(), r.clusters(clusterName)[0], user, false))
		select {
		case <-events:
		case <-time.After(6 * time.Minute):
			r.t.Error("nobody has noticed the new password")
		}
		o, steps := r.Plan(p, q)
		if len(steps) > 0 || r.reveal(o, forge.OutputPassword) == before {
			r.t.Errorf("%v", steps)
		}
		for _, q := range r.Requests() {
			if q.Status == 429 {
				r.t.Errorf("too many requests: %s", q.Action)
			}
		}
	})
}

// The last backup is told; one that failed is a notice.
func TestManagedBackups(t *testing.T) {
	inBubble(t, flyemulator.Options{}, func(r *rig) {
		p := flypostgres.NewManaged(r.Accounts())
		q := r.managed()
		if o := r.Converge(p, q); o.Health.Message != "no backup yet" {
			r.t.Errorf("%+v", o.Health)
		}
		r.Must(r.Somebody.BackupPostgres(r.t.Context(), r.clusters(clusterName)[0], "full"))
		time.Sleep(10 * time.Minute)
		o, _ := r.Plan(p, q)
		if !strings.HasPrefix(o.Health.Message, "last backup 2000-01-01T") || len(o.Notices) > 0 {
			r.t.Errorf("%+v %+v", o.Health, o.Notices)
		}
		r.Fault(flyemulator.Fault{
			Action: "postgres.backups.list", Status: 200,
			Text: `{"data":[{"id":"a","type":"full","status":"completed","started_at":"2000-01-01T01:00:00Z","finished_at":"2000-01-01T01:01:00Z"},
				{"id":"b","type":"incr","status":"failed","started_at":"2000-01-01T02:00:00Z"},{"id":"c","type":"incr","status":"running","started_at":"2000-01-01T03:00:00Z"}]}`,
		})
		time.Sleep(10 * time.Minute)
		o, _ = r.Plan(p, q)
		if len(o.Notices) != 1 || o.Notices[0].Code != "backup" || !strings.Contains(o.Notices[0].Message, "2000-01-01T02:00:00Z") || o.Health.Status != reconcile.Ready {
			r.t.Errorf("%+v %+v", o.Health, o.Notices)
		}
	})
}
