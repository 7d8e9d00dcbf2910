package secret

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"forged.dev/forged/internal/forge"
)

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"plain": "s3cret", "newline": "s3cret\n", "crlf": "s3cret\r\n", "two": "s3cret\n\n",
		"inner": "s3\ncret\n", "empty": "", "blank": "\n", "spaces": " s3cret \n",
		"large": strings.Repeat("x", maxSize) + "\n", "larger": strings.Repeat("x", maxSize+1),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := map[string]string{"SET": "s3cret", "LINE": "s3cret\n", "LINES": "s3\ncret", "EMPTY": ""}
	r := &Resolver{Dir: dir, LookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}

	for _, tt := range []struct {
		name string
		ref  forge.SecretRef
		want string
		err  string
	}{
		{"variable", forge.SecretRef{Env: "SET"}, "s3cret", ""},
		{"variable with newline", forge.SecretRef{Env: "LINE"}, "s3cret", ""},
		{"variable of two lines", forge.SecretRef{Env: "LINES"}, "", "variable LINES holds more than one line"},
		{"empty variable", forge.SecretRef{Env: "EMPTY"}, "", "variable EMPTY is empty"},
		{"no such variable", forge.SecretRef{Env: "UNSET"}, "", "variable UNSET is not set"},
		{"file", forge.SecretRef{File: "plain"}, "s3cret", ""},
		{"absolute file", forge.SecretRef{File: filepath.Join(dir, "plain")}, "s3cret", ""},
		{"file with newline", forge.SecretRef{File: "newline"}, "s3cret", ""},
		{"file with Windows newline", forge.SecretRef{File: "crlf"}, "s3cret", ""},
		{"only one newline is taken off", forge.SecretRef{File: "two"}, "", "holds more than one line"},
		{"file of two lines", forge.SecretRef{File: "inner"}, "", filepath.Join(dir, "inner") + " holds more than one line"},
		{"spaces stay", forge.SecretRef{File: "spaces"}, " s3cret ", ""},
		{"empty file", forge.SecretRef{File: "empty"}, "", "is empty"},
		{"file with nothing but a newline", forge.SecretRef{File: "blank"}, "", "is empty"},
		{"largest file", forge.SecretRef{File: "large"}, strings.Repeat("x", maxSize), ""},
		{"file too large", forge.SecretRef{File: "larger"}, "", "holds more than 1048576 bytes"},
		{"no such file", forge.SecretRef{File: "missing"}, "", filepath.Join(dir, "missing")},
		{"directory", forge.SecretRef{File: "."}, "", "is not a regular file"},
		{"generate", forge.SecretRef{Generate: &forge.Generate{}}, "", "read where it is kept"},
		{"nothing", forge.SecretRef{}, "", "the reference is empty"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, err := r.Resolve(t.Context(), tt.ref)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				if strings.Contains(err.Error(), "s3") {
					t.Fatalf("the error quotes the value: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if string(v.Reveal()) != tt.want {
				t.Errorf("got %d bytes, want %d: another value", len(v.Reveal()), len(tt.want))
			}
		})
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Resolve(ctx, forge.SecretRef{Env: "SET"}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

func TestResolveReadsTheProcess(t *testing.T) {
	t.Setenv("FORGED_TEST_SECRET", "from-process")
	v, err := (&Resolver{}).Resolve(t.Context(), forge.SecretRef{Env: "FORGED_TEST_SECRET"})
	if err != nil || string(v.Reveal()) != "from-process" {
		t.Errorf("got an error (%v) or another value", err)
	}
}

func TestGenerate(t *testing.T) {
	for alphabet, form := range map[string]string{
		"alnum": `^[A-Za-z0-9]{48}$`, "base64url": `^[A-Za-z0-9_-]{48}$`, "hex": `^[0-9a-f]{48}$`,
	} {
		a, err := Generate(forge.Generate{Alphabet: alphabet, Length: 48})
		if err != nil {
			t.Fatal(err)
		}
		b, err := Generate(forge.Generate{Alphabet: alphabet, Length: 48})
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(form).Match(a.Reveal()) {
			t.Errorf("%s: a value not of the form %s", alphabet, form)
		}
		if string(a.Reveal()) == string(b.Reveal()) {
			t.Errorf("%s: the same value twice", alphabet)
		}
	}
	for _, g := range []forge.Generate{{Alphabet: "klingon", Length: 8}, {Alphabet: "hex"}, {Alphabet: "hex", Length: -1}, {Alphabet: "hex", Length: maxSize + 1}} {
		if _, err := Generate(g); err == nil {
			t.Errorf("%+v: no error", g)
		}
	}
}

// Every character must be about as likely as any other.
func TestGenerateIsEven(t *testing.T) {
	const n = 62 * 2000
	v, err := Generate(forge.Generate{Alphabet: "alnum", Length: n})
	if err != nil {
		t.Fatal(err)
	}
	count := map[byte]int{}
	for _, b := range v.Reveal() {
		count[b]++
	}
	if len(count) != 62 {
		t.Fatalf("%d characters of 62 occur", len(count))
	}
	for b, k := range count {
		if k < 1600 || k > 2400 { // 9 standard deviations; modulo bias would add 25 % to some
			t.Errorf("%q occurs %d times, expected about 2000", b, k)
		}
	}
}

func TestValuePrintsNowhere(t *testing.T) {
	const canary = "c4n4ry-Value"
	v := New([]byte(canary))
	type holder struct {
		V  Value
		P  *Value
		M  map[string]Value
		S  []Value
		in Value
	}
	h := holder{v, &v, map[string]Value{"k": v}, []Value{v}, v}

	var outputs []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d", "%t", "%08.3f", "%U", "%c"} {
		outputs = append(outputs, fmt.Sprintf(verb, v), fmt.Sprintf(verb, &v), fmt.Sprintf(verb, h), fmt.Sprintf(verb, &h))
	}
	outputs = append(outputs, fmt.Sprint(v), v.String(), v.GoString(), fmt.Errorf("wrap: %v", v).Error())
	for _, x := range []any{v, &v, h, map[string]any{"x": v}} {
		b, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		outputs = append(outputs, string(b))
	}
	var log strings.Builder
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		l := slog.New(handler)
		l.Info("value", "v", v, "p", &v, "h", h, "m", h.M, slog.Group("g", "v", v))
		l.With("v", v).Error("again", "err", fmt.Errorf("with %v", v))
	}
	outputs = append(outputs, log.String())

	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), "YzRuNHJ5", fmt.Sprint([]byte(canary))[1:20], "0x63, 0x34"} {
		for _, out := range outputs {
			if strings.Contains(out, form) {
				t.Errorf("printed as %q in %q", form, out)
			}
		}
	}
	if string(v.Reveal()) != canary {
		t.Error("Reveal does not give the value")
	}
	v.Reveal()[0] = 'X'
	if string(v.Reveal()) != canary {
		t.Error("the value can be changed from outside")
	}
}
