package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"forged.dev/forged/internal/daemon"
	"forged.dev/forged/internal/reconcile"
)

// Snapshot is what /status answers. It holds no secret.
type Snapshot struct {
	Build    BuildInfo          `json:"build"`
	Instance string             `json:"instance"`
	Started  time.Time          `json:"started"`
	Config   daemon.ConfigState `json:"config"`
	reconcile.Status
}

// gauges are the metrics that are read off a Snapshot when they are scraped,
// so that they can never disagree with /status.
type gauges struct {
	snapshot func() Snapshot

	ok, successAt, failures, info, warnings *prometheus.Desc
	resources, drifted, inventory           *prometheus.Desc
	notices, expiry, lease                  *prometheus.Desc
}

func newGauges(snapshot func() Snapshot) *gauges {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &gauges{
		snapshot: snapshot,
		ok: desc("forged_config_last_reload_successful",
			"Whether the last load of the configuration succeeded (1) or the last good one is still in force (0)."),
		successAt: desc("forged_config_last_reload_success_timestamp_seconds",
			"When the configuration in force was loaded, in seconds since 1970."),
		failures: desc("forged_config_reload_failures_total",
			"Loads of the configuration that failed."),
		info: desc("forged_config_info",
			"Always 1; the label is the hash of the configuration in force.", "hash"),
		warnings: desc("forged_config_warnings",
			"Warnings about the configuration in force; /status and the log say which.", "rule"),
		resources: desc("forged_resources",
			"Resources, by state.", "environment", "state"),
		drifted: desc("forged_drifted_resources",
			"Resources that differ from what is desired now.", "environment"),
		inventory: desc("forged_inventory_entries",
			"Objects this instance owns.", "environment"),
		lease: desc("forged_lease_held",
			"Whether this forged acts on the environment (1) or another one does (0); /status says which.", "environment"),
		notices: desc("forged_notices",
			"What is worth knowing and no step removes; /status says what it is.", "environment", "kind", "code"),
		expiry: desc("forged_expiry_timestamp_seconds",
			"When what a resource stands for expires, a certificate for example, in seconds since 1970.", "environment", "kind", "name"),
	}
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{g.ok, g.successAt, g.failures, g.info, g.warnings, g.resources, g.drifted, g.inventory, g.lease, g.notices, g.expiry} {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(c chan<- prometheus.Metric) {
	s := g.snapshot()
	put := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	ok := 0.0
	if s.Config.OK {
		ok = 1
	}
	put(g.ok, prometheus.GaugeValue, ok)
	put(g.failures, prometheus.CounterValue, float64(s.Config.Failures))
	if s.Config.Generation > 0 {
		put(g.successAt, prometheus.GaugeValue, float64(s.Config.Active.At.UnixMilli())/1000)
		put(g.info, prometheus.GaugeValue, 1, s.Config.Active.Hash)
	}
	rules := map[string]int{}
	for _, w := range s.Config.Warnings {
		rules[w.Rule]++
	}
	for rule, n := range rules {
		put(g.warnings, prometheus.GaugeValue, float64(n), rule)
	}
	for _, env := range s.Status.Environments {
		states := map[reconcile.State]int{}
		drifted, objects := 0, 0
		type kindCode struct{ kind, code string }
		notices := map[kindCode]int{}
		for _, r := range env.Resources {
			states[r.State]++
			objects += r.Objects
			if len(r.Steps) > 0 {
				drifted++
			}
			for _, n := range r.Notices {
				notices[kindCode{r.ID.Kind, n.Code}]++
			}
			if !r.Expires.IsZero() {
				put(g.expiry, prometheus.GaugeValue, float64(r.Expires.Unix()), env.Name, r.ID.Kind, r.ID.Name)
			}
		}
		for at, n := range notices {
			put(g.notices, prometheus.GaugeValue, float64(n), env.Name, at.kind, at.code)
		}
		for state, n := range states {
			put(g.resources, prometheus.GaugeValue, float64(n), env.Name, string(state))
		}
		put(g.drifted, prometheus.GaugeValue, float64(drifted), env.Name)
		put(g.inventory, prometheus.GaugeValue, float64(objects), env.Name)
		if env.Lease != nil {
			held := 0.0
			if env.Lease.Held {
				held = 1
			}
			put(g.lease, prometheus.GaugeValue, held, env.Name)
		}
	}
}
