package secret

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"forged.dev/forged/internal/forge"
)

// MaxSize is the most a secret may have, in bytes.
const MaxSize = 1 << 20

// Resolver turns references into values. It reads on every call, so that a
// rotated file or a changed variable is seen.
type Resolver struct {
	Dir       string                           // directory of forge.cue; relative files are looked for here
	LookupEnv func(name string) (string, bool) // nil: os.LookupEnv
}

// Resolve reads a reference to a variable or a file. Exactly one newline at
// the end is not part of the value; any other line break is refused. Errors
// name the variable or the file, never the value. A reference to a generated
// value is an error here: see Generate.
func (r *Resolver) Resolve(ctx context.Context, ref forge.SecretRef) (Value, error) {
	if err := ctx.Err(); err != nil {
		return Value{}, err
	}
	switch {
	case ref.Env != "":
		lookup := r.LookupEnv
		if lookup == nil {
			lookup = os.LookupEnv
		}
		text, ok := lookup(ref.Env)
		if !ok {
			return Value{}, fmt.Errorf("variable %s is not set", ref.Env)
		}
		v, err := clean([]byte(text))
		if err != nil {
			return Value{}, fmt.Errorf("variable %s %w", ref.Env, err)
		}
		return v, nil
	case ref.File != "":
		path := ref.File
		if !filepath.IsAbs(path) {
			path = filepath.Join(r.Dir, path)
		}
		raw, err := read(path)
		if err != nil {
			return Value{}, err // names the path
		}
		v, err := clean(raw)
		if err != nil {
			return Value{}, fmt.Errorf("file %s %w", path, err)
		}
		return v, nil
	case ref.Generate != nil:
		return Value{}, errors.New("a generated secret is read where it is kept")
	default:
		return Value{}, errors.New("the reference is empty: want env, file or generate")
	}
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// A directory or a device would give a puzzling error, or none and no end.
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("file %s is not a regular file", path)
	}
	raw, err := io.ReadAll(io.LimitReader(f, MaxSize+3)) // room to see what is too long and a newline
	if err != nil {
		return nil, err
	}
	return raw, nil
}

// clean takes off one line ending and refuses what is not one line of text
// with something in it. Its errors go on from the name of the source.
func clean(raw []byte) (Value, error) {
	if rest, ok := bytes.CutSuffix(raw, []byte("\n")); ok {
		raw = bytes.TrimSuffix(rest, []byte("\r"))
	}
	switch {
	case len(raw) > MaxSize:
		return Value{}, fmt.Errorf("holds more than %d bytes", MaxSize)
	case len(raw) == 0:
		return Value{}, errors.New("is empty")
	case bytes.ContainsAny(raw, "\r\n"):
		return Value{}, errors.New("holds more than one line")
	}
	return New(raw), nil
}

// Alphabets of generated values.
const (
	alnum     = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	base64url = alnum + "-_"
	hexDigits = "0123456789abcdef"
)

// Generate makes a value from the system's source of randomness.
func Generate(g forge.Generate) (Value, error) {
	var alphabet string
	switch g.Alphabet {
	case "alnum":
		alphabet = alnum
	case "base64url":
		alphabet = base64url
	case "hex":
		alphabet = hexDigits
	default:
		return Value{}, fmt.Errorf("generate: unknown alphabet %q: want alnum, base64url or hex", g.Alphabet)
	}
	if g.Length < 1 || g.Length > MaxSize {
		return Value{}, fmt.Errorf("generate: a length of %d is not between 1 and %d", g.Length, MaxSize)
	}
	// Bytes above the largest multiple of the alphabet's size are thrown away,
	// so that no character is likelier than another.
	limit := 256 - 256%len(alphabet)
	out := make([]byte, 0, g.Length)
	buf := make([]byte, g.Length+16)
	for len(out) < g.Length {
		if _, err := rand.Read(buf); err != nil {
			return Value{}, fmt.Errorf("generate: %w", err)
		}
		for _, b := range buf {
			if int(b) < limit && len(out) < g.Length {
				out = append(out, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return New(out), nil
}
