package schema

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // time zones mean the same on machines that have none
)

func (l *loader) checkPolicy(p path, policy wirePolicy) {
	l.between(p.with("interval"), policy.Interval, 10*time.Second, 24*time.Hour)
	l.between(p.with("timeout"), policy.Timeout, 10*time.Second, 24*time.Hour)
	l.checkWindows(p.with("windows"), policy.Windows)
	for i, rule := range policy.Ignore {
		for j, field := range rule.Fields {
			at := p.with("ignore", strconv.Itoa(i), "fields", strconv.Itoa(j))
			switch root, rest, _ := strings.Cut(field, "."); {
			case notOfContent(root, rest):
				l.rule(at, "ignore-field", fmt.Sprintf("%s is not a field that somebody else could own", field), "name a field of spec or data, a label or an annotation")
			case rest == "" && (root == "spec" || root == "data"):
				l.rule(at, "ignore-field", fmt.Sprintf("%s is all of the object", field), "name the fields in it")
			}
		}
	}
	for i, rule := range policy.Strict {
		for j, field := range rule.Fields {
			at := p.with("strict", strconv.Itoa(i), "fields", strconv.Itoa(j))
			switch root, rest, _ := strings.Cut(field, "."); {
			case notOfContent(root, rest), root == "metadata":
				l.rule(at, "strict-field", fmt.Sprintf("%s is written by others too", field), "name a list or a map in spec or data")
			case rest == "" && root == "spec":
				l.rule(at, "strict-field", fmt.Sprintf("%s is completed by the API server", field), "name a list or a map in it")
			}
		}
	}
}

// notOfContent tells whether a field is an object's identity or its status.
func notOfContent(root, rest string) bool {
	return root == "apiVersion" || root == "kind" || root == "status" ||
		root == "metadata" && (rest == "" || slices.Contains([]string{"name", "namespace", "uid", "labels", "annotations"}, rest))
}

// week is the length of the circle that windows are on.
const week = 7 * 24 * time.Hour

// span is a time of the week, from its beginning on Sunday in UTC.
type span struct {
	window   int
	from, to time.Duration
}

func (l *loader) checkWindows(p path, windows []wireWindow) {
	// Zones differ by another hour in summer than in winter, so both are
	// looked at. The days are Sundays.
	reported := map[[2]int]bool{}
	for _, sunday := range []time.Time{time.Date(2026, 1, 4, 0, 0, 0, 0, time.UTC), time.Date(2026, 7, 5, 0, 0, 0, 0, time.UTC)} {
		var spans []span
		for i, w := range windows {
			zone, err := time.LoadLocation(w.Timezone)
			at := p.with(strconv.Itoa(i))
			if err != nil {
				if !l.isBroken(at.with("timezone")) {
					l.rule(at.with("timezone"), "window", fmt.Sprintf("there is no time zone %q", w.Timezone), `write an IANA name, such as "Europe/Berlin"`)
				}
				continue
			}
			if w.From == w.To {
				if !l.isBroken(at.with("to")) {
					l.rule(at.with("to"), "window", "the window has no length: it ends when it begins", "")
				}
				continue
			}
			_, offset := sunday.In(zone).Zone()
			spans = append(spans, w.spans(i, time.Duration(offset)*time.Second)...)
		}
		slices.SortFunc(spans, func(a, b span) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.window, b.window)) })
		for i, s := range spans {
			next := spans[(i+1)%len(spans)]
			if i == len(spans)-1 {
				next.from += week
			}
			pair := [2]int{min(s.window, next.window), max(s.window, next.window)}
			if len(spans) > 1 && next.from < s.to && pair[0] != pair[1] && !reported[pair] {
				reported[pair] = true
				at := p.with(strconv.Itoa(pair[1]))
				l.rule(at, "window", fmt.Sprintf("it overlaps %s", p.with(strconv.Itoa(pair[0]))), "make one window of the two, or let one end before the other begins")
			}
		}
	}
}

// spans are the times of a window on each of its days.
func (w wireWindow) spans(n int, offset time.Duration) []span {
	days := w.Days
	if len(days) == 0 {
		days = weekdays
	}
	length := clock(w.To) - clock(w.From)
	if length < 0 {
		length += 24 * time.Hour
	}
	var spans []span
	for _, d := range days {
		from := (time.Duration(slices.Index(weekdays, d))*24*time.Hour + clock(w.From) - offset + week) % week
		spans = append(spans, span{n, from, from + length})
	}
	return spans
}
