package flyemulator

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// prometheusRoutes are a stub of the metrics store: it knows a few of Fly's
// series, made of what machines and volumes are now, and plain selectors. It
// computes nothing.
func (e *Emulator) prometheusRoutes() []route {
	const base = "/prometheus/{org}/"
	get := func(pattern, action string, handler func(*call) reply) []route {
		one := route{method: http.MethodGet, pattern: base + pattern, action: "prometheus." + action, scope: scopeOrg, read: true, rate: uiRate, handler: handler}
		post := one
		post.method = http.MethodPost
		return []route{one, post}
	}
	return slices.Concat(
		get("api/v1/query", "query", e.promQuery), get("api/v1/query_range", "query_range", e.promRange),
		get("api/v1/series", "series", e.promSeries), get("api/v1/labels", "labels", e.promLabels),
		get("api/v1/label/{label}/values", "values", e.promValues), get("federate", "federate", e.promFederate),
	)
}

// sample is a series with its value now.
type sample struct {
	labels map[string]string
	value  float64
}

// series are those of an organization.
func (e *Emulator) series(o *Org) []sample {
	var out []sample
	for _, name := range slices.Sorted(maps.Keys(e.state.Apps)) {
		a := e.state.Apps[name]
		if a.Org != o.Slug {
			continue
		}
		for _, id := range slices.Sorted(maps.Keys(a.Machines)) {
			m := a.Machines[id]
			if m.State == destroyed {
				continue
			}
			add := func(metric string, value float64) {
				out = append(out, sample{map[string]string{
					"__name__": metric, "app": a.Name, "region": m.Region, "host": m.Host, "instance": m.ID,
				}, value})
			}
			up := 0.0
			if m.State == started {
				up = 1
			}
			add("fly_instance_up", up)
			if up == 1 {
				total := 256.0 * 1024
				if m.Config.Guest != nil && m.Config.Guest.MemoryMB > 0 {
					total = float64(m.Config.Guest.MemoryMB) * 1024
				}
				add("fly_instance_memory_mem_total", total)
				add("fly_instance_memory_mem_available", total/2)
				add("fly_app_concurrency", 0)
			}
		}
		for _, id := range slices.Sorted(maps.Keys(a.Volumes)) {
			v := a.Volumes[id]
			labels := map[string]string{"app": a.Name, "region": v.Region, "id": v.ID, "name": v.Name}
			for metric, value := range map[string]float64{"fly_volume_size_bytes": float64(v.SizeGB) * (1 << 30), "fly_volume_used_pct": 10} {
				one := maps.Clone(labels)
				one["__name__"] = metric
				out = append(out, sample{one, value})
			}
		}
	}
	return out
}

var (
	selector = regexp.MustCompile(`^\s*([a-zA-Z_:][a-zA-Z0-9_:]*)?\s*(?:\{([^}]*)\})?\s*$`)
	matcher  = regexp.MustCompile(`^\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"([^"]*)"\s*$`)
)

// picked are the series that a selector matches.
func picked(all []sample, text string) ([]sample, error) {
	m := selector.FindStringSubmatch(text)
	if m == nil || m[1] == "" && m[2] == "" {
		return nil, fmt.Errorf("the emulator knows plain selectors only, not %q", text)
	}
	match := []func(sample) bool{}
	if m[1] != "" {
		match = append(match, func(s sample) bool { return s.labels["__name__"] == m[1] })
	}
	for part := range strings.SplitSeq(m[2], ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		x := matcher.FindStringSubmatch(part)
		if x == nil {
			return nil, fmt.Errorf("%q is no matcher of labels", part)
		}
		pattern := regexp.QuoteMeta(x[3])
		if strings.HasSuffix(x[2], "~") {
			pattern = x[3]
		}
		re, err := regexp.Compile("^(?:" + pattern + ")$")
		if err != nil {
			return nil, err
		}
		match = append(match, func(s sample) bool { return re.MatchString(s.labels[x[1]]) != strings.HasPrefix(x[2], "!") })
	}
	var out []sample
	for _, s := range all {
		if !slices.ContainsFunc(match, func(fits func(sample) bool) bool { return !fits(s) }) {
			out = append(out, s)
		}
	}
	return out, nil
}

