package entries

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// shelf is a platform with generated values by key.
type shelf map[string]string

func (s shelf) Generated(_ context.Context, slot Slot, _ forge.Generate) (secret.Value, error) {
	return secret.New([]byte(s[slot.Key])), nil
}

func (shelf) Kubernetes(_ context.Context, slot Slot, ref forge.KubernetesRef, _ bool) (secret.Value, error) {
	return secret.New([]byte(ref.Name + "." + ref.Key)), nil
}

func (shelf) Object(name string) string { return "Secret shop/" + name }

var database = forge.ID{Environment: "prod", Kind: "fly-postgres", Name: "db"}

func read(t *testing.T, refs ...forge.SecretEntry) *Reading {
	t.Helper()
	env := map[string]string{"WORD": "w:rd", "URL": "postgres://us%40er:pa%2Fss@[::1]/shop", "LINES": "a\nb"}
	resolver := &secret.Resolver{LookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
	l := Read(reconcile.Request{
		Resource: forge.Resource{ID: forge.ID{Environment: "prod", Kind: "secrets", Name: "shop"}},
		Inputs: map[forge.ID]reconcile.Outputs{database: {
			"host": {Value: "db.internal"}, "password": {Secret: secret.New([]byte("p@ss"))},
		}},
	}, resolver, shelf{"known": "k?y"})
	if err := l.Refer(t.Context(), forge.SecretObject{Name: "env", Entries: refs}); err != nil {
		t.Fatal(err)
	}
	return l
}

func generated(key string) forge.SecretEntry {
	return forge.SecretEntry{Key: key, Ref: &forge.SecretRef{Generate: &forge.Generate{}}}
}

func TestJoin(t *testing.T) {
	url := &forge.SecretRef{Env: "URL"}
	for _, tt := range []struct {
		name, want string
		parts      []forge.SecretPart
	}{
		{"literals", "a:b", []forge.SecretPart{{Literal: "a"}, {Literal: ":b"}}},
		{"an entry", "x k?y k%3Fy", []forge.SecretPart{{Literal: "x "}, {Secret: "env", Key: "known"}, {Literal: " "}, {Secret: "env", Key: "known", URLEscape: true}}},
		{"a reference", "w%3Ard", []forge.SecretPart{{Ref: &forge.SecretRef{Env: "WORD"}, URLEscape: true}}},
		{"outputs", "db.internal p%40ss", []forge.SecretPart{{From: database, Output: "host"}, {Literal: " "}, {From: database, Output: "password", URLEscape: true}}},
		{"fields", "us@er pa/ss [::1] 5432 shop", []forge.SecretPart{
			{Ref: url, Field: "user"},
			{Literal: " "},
			{Ref: url, Field: "password"},
			{Literal: " "},
			{Ref: url, Field: "host"},
			{Literal: " "},
			{Ref: url, Field: "port"},
			{Literal: " "},
			{Ref: url, Field: "path"},
		}},
		{"a cluster", "name.key", []forge.SecretPart{{Ref: &forge.SecretRef{Kubernetes: &forge.KubernetesRef{Name: "name", Key: "key"}}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := read(t, generated("known"))
			v, err := l.Join(t.Context(), "app", forge.SecretEntry{Key: "K", Join: tt.parts})
			if err != nil || string(v.Reveal()) != tt.want {
				t.Errorf("got %q, %v; want %q", v.Reveal(), err, tt.want)
			}
		})
	}
}

func TestJoinFails(t *testing.T) {
	for _, tt := range []struct {
		name  string
		kind  reconcile.ErrorKind
		parts []forge.SecretPart
		want  string
	}{
		{"from nothing", reconcile.Invalid, []forge.SecretPart{{}}, "resolve Secret shop/app: key K: it is joined from nothing"},
		{"no such entry", reconcile.Invalid, []forge.SecretPart{{Secret: "env", Key: "other"}}, "it is joined from key other of Secret shop/env, which is not a reference of this resource"},
		{"two lines", reconcile.Invalid, []forge.SecretPart{{Ref: &forge.SecretRef{Env: "LINES"}}}, "variable LINES holds more than one line"},
		{"not a URL", reconcile.Invalid, []forge.SecretPart{{Secret: "env", Key: "known", Field: "host"}}, "key known of Secret shop/env is not a URL"},
		{"no place", reconcile.Invalid, []forge.SecretPart{{Ref: &forge.SecretRef{Generate: &forge.Generate{}}}}, "no place of its own"},
		{"not known yet", reconcile.Waiting, []forge.SecretPart{{From: database, Output: "port"}}, `output "port"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := read(t, generated("known")).Join(t.Context(), "app", forge.SecretEntry{Key: "K", Join: tt.parts})
			if err == nil || reconcile.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v; want %s: %s", err, tt.kind, tt.want)
			}
		})
	}
}

// What nobody can tell is no mistake: it is said which value it is.
func TestJoinOfWhatNobodyCanTell(t *testing.T) {
	l := read(t, generated("known"), generated("gone"))
	e := forge.SecretEntry{Key: "K", Join: []forge.SecretPart{{Literal: "x"}, {Secret: "env", Key: "gone"}, {Secret: "env", Key: "known"}}}
	_, err := l.Join(t.Context(), "app", e)
	var unknown *UnknownError
	if !errors.As(err, &unknown) || unknown.Slot != (Slot{"env", "gone"}) {
		t.Errorf("got %v", err)
	}
	pieces, err := l.Pieces(t.Context(), "app", e)
	if err != nil || len(pieces) != 3 || pieces[0].Open || !pieces[1].Open || pieces[2].Open || pieces[2].Slot != (Slot{"env", "known"}) {
		t.Errorf("pieces: %+v, %v", pieces, err)
	}
	l.Withhold(Slot{"env", "known"})
	if pieces, err = l.Pieces(t.Context(), "app", e); err != nil || !pieces[2].Open {
		t.Errorf("withheld: %+v, %v", pieces, err)
	}
}

func TestSilent(t *testing.T) {
	file := &forge.SecretRef{File: "token"}
	env := &forge.SecretRef{Env: "TOKEN"}
	for _, tt := range []struct {
		name  string
		entry forge.SecretEntry
		want  bool
	}{
		{"variable", forge.SecretEntry{Ref: env}, false},
		{"file", forge.SecretEntry{Ref: file}, true},
		{"joined from a file", forge.SecretEntry{Join: []forge.SecretPart{{Literal: "x"}, {Ref: file}}}, true},
		{"joined from a variable", forge.SecretEntry{Join: []forge.SecretPart{{Ref: env}}}, false},
	} {
		if got := Silent([]forge.SecretObject{{Entries: []forge.SecretEntry{tt.entry}}}); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

func TestRaise(t *testing.T) {
	objects := []forge.SecretObject{
		{Name: "a", Entries: []forge.SecretEntry{
			{Key: "x", Field: "environments.prod.x", Ref: &forge.SecretRef{Generate: &forge.Generate{Rotation: 2}}},
			{Key: "y", Ref: &forge.SecretRef{Generate: &forge.Generate{}}},
			{Key: "z", Ref: &forge.SecretRef{Env: "Z"}},
		}},
	}
	got := Raise(objects, Slot{"a", "y"}, Slot{"a", "x"}, Slot{"a", "z"})
	if want := []string{"environments.prod.x: generate: rotation: 3", "of y: generate: rotation: 1"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if got := Raise(objects, Slot{"a", "z"}); !slices.Equal(got, []string{"raise rotation beside generate"}) {
		t.Errorf("got %q", got)
	}
}

func TestAppendEscaped(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	got := string(appendEscaped(nil, all))
	if strings.ContainsAny(got, ":/?#[]@!$&'()*+,;= \"<>\\^`{|}") || !strings.Contains(got, "-.%2F0123456789") || !strings.Contains(got, "%7F%80") {
		t.Errorf("got %q", got)
	}
}
