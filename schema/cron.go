package schema

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// cronFields are the fields of a schedule and what they accept (POSIX,
// crontab; names as Kubernetes has them, CronJob).
var cronFields = []struct {
	name        string
	least, most int
	words       []string
}{
	{"minute", 0, 59, nil},
	{"hour", 0, 23, nil},
	{"day", 1, 31, nil},
	{"month", 1, 12, []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
	{"weekday", 0, 7, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}},
}

// cronMistake says what is wrong with a schedule of five fields; empty:
// nothing.
func cronMistake(schedule string) string {
	for i, field := range strings.Fields(schedule) {
		f := cronFields[i]
		for _, part := range strings.Split(field, ",") {
			span, step, stepped := strings.Cut(part, "/")
			if n, err := strconv.Atoi(step); stepped && (err != nil || n < 1) {
				return fmt.Sprintf("%q is not a step of the %s", step, f.name)
			}
			if span == "*" {
				continue
			}
			from, to, _ := strings.Cut(span, "-")
			if to == "" && strings.HasSuffix(span, "-") || from == "" {
				return fmt.Sprintf("%q is not a %s", span, f.name)
			}
			last := f.least
			for _, x := range []string{from, to} {
				if x == "" {
					continue
				}
				n, err := strconv.Atoi(x)
				if at := slices.Index(f.words, strings.ToLower(x)); at >= 0 {
					n, err = at+f.least, nil
				}
				if err != nil || n < f.least || n > f.most {
					return fmt.Sprintf("%q is not a %s: from %d to %d", x, f.name, f.least, f.most)
				}
				if n < last {
					return fmt.Sprintf("%q goes backwards", span)
				}
				last = n
			}
		}
	}
	return ""
}
