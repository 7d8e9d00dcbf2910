package external

import (
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/sandboxtest"
	"forged.dev/forged/internal/secret"
)

func TestMain(m *testing.M) {
	os.Exit(sandboxtest.Main(leakless{m}))
}

type leakless struct{ *testing.M }

func (l leakless) Run() int {
	code := l.M.Run()
	// Clients of the tests' own share connections that stay for later ones.
	idle := []goleak.Option{
		goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*clientConnReadLoop).run"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
	}
	if err := goleak.Find(idle...); err != nil && code == 0 {
		os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	return code
}

// variables stand for the environment of forged.
type variables map[string]string

func (v variables) resolver() *secret.Resolver {
	return &secret.Resolver{LookupEnv: func(name string) (string, bool) { text, ok := v[name]; return text, ok }}
}

func env(name string) forge.SecretRef { return forge.SecretRef{Env: name} }

// soon is a pace for tests that wait for answers of real services.
func soon() pace {
	p := usualPace()
	p.limit, p.again = 3*time.Second, 0
	return p
}

// ask looks at a service once.
func ask(t *testing.T, v variables, spec forge.CheckSpec) reconcile.Observed {
	t.Helper()
	clusters := kubernetes.NewClusters(kubernetes.Options{Instance: "test"})
	defer clusters.Close()
	p := newChecks(clusters, v.resolver(), soon())
	o, err := p.Observe(t.Context(), reconcile.Request{Resource: forge.Resource{
		ID: forge.ID{Environment: "e", Kind: forge.KindCheck, Name: spec.Service}, Spec: spec,
	}})
	if err != nil {
		t.Fatal(err)
	}
	silent(t, v, o.Health.Message)
	return o
}

// silent wants no secret in a text.
func silent(t *testing.T, v variables, text string) {
	t.Helper()
	for name, value := range v {
		if strings.HasPrefix(name, "SECRET") && value != "" && strings.Contains(text, value) {
			t.Errorf("a secret is in: %s", text)
		}
	}
}
