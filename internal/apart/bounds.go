package apart

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
)

// Bounds are the most that work may cost.
type Bounds struct {
	Time   time.Duration
	Memory uint64 // bytes the Go runtime has taken from the system
}

// DefaultBounds have room for a forge with a thousand environments several times
// over.
func DefaultBounds() Bounds { return Bounds{Time: 30 * time.Second, Memory: 1 << 30} }

// The variables that change the bounds.
const (
	TimeVariable   = "FORGED_MAX_TIME"
	MemoryVariable = "FORGED_MAX_MEMORY"
)

// leastMemory is what the process needs for itself, with room to say something.
const leastMemory = 32 << 20

// BoundsFrom are the default bounds as the variables change them. getenv is
// os.Getenv.
func BoundsFrom(getenv func(string) string) (Bounds, error) {
	b := DefaultBounds()
	if s := getenv(TimeVariable); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil || d <= 0 {
			return b, fmt.Errorf("%s is %q; want a duration such as 45s", TimeVariable, s)
		}
		b.Time = d
	}
	if s := getenv(MemoryVariable); s != "" {
		n, err := parseSize(s)
		if err != nil {
			return b, fmt.Errorf("%s is %q; want a size such as 512MiB or 2GiB", MemoryVariable, s)
		}
		if n < leastMemory {
			return b, fmt.Errorf("%s is %q; want at least %s", MemoryVariable, s, Size(leastMemory))
		}
		b.Memory = n
	}
	return b, nil
}

var units = []struct {
	suffix string
	factor uint64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"Gi", 1 << 30}, {"Mi", 1 << 20}, {"Ki", 1 << 10}, {"", 1}}

func parseSize(s string) (uint64, error) {
	for _, u := range units {
		if digits, ok := strings.CutSuffix(s, u.suffix); ok {
			n, err := strconv.ParseUint(digits, 10, 64)
			if err == nil && n > math.MaxInt64/u.factor {
				err = strconv.ErrRange
			}
			return n * u.factor, err
		}
	}
	return 0, errors.New("unreachable: the last suffix is empty")
}

// Size is n in the largest unit that needs no fraction.
func Size(n uint64) string {
	for _, u := range units[:3] {
		if n >= u.factor && n%u.factor == 0 {
			return fmt.Sprintf("%d %s", n/u.factor, u.suffix)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// Effective are the bounds without zeros, and within what this process has
// been given: beyond half of it, the system would end the process before we
// can say why.
func (b Bounds) Effective() Bounds {
	if b.Time <= 0 {
		b.Time = DefaultBounds().Time
	}
	if b.Memory == 0 {
		b.Memory = DefaultBounds().Memory
	}
	if most := given(os.ReadFile); most/2 < b.Memory {
		b.Memory = max(most/2&^(1<<20-1), leastMemory)
	}
	return b
}

// given is the memory this process may have with its control group (version
// 2) and those above it.
func given(read func(string) ([]byte, error)) uint64 {
	least := uint64(math.MaxUint64)
	groups, err := read("/proc/self/cgroup")
	if err != nil {
		return least // no such thing here
	}
	for line := range strings.Lines(string(groups)) {
		group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		for group = path.Clean("/" + group); ; group = path.Dir(group) {
			text, err := read(path.Join("/sys/fs/cgroup", group, "memory.max"))
			if err == nil {
				if n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil {
					least = min(least, n)
				}
			}
			if group == "/" {
				break
			}
		}
	}
	return least
}
