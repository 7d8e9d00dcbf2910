package reconcile

import (
	"testing"
	"time"

	"forged.dev/forged/internal/forge"
)

func TestOpens(t *testing.T) {
	office := forge.Window{Days: []time.Weekday{time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday}, From: 9 * time.Hour, To: 17 * time.Hour, Zone: "Europe/Berlin"}
	night := forge.Window{Days: []time.Weekday{time.Saturday}, From: 22 * time.Hour, To: 4 * time.Hour, Zone: "UTC"}
	gap := forge.Window{From: 2*time.Hour + 30*time.Minute, To: 3*time.Hour + 30*time.Minute, Zone: "Europe/Berlin"}
	for _, tt := range []struct {
		name    string
		windows []forge.Window
		now     string
		opens   string // empty: now
	}{
		{"no windows", nil, "2026-01-07T12:00:00Z", ""},
		{"inside", []forge.Window{office}, "2026-01-07T08:00:00Z", ""},
		{"before, in winter", []forge.Window{office}, "2026-01-07T07:59:59Z", "2026-01-07T08:00:00Z"},
		{"before, in summer an hour earlier", []forge.Window{office}, "2026-07-08T06:00:00Z", "2026-07-08T07:00:00Z"},
		{"it closes on the minute", []forge.Window{office}, "2026-01-07T16:00:00Z", "2026-01-08T08:00:00Z"},
		{"after the last of the week", []forge.Window{office}, "2026-01-09T18:00:00Z", "2026-01-12T08:00:00Z"},
		{"over midnight", []forge.Window{night}, "2026-01-11T03:59:00Z", ""},
		{"over midnight, not the night before", []forge.Window{night}, "2026-01-10T03:00:00Z", "2026-01-10T22:00:00Z"},
		{"over midnight, closed", []forge.Window{night}, "2026-01-11T04:00:00Z", "2026-01-17T22:00:00Z"},
		{"the sooner of two", []forge.Window{office, night}, "2026-01-10T12:00:00Z", "2026-01-10T22:00:00Z"},
		{"a day whose clock jumps over its beginning", []forge.Window{gap}, "2026-03-29T00:00:00Z", "2026-03-29T01:30:00Z"},
		{"none can be read", []forge.Window{{From: 9 * time.Hour, To: 17 * time.Hour, Zone: "Nowhere/Land"}}, "2026-01-07T12:00:00Z", "2026-01-08T12:00:00Z"},
		{"the clock goes back", []forge.Window{office}, "2026-10-26T07:59:00Z", "2026-10-26T08:00:00Z"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now, err := time.Parse(time.RFC3339, tt.now)
			if err != nil {
				t.Fatal(err)
			}
			want := now
			if tt.opens != "" {
				if want, err = time.Parse(time.RFC3339, tt.opens); err != nil {
					t.Fatal(err)
				}
			}
			if got := opens(tt.windows, now); !got.Equal(want) {
				t.Errorf("opens at %s, want %s", got.UTC(), want)
			}
		})
	}
}
