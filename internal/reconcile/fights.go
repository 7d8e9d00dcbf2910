package reconcile

import "time"

// Numbers of the fight breaker.
const (
	fightHeals  = 5                // within fightWindow; one more is a fight
	fightWindow = 10 * time.Minute // also the quiet time that takes one delay back
	fightFirst  = 2 * time.Second
	fightFactor = 3
	fightMost   = 5 * time.Minute
)

// bout is what one object of a resource has been through. The zero value is
// peace.
type bout struct {
	heals  []time.Time // the newest within fightWindow, at most fightHeals+1
	level  int         // how many times the delay has grown; 0: no fight
	writer string
	told   time.Time // the attempt put off last that the observer knows of
}

// levelAt is the level with one delay taken back for every fightWindow that
// has passed without a heal.
func (b *bout) levelAt(now time.Time) int {
	if len(b.heals) == 0 {
		return 0
	}
	quiet := int(now.Sub(b.heals[len(b.heals)-1]) / fightWindow)
	return max(0, b.level-quiet)
}

// delay is how long to wait after the last heal.
func (b *bout) delay(now time.Time) time.Duration {
	level := b.levelAt(now)
	if level == 0 {
		return 0
	}
	d := fightFirst
	for range level - 1 {
		if d *= fightFactor; d >= fightMost {
			return fightMost
		}
	}
	return d
}

// next is when the object may be healed again; a time in the past means now.
func (b *bout) next(now time.Time) time.Time {
	if len(b.heals) == 0 {
		return time.Time{}
	}
	return b.heals[len(b.heals)-1].Add(b.delay(now))
}

// healed counts one heal that was carried out.
func (b *bout) healed(now time.Time, writer string) {
	b.level = b.levelAt(now)
	for len(b.heals) > 0 && now.Sub(b.heals[0]) >= fightWindow {
		b.heals = b.heals[1:]
	}
	b.heals = append(b.heals, now)
	if len(b.heals) > fightHeals+1 {
		b.heals = append(b.heals[:0], b.heals[1:]...)
	}
	if writer != "" {
		b.writer = writer
	}
	if b.level > 0 || len(b.heals) > fightHeals {
		b.level++
	}
}

// opponent names the other side.
func (b *bout) opponent() string {
	if b.writer == "" {
		return "an unnamed writer"
	}
	return b.writer
}
