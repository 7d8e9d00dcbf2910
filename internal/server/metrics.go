package server

import (
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// healBuckets reach from a millisecond to a minute: a heal is a few
// milliseconds where nothing is in the way, and minutes where something is.
var healBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// passBuckets begin lower: a pass that finds nothing costs microseconds.
var passBuckets = []float64{.00001, .0001, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}

// Metrics counts what happens. It is a reconcile.Observer, and it owns its
// registry: nothing of forged is in the global one.
type Metrics struct {
	registry *prometheus.Registry

	passes   *prometheus.HistogramVec
	detected *prometheus.CounterVec
	healed   *prometheus.CounterVec
	healing  *prometheus.HistogramVec
	steps    *prometheus.CounterVec
	retries  *prometheus.CounterVec
	fights   *prometheus.CounterVec
	panics   *prometheus.CounterVec
	requests *prometheus.CounterVec

	verified, surprises *prometheus.CounterVec

	mu    sync.Mutex
	known []string // environments, sorted
}

var _ reconcile.Observer = (*Metrics)(nil)

// BuildInfo says which forged this is.
type BuildInfo struct {
	Version   string `json:"version"`
	Revision  string `json:"revision"`
	GoVersion string `json:"goVersion"`
}

// NewMetrics makes metrics that know of no event yet.
func NewMetrics(build BuildInfo) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		passes: histogram("forged_reconcile_duration_seconds",
			"Duration of one pass over a resource, in seconds.", passBuckets, "environment", "kind", "outcome"),
		detected: counter("forged_drift_detected_total",
			"Drifts, each counted once when it is first seen.", "environment", "kind", "reason"),
		healed: counter("forged_drift_healed_total",
			"Drifts that were removed.", "environment", "kind", "reason"),
		healing: histogram("forged_heal_seconds",
			"Time from the event that showed a drift until it was removed, in seconds.", healBuckets, "environment", "kind"),
		steps: counter("forged_steps_total",
			"Steps that were carried out, by what they did: only delete takes something away.", "environment", "kind", "action"),
		retries: counter("forged_retries_total",
			"Errors after which the engine comes back by itself, by kind of error.", "environment", "kind", "error"),
		fights: counter("forged_fights_total",
			"Steps put off because another writer keeps undoing them.", "environment", "kind"),
		panics: counter("forged_panics_total",
			"Panics of a provider; the engine went on. Each one is a bug.", "environment", "kind"),
		requests: counter("forged_api_requests_total",
			"Requests to a control plane, by target, verb and HTTP status; the status is 0 where there was no answer.", "target", "verb", "code"),
	}
	m.verified = counter("forged_verified_objects_total",
		"Objects whose drift detection was checked against the server itself, by target.", "target")
	m.surprises = counter("forged_verify_surprises_total",
		"Objects of which that check showed that a change had been overlooked. Each one is a bug.", "target")
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "forged_build_info", Help: "Always 1; the labels say which forged this is.",
		ConstLabels: prometheus.Labels{"version": build.Version, "revision": build.Revision, "goversion": runtime.Version()},
	})
	info.Set(1)
	m.registry.MustRegister(m.passes, m.detected, m.healed, m.healing, m.steps, m.retries, m.fights, m.panics, m.requests,
		m.verified, m.surprises, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Reconciled implements reconcile.Observer.
func (m *Metrics) Reconciled(id forge.ID, outcome string, d time.Duration) {
	m.passes.WithLabelValues(id.Environment, id.Kind, outcome).Observe(d.Seconds())
}

// Drift implements reconcile.Observer.
func (m *Metrics) Drift(id forge.ID, r reconcile.Reason) {
	m.detected.WithLabelValues(id.Environment, id.Kind, string(r.Code)).Inc()
}

// Healed implements reconcile.Observer.
func (m *Metrics) Healed(id forge.ID, r reconcile.Reason, d time.Duration) {
	m.healed.WithLabelValues(id.Environment, id.Kind, string(r.Code)).Inc()
	m.healing.WithLabelValues(id.Environment, id.Kind).Observe(d.Seconds())
}

// Stepped implements reconcile.Observer.
func (m *Metrics) Stepped(id forge.ID, action reconcile.Action) {
	m.steps.WithLabelValues(id.Environment, id.Kind, string(action)).Inc()
}

// Retried implements reconcile.Observer.
func (m *Metrics) Retried(id forge.ID, kind reconcile.ErrorKind) {
	m.retries.WithLabelValues(id.Environment, id.Kind, string(kind)).Inc()
}

// Fight implements reconcile.Observer. Object and writer are not labels: their
// number has no bound. The log and the status name them.
func (m *Metrics) Fight(id forge.ID, _, _ string) {
	m.fights.WithLabelValues(id.Environment, id.Kind).Inc()
}

// Panicked implements reconcile.Observer.
func (m *Metrics) Panicked(id forge.ID) {
	m.panics.WithLabelValues(id.Environment, id.Kind).Inc()
}

// Request counts one request to a control plane. code 0 means that no answer
// came.
func (m *Metrics) Request(target, verb string, code int) {
	m.requests.WithLabelValues(target, verb, strconv.Itoa(code)).Inc()
}

// Verified counts objects that were checked against the server itself, and how
// many of them had changed without having been noticed.
func (m *Metrics) Verified(target string, objects, surprises int) {
	m.verified.WithLabelValues(target).Add(float64(objects))
	m.surprises.WithLabelValues(target).Add(float64(surprises))
}

// Keep forgets every environment that is not named, so that renaming
// environments does not grow the number of series for ever.
func (m *Metrics) Keep(environments []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, env := range m.known {
		if slices.Contains(environments, env) {
			continue
		}
		labels := prometheus.Labels{"environment": env}
		for _, c := range []*prometheus.MetricVec{
			m.passes.MetricVec, m.detected.MetricVec, m.healed.MetricVec, m.healing.MetricVec,
			m.steps.MetricVec, m.retries.MetricVec, m.fights.MetricVec, m.panics.MetricVec,
		} {
			c.DeletePartialMatch(labels)
		}
	}
	m.known = slices.Clone(environments)
}

// handler answers scrapes.
func (m *Metrics) handler() http.Handler {
	return promhttp.InstrumentMetricHandler(m.registry,
		promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry, MaxRequestsInFlight: 4}))
}
