package compile_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/compile"
	"forged.dev/forged/internal/forge"
)

// readElsewhere are fields of an environment that say nothing about resources,
// and who reads them.
var readElsewhere = map[string]string{
	"Platform.AcceptsBeta":  "schema: fks-beta",
	"Platform.Distribution": "schema: the class of an Ingress, and which certificates there are",
	"Platform.MovedFrom":    "compile: Former",
	"Policy.Mode":           "reconcile",
	"Policy.Interval":       "reconcile",
	"Policy.Timeout":        "reconcile",
	"Policy.Prune":          "reconcile",
	"Policy.MaxDelete":      "reconcile",
	"Policy.Windows":        "reconcile",
	"Policy.DestroyData":    "reconcile",
	"Policy.Recreate":       "helm",
	"Policy.Rollback":       "helm",
	"Policy.Ignore":         "kubernetes",
	"Policy.Strict":         "kubernetes",
	"Policy.Adopt":          "kubernetes",
	"Policy.Pin":            "schema: digest-needed",

	// The language has one version, one kind, and these for the app alone.
	"Expose.Gateway.Kind":        "schema",
	"Services.Temporal.Version":  "schema",
	"Workers.Scaling.Idle":       "schema",
	"Workers.Scaling.MinRunning": "schema",
}

// TestEveryFieldIsRead: what somebody writes in a forge.cue changes what is
// compiled from it, or is a gap that they are told of. Nothing is accepted and
// forgotten.
func TestEveryFieldIsRead(t *testing.T) {
	r := newReader(t)
	for _, at := range r.paths(reflect.TypeFor[forge.Environment](), nil) {
		name := strings.Join(at, ".")
		read, told := r.reads(at)
		_, listed := readElsewhere[name]
		for whole := range readElsewhere {
			listed = listed || strings.HasPrefix(name, whole+".")
		}
		switch {
		case (read || told) && listed:
			t.Errorf("%s is on the list of what compiling does not read, and is read", name)
		case !read && !told && !listed && !r.inGap(at):
			t.Errorf("%s is read by nobody: compile it, add a gap, or put it on the list with who reads it", name)
		}
	}
	for name := range readElsewhere {
		if !slices.ContainsFunc(r.paths(reflect.TypeFor[forge.Environment](), nil), func(at []string) bool { return strings.Join(at, ".") == name }) {
			t.Errorf("%s is on the list and not in the model", name)
		}
	}
}

// reader changes one field of many environments.
type reader struct {
	bases  []forge.Environment
	before []seen
	values map[string][]reflect.Value // of texts, by path, as they are in the bases
}

// seen is what becomes of an environment.
type seen struct{ resources, gaps string }

func look(env forge.Environment) (seen, bool) {
	resources, err := compile.Environment(env)
	if err != nil {
		return seen{}, false
	}
	text := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return string(data)
	}
	return seen{text(resources), text(compile.Gaps(&forge.Forge{Environments: []forge.Environment{env}}))}, true
}

func newReader(t *testing.T) *reader {
	t.Helper()
	r := &reader{values: map[string][]reflect.Value{}}
	for _, e := range examples(t) {
		r.bases = append(r.bases, e.forge.Environments...)
	}
	for _, name := range environmentNames(t) {
		r.bases = append(r.bases, readEnvironment(t, name))
	}
	charts := readEnvironment(t, "minikube")
	charts.Charts = []forge.NamedChart{{Name: "a"}, {Name: "b", Needs: []string{"a"}}}
	charts.App.Needs = []string{"b"}
	route := readEnvironment(t, "minikube")
	route.Domains, route.Charts = []string{"shop.local"}, []forge.NamedChart{{Name: "a"}}
	route.Expose = forge.Expose{Kind: forge.ExposeGateway, Gateway: forge.ObjectRef{Kind: "Gateway", Name: "a", Namespace: "b"}}
	inside := askedFromInside(t)
	redis := askedFromInside(t)
	redis.Services.Redis.Check = forge.CheckFromCluster
	r.bases = append(r.bases, charts, route, inside, redis)
	for i, env := range matrix(t) { // every mode, but not with every other one
		if i%5 == 0 {
			r.bases = append(r.bases, env)
		}
	}
	for _, env := range r.bases {
		is, ok := look(env)
		if !ok {
			t.Fatalf("%s does not compile", env.Name)
		}
		r.before = append(r.before, is)
	}
	for _, at := range r.paths(reflect.TypeFor[forge.Environment](), nil) {
		name := strings.Join(at, ".")
		for _, env := range r.bases {
			walk(reflect.ValueOf(&env).Elem(), at, false, func(v reflect.Value) {
				if v.Kind() == reflect.String && !slices.ContainsFunc(r.values[name], v.Equal) {
					r.values[name] = append(r.values[name], v)
				}
			})
		}
	}
	return r
}

