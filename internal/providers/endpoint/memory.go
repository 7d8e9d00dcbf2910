package endpoint

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// Codes of notices.
const (
	noticeHost        = "host"        // a name of the app does not work yet
	noticeCertificate = "certificate" // the load balancer's own name has no good one
)

const (
	againFirst = time.Second // after the first answer that is none; twice as long each time
	againMost  = 15 * time.Second

	shortest   = 10 * time.Second // between two looks at an app that answers
	othersPace = time.Minute      // between two looks at its further names
)

// limits are how patient one is with an app.
type limits struct {
	interval time.Duration
	failures int
	startup  time.Duration // 0: as long as the policy waits
}

// tolerated is how long an app that has answered may fail to: as long as a probe
// that asks each interval needs to see it fail so often.
func (l limits) tolerated() time.Duration { return time.Duration(l.failures-1) * l.interval }

// memory is what is known of one endpoint.
type memory struct {
	service  string // "Service shop/app"
	question question
	limits   limits
	sight    sight
	settled  time.Time // when all that is needed came to be ready
	told     string    // what an observation last said

	asking   bool
	moved    time.Time // when what is behind the name changed last
	due      time.Time
	looked   time.Time // when somebody last wanted to know
	reminded time.Time // when somebody was told to

	asked  bool // at least once
	last   verdict
	others map[string]verdict
	heard  time.Time // when the further names were asked for last

	good   time.Time // when the last good answer was asked for; zero: there is none
	of     string    // revisions of the pods that gave it
	rolled time.Time // since when a new rollout is waited for

	failures int       // in a row
	failing  time.Time // when the first of them was asked for
	misses   int       // since anything has changed, for the pace
}

// served tells whether the pods that are there now, or the last that were, have
// answered since they were rolled out.
func (m *memory) served() bool {
	return !m.good.IsZero() && (m.sight.revisions == "" || m.sight.revisions == m.of)
}

// proven is served, and that after all that is needed came to be ready.
func (m *memory) proven() bool { return m.served() && !m.good.Before(m.settled) }

// lasting tells whether it has failed for long enough to count.
func (m *memory) lasting(now time.Time) bool {
	return m.failures >= m.limits.failures && now.Sub(m.failing) >= m.limits.tolerated()
}

// see takes what the cluster shows now, and has the app asked at once when that
// has changed.
func (m *memory) see(now time.Time, s sight, q question, l limits, settled time.Time) {
	m.limits, m.looked = l, now
	moved := !m.question.same(q)
	if moved {
		m.asked, m.good, m.failures, m.failing = false, time.Time{}, 0, time.Time{}
	}
	if moved || s.revisions != "" && s.revisions != m.sight.revisions && s.revisions != m.of {
		m.rolled = now
		m.failures, m.failing = 0, time.Time{} // it was another one that failed
	}
	if settled.After(m.settled) && !m.served() {
		m.rolled = now
	}
	if moved || s.pods != m.sight.pods || settled.After(m.settled) || !slices.Equal(q.hosts, m.question.hosts) {
		m.moved, m.due, m.misses, m.heard = now, now, 0, time.Time{}
	}
	m.sight, m.question, m.settled = s, q, settled
}

// answered takes down what came of a question that was asked at a time, when
// the pods were of some revisions.
func (m *memory) answered(at, now time.Time, q question, revisions string, v verdict, others map[string]verdict) {
	if !m.question.same(q) {
		m.due = now // meanwhile it is another one
		return
	}
	m.asked, m.last = true, v
	if others != nil {
		m.others, m.heard = others, at
	}
	if m.works() {
		m.good, m.of = at, revisions
		m.failures, m.failing, m.misses = 0, time.Time{}, 0
		m.due = now.Add(m.limits.interval)
		if !m.proven() || m.moved.After(at) {
			m.due = now // it changed meanwhile
		}
		return
	}
	if m.failures++; m.failures == 1 {
		m.failing = at
	}
	wait := min(againFirst<<min(m.misses, 10), againMost)
	m.misses++
	m.due = now.Add(wait)
	if end := m.failing.Add(m.limits.tolerated()); end.After(now) && end.Before(m.due) {
		m.due = end // when it counts as failed, that is known
	}
	if m.moved.After(at) {
		m.due = now
	}
}

