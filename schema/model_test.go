package schema

import (
	"regexp"
	"slices"
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
	var walk func(p path, k *key)
	walk = func(p path, k *key) {
		for _, c := range k.keys {
			n++
			at := p.with(c.name)
			described := slices.ContainsFunc(m.find(at), func(f found) bool { return f.doc != "" })
			switch {
			case !described:
				t.Errorf("%s has no comment", at)
			case c.doc != "" && (!strings.HasSuffix(c.doc, ".") || !regexp.MustCompile(`^[A-Z]`).MatchString(c.doc)):
				t.Errorf("%s: %q is not a sentence", at, c.doc)
			}
			if c.typ == scalar && !regexp.MustCompile(`^(an?|the) `).MatchString(c.what) {
				t.Errorf("%s: %q does not say what it is", at, c.what)
			}
			if leaf := c.typ != object && c.elem == nil || c.elem != nil && c.elem.typ != object; leaf && !strings.Contains(reference, c.name+"`") && !strings.Contains(reference, c.name+".NAME`") {
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
			walk(p.with("NAME"), k.elem)
		}
	}
	walk(nil, m.root)
	if n < 100 {
		t.Errorf("only %d keys", n)
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
