package apart

import (
	"math"
	"os"
	"strings"
	"testing"
	"time"
)

func TestBoundsFrom(t *testing.T) {
	for _, test := range []struct {
		time, memory string
		want         Bounds
		err          string
	}{
		{"", "", Bounds{30 * time.Second, 1 << 30}, ""},
		{"45s", "512MiB", Bounds{45 * time.Second, 512 << 20}, ""},
		{"2m", "2Gi", Bounds{2 * time.Minute, 2 << 30}, ""},
		{"", "134217728", Bounds{30 * time.Second, 128 << 20}, ""},
		{"45", "", Bounds{}, `FORGED_MAX_TIME is "45"; want a duration such as 45s`},
		{"-1s", "", Bounds{}, `FORGED_MAX_TIME is "-1s"`},
		{"", "1GB", Bounds{}, `FORGED_MAX_MEMORY is "1GB"; want a size such as 512MiB or 2GiB`},
		{"", "99999999999999GiB", Bounds{}, `FORGED_MAX_MEMORY is`},
		{"", "1MiB", Bounds{}, `FORGED_MAX_MEMORY is "1MiB"; want at least 32 MiB`},
	} {
		got, err := BoundsFrom(func(name string) string {
			return map[string]string{TimeVariable: test.time, MemoryVariable: test.memory}[name]
		})
		if test.err == "" && (err != nil || got != test.want) || test.err != "" && (err == nil || !strings.HasPrefix(err.Error(), test.err)) {
			t.Errorf("%q, %q: %v, %v", test.time, test.memory, got, err)
		}
	}
}

func TestGiven(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  uint64
	}{
		"no control groups": {nil, math.MaxUint64},
		"version 1":         {map[string]string{"/proc/self/cgroup": "3:memory:/x\n"}, math.MaxUint64},
		"a container":       {map[string]string{"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": "268435456\n"}, 256 << 20},
		"a service": {map[string]string{
			"/proc/self/cgroup": "1:name=systemd:/\n0::/system.slice/forged.service\n",
			"/sys/fs/cgroup/system.slice/forged.service/memory.max": "max\n",
			"/sys/fs/cgroup/system.slice/memory.max":                "1073741824\n",
		}, 1 << 30},
		"seen from outside of it": {map[string]string{
			"/proc/self/cgroup": "0::/../other\n", "/sys/fs/cgroup/memory.max": "4096\n",
		}, 4096},
	} {
		got := given(func(path string) ([]byte, error) {
			if text, ok := test.files[path]; ok {
				return []byte(text), nil
			}
			return nil, os.ErrNotExist
		})
		if got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}