// paths are the fields below a type that hold something themselves. A list, a
// map and a pointer are a field of their own, and what they lead to is below.
func (r *reader) paths(t reflect.Type, at []string) [][]string {
	var all [][]string
	switch t.Kind() {
	case reflect.Struct:
		if t == reflect.TypeFor[forge.SecretRef]() { // nobody takes it apart here
			return append(all, at)
		}
		for i := range t.NumField() {
			f := t.Field(i)
			all = append(all, r.paths(f.Type, append(slices.Clone(at), f.Name))...)
		}
		return all
	case reflect.Slice, reflect.Pointer:
		all = append(all, at)
		// What a region has of its own is read as the environment's is.
		if t.Elem().Kind() == reflect.Struct && t != reflect.TypeFor[*forge.TLS]() && t != reflect.TypeFor[*forge.Scaling]() {
			all = append(all, r.paths(t.Elem(), at)...)
		}
		return all
	default:
		return append(all, at)
	}
}

// walk calls found with the values at a path; into also with what is in the
// lists on the way, which are filled where they are empty.
func walk(v reflect.Value, at []string, fill bool, found func(reflect.Value)) {
	switch v.Kind() {
	case reflect.Slice:
		if len(at) == 0 {
			found(v)
			return
		}
		if v.Len() == 0 && fill {
			v.Set(reflect.Append(v, filled(v.Type().Elem())))
		}
		for i := range v.Len() {
			walk(v.Index(i), at, fill, found)
		}
	case reflect.Pointer:
		if len(at) == 0 {
			found(v)
			return
		}
		if v.IsNil() {
			if !fill {
				return
			}
			v.Set(filled(v.Type()))
		}
		walk(v.Elem(), at, fill, found)
	case reflect.Struct:
		if len(at) == 0 {
			found(v)
			return
		}
		if f := v.FieldByName(at[0]); f.IsValid() {
			walk(f, at[1:], fill, found)
		}
	default:
		found(v)
	}
}

// filled is a value with something in all of its fields.
func filled(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	switch t.Kind() {
	case reflect.String:
		v.SetString("other")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Slice:
		v.Set(reflect.Append(v, filled(t.Elem())))
	case reflect.Map:
		v.Set(reflect.MakeMap(t))
		v.SetMapIndex(filled(t.Key()), filled(t.Elem()))
	case reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		v.Elem().Set(filled(t.Elem()))
	case reflect.Struct:
		if t == reflect.TypeFor[forge.SecretRef]() {
			return reflect.ValueOf(forge.SecretRef{Env: "OTHER"})
		}
		for i := range t.NumField() {
			v.Field(i).Set(filled(t.Field(i).Type))
		}
	case reflect.Interface:
		v.Set(reflect.ValueOf("other"))
	}
	return v
}

// others are values that differ from v.
func (r *reader) others(name string, v reflect.Value) []reflect.Value {
	switch v.Kind() {
	case reflect.Bool:
		return []reflect.Value{reflect.ValueOf(!v.Bool()).Convert(v.Type())}
	case reflect.Int, reflect.Int64:
		n := int64(1)
		if v.Type() == reflect.TypeFor[time.Duration]() {
			n = int64(time.Hour)
		}
		return []reflect.Value{reflect.ValueOf(v.Int() + n).Convert(v.Type())}
	case reflect.String:
		all := append(slices.Clone(r.values[name]), reflect.ValueOf(v.String()+"1").Convert(v.Type()))
		return slices.DeleteFunc(all, v.Equal)
	default:
		return []reflect.Value{reflect.Zero(v.Type()), filled(v.Type())}
	}
}

// reads tells whether a change of the field changes what is compiled, and
// whether it changes the gaps.
func (r *reader) reads(at []string) (read, told bool) {
	name := strings.Join(at, ".")
	for i, base := range r.bases {
		if read {
			// The field beside it is read there too, most of the time.
			r.bases[0], r.bases[i-1] = r.bases[i-1], r.bases[0]
			r.before[0], r.before[i-1] = r.before[i-1], r.before[0]
			return read, told
		}
		start := clone(base)
		walk(reflect.ValueOf(&start).Elem(), at, true, func(reflect.Value) {})
		before, ok := r.before[i], true
		if !reflect.DeepEqual(start, base) {
			before, ok = look(start)
		}
		if !ok {
			continue
		}
		var count int
		walk(reflect.ValueOf(&start).Elem(), at, false, func(v reflect.Value) { count = max(count, len(r.others(name, v))) })
		for n := range count {
			env := clone(start)
			walk(reflect.ValueOf(&env).Elem(), at, false, func(v reflect.Value) {
				if others := r.others(name, v); n < len(others) {
					v.Set(others[n])
				}
			})
			if after, ok := look(env); ok {
				read, told = read || after.resources != before.resources, told || after.gaps != before.gaps
			}
			if read {
				break
			}
		}
	}
	return read, told
}

// inGap tells whether the field is part of something that is a gap as a whole
// and that compiling leaves to others.
func (r *reader) inGap(at []string) bool {
	for n := 1; n < len(at); n++ {
		if read, told := r.reads(at[:n]); told && !read {
			return true
		}
	}
	return false
}

// clone is a copy that shares nothing.
func clone(env forge.Environment) forge.Environment {
	data, err := json.Marshal(env)
	if err != nil {
		panic(err)
	}
	var out forge.Environment
	if err := json.Unmarshal(data, &out); err != nil {
		panic(err)
	}
	return out
}
