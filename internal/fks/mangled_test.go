package fks_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/fks"
)

// Objects in which anything may be missing or of another type are fitted like
// the others: nothing panics, and the second time there is nothing to do.
func TestMangled(t *testing.T) {
	var all [][]*unstructured.Unstructured
	for _, r := range fks.Rules() {
		all = append(all, objects(t, breaking(t, r.ID)))
	}
	for seed := range uint64(400) {
		random := rand.New(rand.NewPCG(seed, 1))
		var given []*unstructured.Unstructured
		for range 2 {
			for _, o := range all[random.IntN(len(all))] {
				given = append(given, o.DeepCopy())
			}
		}
		for range 1 + random.IntN(4) {
			o := given[random.IntN(len(given))]
			o.Object, _ = mangled(random, o.Object).(map[string]any)
		}
		allowed := ""
		if random.IntN(4) == 0 {
			rules := fks.Rules()
			allowed = rules[random.IntN(len(rules))].ID
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			before := written(t, given)
			o := fks.Options{Allow: []string{allowed}}
			out, _ := fks.Fit(given, o)
			if written(t, given) != before {
				t.Error("what was given has changed")
			}
			unchanged(t, out, o)
			if t.Failed() {
				t.Logf("allowed: %q\n%s", allowed, before)
			}
		})
	}
}

// mangled is a value with one place in it changed.
func mangled(random *rand.Rand, v any) any {
	if random.IntN(6) > 0 {
		switch v := v.(type) {
		case map[string]any:
			if len(v) > 0 {
				keys := slices.Sorted(maps.Keys(v))
				key := keys[random.IntN(len(keys))]
				v[key] = mangled(random, v[key])
				return v
			}
		case []any:
			if len(v) > 0 {
				i := random.IntN(len(v))
				v[i] = mangled(random, v[i])
				return v
			}
		}
	}
	switch random.IntN(9) {
	case 0:
		return nil
	case 1:
		return ""
	case 2:
		return []any{}
	case 3:
		return map[string]any{}
	case 4:
		return int64(random.IntN(70000))
	case 5:
		return []any{v, v}
	case 6:
		return map[string]any{"name": v}
	case 7:
		return 0.5
	}
	return "x"
}
