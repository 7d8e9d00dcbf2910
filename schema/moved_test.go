package schema_test

import (
	"context"
	"errors"
	"testing"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/schema"
)

const moved = `
forge: "v1"
app: {
	name: "shop"
	image: {repository: "ghcr.io/acme/shop", tag: "1"}
}
environments: prod: {
	services: {postgres: mode: "off", redis: mode: "off"}
	platform: `

const movedToFKS = `{kind: "fks", org: "acme", cluster: "acme-prod", region: "ord", acknowledgeClosedBeta: true, `

// Where an environment was before is the namespace that it has now, in a cluster
// that is named as others are.
func TestMovedFrom(t *testing.T) {
	for platform, want := range map[string]forge.Former{
		movedToFKS + `movedFrom: context: "old"}`:                                                    {Context: "old", Namespace: "shop-prod"},
		movedToFKS + `namespace: "shop", movedFrom: context: "old"}`:                                 {Context: "old", Namespace: "shop"},
		movedToFKS + `movedFrom: {context: "old", namespace: "was"}}`:                                {Context: "old", Namespace: "was"},
		movedToFKS + `kubeconfig: "new", movedFrom: {context: "old", kubeconfig: "k"}}`:              {Context: "old", Kubeconfig: "/etc/shop/k", Namespace: "shop-prod"},
		`{kind: "kubernetes", context: "new", kubeconfig: "k", movedFrom: context: "new"}`:           {Context: "new", Namespace: "shop-prod"},
		`{kind: "kubernetes", context: "new", movedFrom: {context: "new", namespace: "was"}}`:        {Context: "new", Namespace: "was"},
		`{kind: "minikube", movedFrom: {context: "old", impersonate: "system:serviceaccount:a:b"}}`:  {Context: "old", Impersonate: "system:serviceaccount:a:b", Namespace: "shop-prod"},
		`{kind: "kubernetes", context: "new", movedFrom: {context: "old", kubeconfig: "/absolute"}}`: {Context: "old", Kubeconfig: "/absolute", Namespace: "shop-prod"},
	} {
		src := text(moved + platform + "\n}\n")
		src.Dir = "/etc/shop"
		f, _, err := schema.Load(context.Background(), src)
		if err != nil {
			t.Errorf("%s: %v", platform, err)
			continue
		}
		if got := f.Environments[0].Platform.MovedFrom; got == nil || *got != want {
			t.Errorf("%s: %+v, want %+v", platform, got, want)
		}
	}
}

// An environment cannot have moved from where it is, nor from nowhere.
func TestMovedFromHere(t *testing.T) {
	for platform, want := range map[string]string{
		`{kind: "kubernetes", context: "a", movedFrom: context: "a"}`:                                              "moved-from",
		`{kind: "kubernetes", context: "a", kubeconfig: "k", movedFrom: {context: "a", kubeconfig: "./k"}}`:        "moved-from",
		`{kind: "kubernetes", context: "a", namespace: "n", movedFrom: {context: "a", namespace: "n"}}`:            "moved-from",
		`{kind: "minikube", movedFrom: {context: "minikube", namespace: "shop-prod"}}`:                             "moved-from",
		movedToFKS + `kubeconfig: "k", movedFrom: {context: "any", kubeconfig: "k"}}`:                              "moved-from",
		`{kind: "kubernetes", context: "a", movedFrom: context: "b"}, regions: {a: context: "a", b: context: "b"}`: "moved-from",
		`{kind: "kubernetes", context: "a", movedFrom: {}}`:                                                        "missing-key",
		`{kind: "kubernetes", context: "a", movedFrom: {context: "b", cluster: "c"}}`:                              "unknown-key",
		`{kind: "fly", org: "acme", movedFrom: context: "b"}, regions: iad: {primary: true}`:                       "unread-key",
		`{kind: "compose", movedFrom: context: "b"}`:                                                               "unread-key",
	} {
		_, _, err := schema.Load(context.Background(), text(moved+platform+"\n}\n"))
		d, ok := errors.AsType[schema.Diagnostics](err)
		if !ok {
			t.Errorf("%s: %v", platform, err)
			continue
		}
		found := false
		for _, x := range d {
			found = found || x.Name == want && x.Line == 9 && x.Col > 0
		}
		if !found {
			t.Errorf("%s: want %s, got %v", platform, want, d)
		}
	}
}