// form is a parameter of the query, or of a form in the body.
func (c *call) form(name string) []string {
	values := c.r.URL.Query()[name]
	if c.r.Method == http.MethodPost {
		r := c.r.Clone(c.r.Context())
		r.URL.RawQuery = string(c.body)
		values = append(values, r.URL.Query()[name]...)
	}
	return values
}

func (c *call) firstOf(name string) string {
	if v := c.form(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

func promOK(c *call, v any) reply { return c.ok(object{"status": "success", "data": v}) }

func promBad(c *call, err error) reply {
	return c.reply(http.StatusBadRequest, object{"status": "error", "errorType": "bad_data", "error": err.Error()})
}

// promTime reads a time as Prometheus does; without one it is now.
func promTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return now, nil
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil {
		return time.UnixMilli(int64(f * 1000)), nil
	}
	return time.Parse(time.RFC3339, text)
}

func point(at time.Time, value float64) []any {
	return []any{float64(at.UnixMilli()) / 1000, strconv.FormatFloat(value, 'g', -1, 64)}
}

func (e *Emulator) promQuery(c *call) reply {
	found, err := picked(e.series(c.org), c.firstOf("query"))
	if err != nil {
		return promBad(c, err)
	}
	at, err := promTime(c.firstOf("time"), c.now)
	if err != nil {
		return promBad(c, err)
	}
	out := []object{}
	for _, s := range found {
		out = append(out, object{"metric": s.labels, "value": point(at, s.value)})
	}
	return promOK(c, object{"resultType": "vector", "result": out})
}

func (e *Emulator) promRange(c *call) reply {
	found, err := picked(e.series(c.org), c.firstOf("query"))
	if err != nil {
		return promBad(c, err)
	}
	start, err1 := promTime(c.firstOf("start"), c.now.Add(-time.Hour))
	end, err2 := promTime(c.firstOf("end"), c.now)
	step, err3 := time.ParseDuration(c.firstOf("step"))
	if err3 != nil {
		var seconds float64
		seconds, err3 = strconv.ParseFloat(c.firstOf("step"), 64)
		step = time.Duration(seconds * float64(time.Second))
	}
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			return promBad(c, err)
		}
	}
	if step <= 0 || end.Sub(start)/step > 11000 || end.Before(start) {
		return promBad(c, fmt.Errorf("the step does not fit the range"))
	}
	out := []object{}
	for _, s := range found {
		values := [][]any{}
		for at := start; !at.After(end); at = at.Add(step) {
			values = append(values, point(at, s.value))
		}
		out = append(out, object{"metric": s.labels, "values": values})
	}
	return promOK(c, object{"resultType": "matrix", "result": out})
}

func (e *Emulator) promSeries(c *call) reply {
	out := []map[string]string{}
	for _, text := range c.form("match[]") {
		found, err := picked(e.series(c.org), text)
		if err != nil {
			return promBad(c, err)
		}
		for _, s := range found {
			out = append(out, s.labels)
		}
	}
	return promOK(c, out)
}

func (e *Emulator) promLabels(c *call) reply {
	names := map[string]bool{}
	for _, s := range e.series(c.org) {
		for name := range s.labels {
			names[name] = true
		}
	}
	return promOK(c, append([]string{}, slices.Sorted(maps.Keys(names))...))
}

func (e *Emulator) promValues(c *call) reply {
	values := map[string]bool{}
	for _, s := range e.series(c.org) {
		if v := s.labels[c.values["label"]]; v != "" {
			values[v] = true
		}
	}
	return promOK(c, append([]string{}, slices.Sorted(maps.Keys(values))...))
}

// promFederate writes the text format.
func (e *Emulator) promFederate(c *call) reply {
	var b strings.Builder
	for _, text := range c.form("match[]") {
		found, err := picked(e.series(c.org), text)
		if err != nil {
			return promBad(c, err)
		}
		for _, s := range found {
			var labels []string
			for _, name := range slices.Sorted(maps.Keys(s.labels)) {
				if name != "__name__" {
					labels = append(labels, fmt.Sprintf("%s=%q", name, s.labels[name]))
				}
			}
			fmt.Fprintf(&b, "%s{%s} %s %d\n", s.labels["__name__"], strings.Join(labels, ","), strconv.FormatFloat(s.value, 'g', -1, 64), c.now.UnixMilli())
		}
	}
	return reply{status: http.StatusOK, raw: []byte(b.String()), contentType: "text/plain; version=0.0.4; charset=utf-8"}
}