// works tells whether the app has answered, under one of its names: where TLS is
// all that is wrong with the load balancer's own, another one will do.
func (m *memory) works() bool {
	if m.last.fine() {
		return true
	}
	if !m.last.encryption {
		return false
	}
	for _, v := range m.others {
		if v.fine() {
			return true
		}
	}
	return false
}

func (m *memory) health(now time.Time) reconcile.Health {
	progressing := func(format string, args ...any) reconcile.Health {
		return reconcile.Health{Status: reconcile.Progressing, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case !m.sight.there:
		return progressing("%s is not there yet", m.service)
	case !m.sight.balanced:
		return progressing("%s has no load balancer: it is not of type LoadBalancer", m.service)
	case m.sight.host == "":
		return progressing("%s has no address yet", m.service)
	case !m.asked:
		return progressing("%s was not asked for yet", m.url())
	}
	trouble := m.url() + ": " + m.last.trouble
	if m.failures > 0 && m.lasting(now) {
		started := !m.settled.IsZero() && m.limits.startup > 0 && now.Sub(m.rolled) >= m.limits.startup
		switch {
		case m.last.blind:
			return reconcile.Health{Status: reconcile.Unknown, Message: "whether it answers cannot be told from here: " + trouble}
		case m.served(), started:
			return reconcile.Health{Status: reconcile.Failed, Message: trouble}
		}
	}
	switch {
	case !m.proven() && m.failures > 0:
		return progressing("%s", trouble)
	case !m.proven():
		return progressing("%s has not answered since its pods have changed", m.url())
	case m.failures > 0:
		return reconcile.Health{Status: reconcile.Ready, Message: trouble + "; it is asked again"}
	}
	return reconcile.Health{Status: reconcile.Ready}
}

// url is where the app is asked for.
func (m *memory) url() string {
	q := m.question
	scheme := "http://"
	if q.tls {
		scheme = "https://"
	}
	return scheme + strings.TrimSuffix(net.JoinHostPort(q.host, strconv.Itoa(q.port)), usualPort(q.tls)) + q.path
}

// observed is what an observation says.
func (m *memory) observed(now time.Time) reconcile.Observed {
	o := reconcile.Observed{Exists: true, Health: m.health(now), Outputs: reconcile.Outputs{}}
	if m.sight.host == "" {
		return o
	}
	o.Outputs[forge.OutputHost] = reconcile.Output{Value: m.sight.host}
	o.Outputs[forge.OutputAddress] = reconcile.Output{Value: strings.Join(m.sight.addresses, " ")}
	if !m.asked {
		return o
	}
	add := func(code, message string) {
		o.Notices = append(o.Notices, reconcile.Notice{Code: code, Object: m.service, Message: message})
	}
	switch {
	case m.last.certificate != "":
		add(noticeCertificate, m.url()+" answers, but "+m.last.certificate)
	case m.failures == 0 && !m.last.fine():
		add(noticeCertificate, "the app answers under another name, but not at "+m.url()+": "+m.last.trouble)
	}
	for _, host := range m.question.hosts {
		if v, known := m.others[host]; known && !v.fine() && !v.blind {
			add(noticeHost, "asked for as "+host+", "+m.sight.host+" does not serve the app: "+v.trouble)
		}
	}
	return o
}

// print tells observations apart.
func print(o reconcile.Observed) string { return fmt.Sprint(o.Health, o.Notices, o.Outputs) }

// asker asks. A line is one.
type asker interface {
	own(ctx context.Context, q question) verdict
	others(ctx context.Context, q question) map[string]verdict
}
