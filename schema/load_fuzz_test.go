package schema_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"forged.dev/forged/schema"
)

// Whatever the text, Load answers with a forge or with diagnostics.
func FuzzLoad(f *testing.F) {
	names, err := filepath.Glob("../examples/invalid/*.cue")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range append(names, "../examples/forge.cue") {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, s := range []string{"@x(", "@x", "@", "@x(\"\\(\n", "@x(\x00", "@x(\"\n", "a: \"\\q\"\n", "//\xff\n", "a: \"\\(b \"\\(1)\") @x((\n"} {
		f.Add([]byte(strings.Repeat(s, 500)))
		f.Add([]byte("package forge\n" + strings.Repeat(s, 500)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		got, _, err := schema.Load(ctx, schema.Source{Files: []schema.File{{Name: "forge.cue", Data: data}}})
		diags, ok := errors.AsType[schema.Diagnostics](err)
		switch {
		case err == nil:
			if got == nil || len(got.Environments) == 0 {
				t.Fatalf("%+v", got)
			}
			return
		case errors.Is(err, context.DeadlineExceeded):
			t.Fatal("it takes too long")
		case !ok || len(diags) == 0:
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := diags.Write(&out, schema.WriteOptions{Excerpt: true}); err != nil {
			t.Fatal(err)
		}
		for _, d := range diags {
			if d.File != "forge.cue" || d.Message == "" || d.Rule == "" || strings.Contains(d.Message, "\n") {
				t.Errorf("%+v", d)
			}
		}
	})
}
