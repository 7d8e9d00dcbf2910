package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/sandboxtest"
	"forged.dev/forged/internal/secret"
)

// onFKS is what a test has of an organization at Fly that it shares with others:
// what is called as it is, or begins with that.
type onFKS struct {
	*sandboxtest.Fly
	name     string
	somebody *api.Client
}

// newOnFKS makes a place at Fly, where nothing is yet. What is made there is
// deleted at the end of the test.
func newOnFKS(t testing.TB) *onFKS {
	t.Helper()
	f := sandboxtest.FKS(t)
	somebody, err := api.New(api.Options{
		Endpoints: api.Endpoints{Machines: f.URL, GraphQL: f.URL, UI: f.URL}, Token: secret.New([]byte(f.Token)),
	})
	if err != nil {
		t.Fatal(err)
	}
	p := &onFKS{f, f.Name(t), somebody}
	t.Cleanup(func() {
		if err := p.clear(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		somebody.Close()
	})
	f.DeleteCluster(t, p.name) // goes before the rest
	return p
}

// environ has a forged find this Fly, and the private network behind its proxy.
func (p *onFKS) environ() map[string]string {
	return map[string]string{
		"FLY_FLAPS_BASE_URL": p.URL, "FLY_API_BASE_URL": p.URL, "FLY_UIEX_BASE_URL": p.URL, "FLY_API_TOKEN": p.Token,
		"HTTP_PROXY": p.Proxy, "HTTPS_PROXY": p.Proxy, "NO_PROXY": "127.0.0.1,localhost", "SSL_CERT_FILE": p.CA,
	}
}

// made lists all that is there of the test's: by what it is, and its name.
func (p *onFKS) made(ctx context.Context) ([]string, error) {
	var all []string
	for _, kind := range []string{"kubernetes", "upstash_redis"} {
		list, err := p.somebody.AddOns(ctx, p.Organization, kind)
		if err != nil {
			return nil, err
		}
		for _, a := range list {
			all = append(all, kind+" "+a.Name)
		}
	}
	databases, err := p.somebody.PostgresClusters(ctx, p.Organization)
	if err != nil {
		return nil, err
	}
	for _, d := range databases {
		all = append(all, "postgres "+d.Name)
	}
	apps, err := p.somebody.Apps(ctx, p.Organization, "")
	if err != nil {
		return nil, err
	}
	for _, a := range apps {
		all = append(all, "app "+a.Name)
	}
	return slices.DeleteFunc(all, func(line string) bool { return !strings.Contains(line, p.name) }), nil
}

// strict makes a cluster that refuses what Fly Kubernetes does not support,
// where others ignore it: which of the two Fly does is not documented.
func (p *onFKS) strict(ctx context.Context, t testing.TB) error {
	if err := p.CreateCluster(ctx, p.name); err != nil {
		return err
	}
	if _, failure := p.AwaitCluster(t, p.name); failure != "" {
		return errors.New(failure)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, p.Proxy+"/_sandbox/clusters/"+p.name+"/admission", strings.NewReader("reject"))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// clear deletes all of it but clusters.
func (p *onFKS) clear(ctx context.Context) error {
	apps, err := p.somebody.Apps(ctx, p.Organization, "")
	if err != nil {
		return err
	}
	for _, a := range apps {
		if strings.Contains(a.Name, p.name) {
			if err := p.somebody.DeleteApp(ctx, a.Name); err != nil {
				return err
			}
		}
	}
	databases, err := p.somebody.PostgresClusters(ctx, p.Organization)
	if err != nil {
		return err
	}
	for _, d := range databases {
		if strings.Contains(d.Name, p.name) {
			if err := p.somebody.DeletePostgres(ctx, d.ID); err != nil {
				return err
			}
		}
	}
	caches, err := p.somebody.AddOns(ctx, p.Organization, "upstash_redis")
	if err != nil {
		return err
	}
	for _, c := range caches {
		if strings.Contains(c.Name, p.name) {
			if err := p.somebody.DeleteAddOn(ctx, c.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// cmdFKS is a place at Fly for a script, in which Fly Kubernetes can be made:
//
//	fks up          $NAME is for what the script makes
//	fks strict      a cluster $NAME that refuses what is not supported
//	fks fill FILE   writes $NAME into a file
//	fks made        all that is there of it, or "nothing"
func cmdFKS(ts *testscript.TestScript, neg bool, args []string) {
	at := ts.Value(fksValue{}).(*fksPlace)
	switch {
	case neg || len(args) == 0:
		ts.Fatalf("usage: fks up, fks strict, fks fill FILE, or fks made")
	case args[0] == "up":
		at.onFKS = newOnFKS(at.t)
		for name, value := range at.environ() {
			ts.Setenv(name, value)
		}
		ts.Setenv("NAME", at.name)
	case args[0] == "strict":
		ts.Check(at.strict(context.Background(), at.t))
	case args[0] == "fill" && len(args) == 2:
		text := strings.ReplaceAll(ts.ReadFile(args[1]), "$NAME", at.name)
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
	case args[0] == "made":
		all, err := at.made(context.Background())
		ts.Check(err)
		if len(all) == 0 {
			all = []string{"nothing"}
		}
		_, err = ts.Stdout().Write([]byte(strings.Join(all, "\n") + "\n"))
		ts.Check(err)
	default:
		ts.Fatalf("unknown: fks %s", strings.Join(args, " "))
	}
}

// fksPlace is where a script keeps its place at Fly.
type fksPlace struct {
	t testing.TB
	*onFKS
}

type fksValue struct{}
