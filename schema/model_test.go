package schema

import (
	"regexp"
	"strings"
	"testing"
)

// The schema keeps the rules at its head: what the reference and the
// diagnostics know of it is all there is.
func TestSchemaStyle(t *testing.T) {
	m, err := newModel()
	if err != nil {
		t.Fatal(err)
	}
	n, reference := 0, Reference()
	var walk func(p string, k *key)
	walk = func(p string, k *key) {
		names := map[string]string{}
		for _, c := range k.keys {
			if c.doc != "" {
				names[c.name] = c.doc
			}
		}
		for _, c := range k.keys {
			n++
			at := p + "." + c.name
			switch doc := names[c.name]; {
			case doc == "":
				t.Errorf("%s has no comment", at)
			case !strings.HasSuffix(doc, ".") || !regexp.MustCompile(`^[A-Z]`).MatchString(doc):
				t.Errorf("%s: %q is not a sentence", at, doc)
			}
			if c.typ == scalar && !regexp.MustCompile(`^(an?|the) `).MatchString(c.what) {
				t.Errorf("%s: %q does not say what it is", at, c.what)
			}
			if leaf := c.typ != object || c.elem != nil; leaf && !strings.Contains(reference, c.name+"`") && !strings.Contains(reference, c.name+".NAME`") {
				t.Errorf("%s is not in the reference", at)
			}
			if c.typ == enum && len(c.enum) == 0 {
				t.Errorf("%s accepts nothing", at)
			}
			if c.required && c.def != "" {
				t.Errorf("%s is required and has a default", at)
			}
			walk(at, c)
		}
		if k.elem != nil {
			walk(p+".NAME", k.elem)
		}
	}
	walk("", m.root)
	if n < 100 {
		t.Errorf("only %d keys", n)
	}
}

// Hints about what a later build has must not shadow what this build has.
func TestLaterKeysAreNotKeys(t *testing.T) {
	m, err := newModel()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range laterKeys {
		in := path{}
		if k.in != "" {
			in = strings.Split(k.in, ".")
		}
		if k.in == "image" {
			in = path{"app", "image"}
		}
		if len(m.all(in)) == 0 && k.in != "" {
			t.Errorf("%s is no place in the language", k.in)
		}
		if len(m.all(in.with(k.key))) != 0 {
			t.Errorf("%s.%s is a key of this build", k.in, k.key)
		}
	}
	for tag, values := range laterValues {
		all := map[string]bool{}
		var walk func(k *key)
		walk = func(k *key) {
			for _, c := range k.keys {
				if c.name == tag {
					for _, e := range c.enum {
						all[e] = true
					}
				}
				walk(c)
			}
			if k.elem != nil {
				walk(k.elem)
			}
		}
		walk(m.root)
		if len(all) == 0 {
			t.Errorf("%s is no key of the language", tag)
		}
		for v := range values {
			if all[v] {
				t.Errorf("%s: %q is a value of this build", tag, v)
			}
		}
	}
}

func TestDidYouMean(t *testing.T) {
	words := []string{"ingress", "loadbalancer", "none"}
	for s, want := range map[string]string{
		"ingres": "ingress", "Ingress": "ingress", "ingerss": "ingress", "load-balancer": "loadbalancer",
		"lb": "", "nodeport": "", "": "", "non": "none", strings.Repeat("x", 1000): "",
	} {
		if want != "" {
			want = `did you mean "` + want + `"?`
		}
		if got := didYouMean(s, words); got != want {
			t.Errorf("%.20q: %q, want %q", s, got, want)
		}
	}
	for _, d := range []struct {
		a, b string
		n    int
	}{{"", "", 0}, {"", "ab", 2}, {"ab", "", 2}, {"ab", "ba", 1}, {"kitten", "sitting", 3}, {"abc", "abc", 0}} {
		if got := distance(d.a, d.b); got != d.n {
			t.Errorf("%s %s: %d, want %d", d.a, d.b, got, d.n)
		}
	}
}

func TestQuantity(t *testing.T) {
	for s, want := range map[string]float64{
		"250m": 0.25, "2": 2, "0.5": 0.5, "1Gi": 1 << 30, "1G": 1e9, "512Mi": 512 << 20, "3k": 3000, "7Ki": 7 << 10, "1T": 1e12, "1Ti": 1 << 40, "5M": 5e6,
	} {
		if got := quantity(s); got != want {
			t.Errorf("%s: %v, want %v", s, got, want)
		}
	}
}
