package apart

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
)

// Plain values travel between two processes of one binary, and come out as they
// went in: nil is not empty, a whole number in a chart's values is not a
// fraction, and embedded structs keep the fields whose names others have, too.
// Packages json and gob each lose some of that.

// carried are the types that stand where any type may.
var carried = map[string]reflect.Type{
	"string": reflect.TypeFor[string](), "bool": reflect.TypeFor[bool](),
	"int": reflect.TypeFor[int](), "int64": reflect.TypeFor[int64](), "float64": reflect.TypeFor[float64](),
	"number": reflect.TypeFor[json.Number](), "map": reflect.TypeFor[map[string]any](), "list": reflect.TypeFor[[]any](),
}

// Pack is a plain value as JSON can carry it.
func Pack(v any) (any, error) { return pack(reflect.ValueOf(v)) }

func pack(v reflect.Value) (any, error) {
	switch v.Kind() {
	case reflect.Bool:
		return v.Bool(), nil
	case reflect.String:
		return v.String(), nil
	case reflect.Int, reflect.Int64, reflect.Int32:
		return json.Number(strconv.FormatInt(v.Int(), 10)), nil
	case reflect.Float64:
		return json.Number(strconv.FormatFloat(v.Float(), 'g', -1, 64)), nil
	case reflect.Pointer:
		if v.IsNil() {
			return nil, nil
		}
		return packAll(v.Elem())
	case reflect.Interface:
		if v.IsNil() {
			return nil, nil
		}
		for name, t := range carried {
			if t == v.Elem().Type() {
				value, err := pack(v.Elem())
				return []any{name, value}, err
			}
		}
	case reflect.Slice:
		if v.IsNil() {
			return nil, nil
		}
		elements := make([]reflect.Value, v.Len())
		for i := range elements {
			elements[i] = v.Index(i)
		}
		return packAll(elements...)
	case reflect.Map:
		if v.IsNil() {
			return nil, nil
		}
		all := make(map[string]any, v.Len())
		for key, value := range v.Seq2() {
			packed, err := pack(value)
			if err != nil {
				return nil, err
			}
			all[key.String()] = packed
		}
		return all, nil
	case reflect.Struct:
		fields := make([]reflect.Value, v.NumField())
		for i := range fields {
			if fields[i] = v.Field(i); !fields[i].CanInterface() {
				return nil, fmt.Errorf("%s has a field of its own", v.Type())
			}
		}
		return packAll(fields...)
	}
	return nil, fmt.Errorf("%s is no plain type", v.Type())
}

func packAll(values ...reflect.Value) ([]any, error) {
	all := make([]any, len(values))
	for i, v := range values {
		var err error
		if all[i], err = pack(v); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Unpack sets what to points to to what Pack has made of its like. Numbers in
// packed are of type json.Number.
func Unpack(packed, to any) error { return unpack(packed, reflect.ValueOf(to).Elem()) }

func unpack(packed any, v reflect.Value) error {
	if packed == nil && slices.Contains([]reflect.Kind{reflect.Pointer, reflect.Interface, reflect.Slice, reflect.Map}, v.Kind()) {
		return nil
	}
	list, isList := packed.([]any)
	switch v.Kind() {
	case reflect.Bool:
		if b, ok := packed.(bool); ok {
			v.SetBool(b)
			return nil
		}
	case reflect.String:
		if s, ok := packed.(string); ok {
			v.SetString(s)
			return nil
		}
	case reflect.Int, reflect.Int64, reflect.Int32:
		if n, ok := packed.(json.Number); ok {
			i, err := n.Int64()
			v.SetInt(i)
			return err
		}
	case reflect.Float64:
		if n, ok := packed.(json.Number); ok {
			f, err := n.Float64()
			v.SetFloat(f)
			return err
		}
	case reflect.Pointer:
		if isList && len(list) == 1 {
			v.Set(reflect.New(v.Type().Elem()))
			return unpack(list[0], v.Elem())
		}
	case reflect.Interface:
		if isList && len(list) == 2 {
			if name, ok := list[0].(string); ok && carried[name] != nil {
				value := reflect.New(carried[name]).Elem()
				err := unpack(list[1], value)
				v.Set(value)
				return err
			}
		}
	case reflect.Slice:
		if isList {
			v.Set(reflect.MakeSlice(v.Type(), len(list), len(list)))
			for i, e := range list {
				if err := unpack(e, v.Index(i)); err != nil {
					return err
				}
			}
			return nil
		}
	case reflect.Map:
		if all, ok := packed.(map[string]any); ok {
			v.Set(reflect.MakeMapWithSize(v.Type(), len(all)))
			for _, key := range slices.Sorted(maps.Keys(all)) {
				value := reflect.New(v.Type().Elem()).Elem()
				if err := unpack(all[key], value); err != nil {
					return err
				}
				v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), value)
			}
			return nil
		}
	case reflect.Struct:
		if isList && len(list) == v.NumField() {
			for i, e := range list {
				if err := unpack(e, v.Field(i)); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return fmt.Errorf("%T is no %s", packed, v.Type())
}
