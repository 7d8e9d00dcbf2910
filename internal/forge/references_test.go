package forge

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// fill puts a reference of its own wherever there is room for one, and one
// element into each list and map on the way.
func fill(v reflect.Value, n *int) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[SecretRef]() {
			*n++
			v.Set(reflect.ValueOf(SecretRef{Env: fmt.Sprint("V", *n)}))
			return
		}
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i), n)
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), n)
	case reflect.Map:
		if v.Type().Elem().Kind() == reflect.Interface {
			return
		}
		v.Set(reflect.MakeMap(v.Type()))
		x := reflect.New(v.Type().Elem()).Elem()
		fill(x, n)
		v.SetMapIndex(reflect.ValueOf("x"), x)
	case reflect.String:
		v.SetString("x")
	}
}

// No reference of the model is forgotten.
func TestReferences(t *testing.T) {
	var f Forge
	n := 0
	fill(reflect.ValueOf(&f).Elem(), &n)
	env := f.Environments[0]
	all := slices.Concat(f.References(env), f.NotificationReferences([]string{"x"}))
	var paths []string
	seen := map[string]bool{}
	for _, r := range all {
		path := strings.Join(r.Path, ".")
		paths = append(paths, path)
		if r.Env == "" || seen[r.Env] || r.Environment != "x" && !strings.HasPrefix(path, "notifications.") {
			t.Errorf("%s: %+v", path, r)
		}
		seen[r.Env] = true
	}
	// The shared app's own come up through the environments that have them.
	if shared := 2 + 2; len(all) != n-shared {
		t.Errorf("%d of %d references: %s", len(all), n-shared, strings.Join(paths, " "))
	}
	slices.Sort(paths)
	if len(slices.Compact(paths)) != len(all) {
		t.Errorf("a path twice: %v", paths)
	}

	f.App = env.App
	all = f.References(env)
	for _, want := range []string{"app.secrets.x", "app.image.pullSecret"} {
		if !slices.ContainsFunc(all, func(r Reference) bool { return strings.Join(r.Path, ".") == want }) {
			t.Errorf("what comes from the shared app is not told at %s", want)
		}
	}
	if got := f.NotificationReferences([]string{"other"}); len(got) != 0 {
		t.Errorf("of another environment: %v", got)
	}
}
