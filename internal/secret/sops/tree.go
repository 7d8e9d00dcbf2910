package sops

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// A value is a mapping, a list ([]any), a string, an int, a float64, a bool, a
// time.Time or nil. The order counts: the checksum is made in it. Comments
// have no part in the checksum and are dropped.
type mapping []item

type item struct {
	key   string
	value any
}

func (m mapping) index(key string) int {
	for i := range m {
		if m[i].key == key {
			return i
		}
	}
	return -1
}

// Bounds of what is read. Aliases make a small YAML file a large tree.
const (
	mostValues = 100_000
	mostLevels = 100
)

var errTooLarge = fmt.Errorf("has more than %d values or %d levels", mostValues, mostLevels)

// budget counts what is built.
type budget struct{ values int }

func (b *budget) take(level int) error {
	b.values++
	if b.values > mostValues || level > mostLevels {
		return errTooLarge
	}
	return nil
}

// errTwice refuses what other programs read in different ways.
func errTwice(key string) error { return fmt.Errorf("has the key %s twice", strconv.Quote(key)) }

var errNotMapping = errors.New("is not a mapping of keys to values")

// text is a value as the program that gets it reads it.
func text(v any) []byte {
	switch v := v.(type) {
	case bool:
		return strconv.AppendBool(nil, v)
	case time.Time:
		return []byte(v.Format(time.RFC3339Nano))
	}
	b, _ := digested(v)
	return b
}

// digested is a value as it goes into the checksum.
func digested(v any) ([]byte, error) {
	switch v := v.(type) {
	case string:
		return []byte(v), nil
	case int:
		return strconv.AppendInt(nil, int64(v), 10), nil
	case float64:
		return strconv.AppendFloat(nil, v, 'f', -1, 64), nil
	case bool:
		if v {
			return []byte("True"), nil
		}
		return []byte("False"), nil
	case time.Time:
		return v.MarshalText()
	}
	return nil, fmt.Errorf("has a value of a kind that sops does not have: %T", v)
}
