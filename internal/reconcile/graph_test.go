package reconcile_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

func TestGraphRefuses(t *testing.T) {
	tests := []struct {
		name      string
		resources []forge.Resource
		want      []string
	}{
		{"unknown need", []forge.Resource{res("app", nil, "db")}, []string{"local/release/app needs local/release/db"}},
		{"duplicate", []forge.Resource{res("app", nil), res("app", nil)}, []string{"local/release/app is used by two"}},
		{"itself", []forge.Resource{res("app", nil, "app")}, []string{"local/release/app → local/release/app"}},
		{
			"circle behind a tail",
			[]forge.Resource{res("a", nil, "b"), res("b", nil, "c"), res("c", nil, "b"), res("d", nil)},
			[]string{"local/release/b → local/release/c → local/release/b"},
		},
		{
			"all at once",
			[]forge.Resource{res("a", nil, "x"), res("b", nil, "y"), res("b", nil)},
			[]string{"a needs local/release/x", "b needs local/release/y", "used by two"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := reconcile.NewGraph(tt.resources)
			if err == nil {
				t.Fatal("accepted")
			}
			if k := reconcile.KindOf(err); k != reconcile.Invalid {
				t.Errorf("kind %s, want invalid", k)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

func TestGraphOrder(t *testing.T) {
	resources := []forge.Resource{
		res("app", nil, "db", "cache", "db"), res("worker", nil, "app"),
		res("db", nil, "ns"), res("cache", nil, "ns"), res("ns", nil), res("alone", nil),
	}
	want := [][]forge.ID{{id("alone"), id("ns")}, {id("cache"), id("db")}, {id("app")}, {id("worker")}}
	for range 20 {
		rand.Shuffle(len(resources), func(i, j int) { resources[i], resources[j] = resources[j], resources[i] })
		g, err := reconcile.NewGraph(resources)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, g.Waves()); diff != "" {
			t.Fatalf("waves (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]forge.ID{id("cache"), id("db")}, g.Dependants(id("ns"))); diff != "" {
			t.Fatalf("dependants (-want +got):\n%s", diff)
		}
	}
}

// FuzzGraph: an order, where there is one, puts every resource behind its needs.
func FuzzGraph(f *testing.F) {
	f.Add([]byte{0x12, 0x23, 0x31}, uint8(4))
	f.Add([]byte{0x01, 0x02, 0x13}, uint8(5))
	f.Fuzz(func(t *testing.T, edges []byte, n uint8) {
		size := int(n%16) + 1
		rs := make([]forge.Resource, size)
		name := func(i int) string { return string(rune('a' + i%size)) }
		for i := range rs {
			rs[i] = res(name(i), nil)
		}
		for _, e := range edges {
			from := &rs[int(e>>4)%size]
			from.Needs = append(from.Needs, id(name(int(e&15))))
		}
		g, err := reconcile.NewGraph(rs)
		if err != nil {
			if !strings.Contains(err.Error(), "circle") {
				t.Fatalf("refused for another reason: %v", err)
			}
			return
		}
		at := map[forge.ID]int{}
		for i, id := range g.Order() {
			at[id] = i
		}
		if len(at) != size || g.Len() != size {
			t.Fatalf("%d of %d in order", len(at), size)
		}
		for _, r := range rs {
			for _, need := range r.Needs {
				if at[need] >= at[r.ID] {
					t.Fatalf("%s stands before %s, which it needs", r.ID, need)
				}
			}
		}
	})
}
