package evaluate

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"forged.dev/forged/internal/apart"
	"forged.dev/forged/internal/forge"
)

// fill gives every field some value, with nil and empty among them.
func fill(r *rand.Rand, v reflect.Value, depth int) {
	n := r.IntN(3)
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(n > 0)
	case reflect.String:
		v.SetString([]string{"", "a<b>&\u2028\"", "é\n"}[n])
	case reflect.Int, reflect.Int64, reflect.Int32:
		v.SetInt([]int64{0, -7, math.MaxInt32}[n])
	case reflect.Pointer:
		if n > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(r, v.Elem(), depth)
		}
	case reflect.Slice:
		if n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n-1, n-1))
			for i := range n - 1 {
				fill(r, v.Index(i), depth)
			}
		}
	case reflect.Map:
		if n > 0 {
			v.Set(reflect.MakeMap(v.Type()))
		}
		if n > 1 {
			e := reflect.New(v.Type().Elem()).Elem()
			fill(r, e, depth)
			v.SetMapIndex(reflect.ValueOf("key").Convert(v.Type().Key()), e)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(r, v.Field(i), depth)
		}
	case reflect.Interface:
		values := []any{nil, "x", true, 3, int64(math.MaxInt64), 3.0, 1e300, json.Number("3.10"), map[string]any{}, []any{}}
		if depth < 4 {
			var deep map[string]any
			fill(r, reflect.ValueOf(&deep).Elem(), depth+1)
			values = append(values, deep, []any{nil, deep})
		}
		if x := values[r.IntN(len(values))]; x != nil {
			v.Set(reflect.ValueOf(x))
		}
	default:
		panic(v.Type())
	}
}

// TestCarry: a model comes out of the pipe as it went in.
func TestCarry(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		want := &forge.Forge{}
		fill(r, reflect.ValueOf(want).Elem(), 0)
		var b bytes.Buffer
		if err := writeAnswer(&b, answer{forge: want}); err != nil {
			t.Fatal(err)
		}
		got, err := parseAnswer(b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got.forge); d != "" {
			t.Fatal(d)
		}
	}
}

func TestCarryRefuses(t *testing.T) {
	for _, v := range []any{func() {}, struct{ own int }{1}, []any{int8(1)}, map[string]any{"a": struct{}{}}} {
		if packed, err := apart.Pack(v); err == nil {
			t.Errorf("%T is packed as %v", v, packed)
		}
	}
	for _, text := range []string{
		"", "{}", `{"Forge": 1}`, `{"Forge": []}`, `{"Forge": [[1]]}`, `{"Forge": [[{}, 1, 2]]}`,
	} {
		if a, err := parseAnswer([]byte(text)); err == nil {
			t.Errorf("%s is %+v", text, a)
		}
	}
	var v any
	for _, packed := range []any{1, []any{"string"}, []any{"int", "x"}, []any{"func", nil}} {
		if err := apart.Unpack(packed, &v); err == nil {
			t.Errorf("%v is unpacked as %v", packed, v)
		}
	}
	if err := apart.Unpack(nil, new(string)); err == nil || !strings.Contains(err.Error(), "string") {
		t.Error(err)
	}
}
