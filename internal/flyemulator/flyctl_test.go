package flyemulator

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// flyctl is the real client where it is installed, and else a stand-in that
// sends what flyctl's source says that it sends, and decodes the answers into
// what it decodes them into.
type flyctl struct {
	*testing.T
	e      *Emulator
	client *http.Client
	base   string

	org, machine, volume, cluster string // as they were found last
}

// flyctl wants macaroons for Managed Postgres, and throws those away that it
// cannot read; for the rest a person's token does.
const personalToken = "fo1_emulated-personal-token"

// command is what somebody types, what flyctl sends for it, and what must be
// so then.
type command struct {
	args string
	send func(*flyctl)
	then func(*flyctl)
}

func TestFlyctl(t *testing.T) {
	o := Options{
		Orgs: []Org{{Slug: "acme", Name: "Acme", Beta: true}},
		Tokens: []Token{
			{Value: personalToken, Kind: OrgToken, Org: "acme", User: "jo@example.com"},
			{Value: DefaultToken, Kind: OrgToken, Org: "acme"},
		},
		Foreign: []string{"theirs"},
	}
	for _, name := range []string{"flyctl", "fly"} {
		if path, err := exec.LookPath(name); err == nil {
			realFlyctl(t, o, path)
			return
		}
	}
	synctest.Test(t, func(t *testing.T) {
		e := New(o)
		defer e.Close()
		f := &flyctl{T: t, e: e, client: &http.Client{Transport: e.Transport()}, base: "http://fly.test"}
		for _, c := range commands() {
			t.Logf("fly %s", c.args)
			c.send(f)
			f.look()
			c.then(f)
		}
	})
}

// realFlyctl runs the commands with the program itself, over sockets.
func realFlyctl(t *testing.T, o Options, path string) {
	o.TimeFactor = 20
	e := New(o)
	defer e.Close()
	server := httptest.NewServer(e)
	defer server.Close()
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "fly.toml"), []byte(flyToml), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &flyctl{T: t, e: e}
	for _, c := range commands() {
		args := strings.Fields(strings.NewReplacer("{machine}", f.machine, "{volume}", f.volume, "{cluster}", f.cluster).Replace(c.args))
		token := personalToken
		if args[0] == "mpg" {
			token = DefaultToken
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.Dir = home
		cmd.Env = []string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + home, "FLY_API_TOKEN=" + token, "FLY_API_BASE_URL=" + server.URL,
			"FLY_FLAPS_BASE_URL=" + server.URL, "FLY_UIEX_BASE_URL=" + server.URL, "FLY_NO_UPDATE_CHECK=1", "FLY_SEND_METRICS=0", "NO_COLOR=1", "CI=1",
		}
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil {
			t.Fatalf("fly %s: %v\n%s\nrequests: %v", c.args, err, out, tail(e.Requests(), 20))
		}
		f.look()
		c.then(f)
	}
}

func tail(all []Request, n int) []Request { return all[max(0, len(all)-n):] }

// flyToml is the app that is deployed.
const flyToml = `app = "shop"
primary_region = "iad"
[http_service]
  internal_port = 8080
  force_https = true
`

// look finds the identities of what was made.
func (f *flyctl) look() {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.org = f.e.state.Orgs["acme"].ID
	f.machine, f.volume, f.cluster = "", "", ""
	if a := f.e.state.Apps["shop"]; a != nil {
		for _, id := range slices.Sorted(maps.Keys(a.Machines)) {
			if a.Machines[id].State != destroyed {
				f.machine = id
			}
		}
		for _, id := range slices.Sorted(maps.Keys(a.Volumes)) {
			f.volume = id
		}
	}
	for id, cl := range f.e.state.Postgres {
		if cl.Status != clusterDeleted {
			f.cluster = id
		}
	}
}

// app looks at the app "shop", if it is there.
func (f *flyctl) shop(look func(a *app)) {
	f.Helper()
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	a := f.e.state.Apps["shop"]
	if a == nil {
		f.Fatal("there is no app shop")
	}
	look(a)
}

// eventually waits for what flyctl does not wait for.
func (f *flyctl) eventually(what string, holds func(a *app) bool) {
	f.Helper()
	for range 60 {
		ok := false
		f.shop(func(a *app) { ok = holds(a) })
		if ok {
			return
		}
		f.e.Advance(time.Second)
	}
	f.Errorf("%s: it does not come", what)
}

// send asks, and decodes the answer into v, if it is not nil.
func (f *flyctl) send(method, path, body string, v any) {
	f.Helper()
	status, raw := f.try(method, path, body)
	if status > 299 {
		f.Fatalf("%s %s: %d %s", method, path, status, raw)
	}
	if v != nil {
		if err := json.Unmarshal(raw, v); err != nil {
			f.Fatalf("%s %s: %v: %s", method, path, err, raw)
		}
	}
}

func (f *flyctl) try(method, path, body string) (status int, raw []byte) {
	f.Helper()
	token := personalToken
	if strings.Contains(path, "/postgres") {
		token = DefaultToken
	}
	r, err := http.NewRequestWithContext(f.Context(), method, f.base+path, strings.NewReader(body))
	if err != nil {
		f.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := f.client.Do(r)
	if err != nil {
		f.Fatal(err)
	}
	defer answer.Body.Close()
	raw, err = io.ReadAll(answer.Body)
	if err != nil {
		f.Fatal(err)
	}
	return answer.StatusCode, raw
}

// graph asks GraphQL; vars are pairs. flyctl takes any error for a failure.
func (f *flyctl) graph(query string, v any, vars ...any) {
	f.Helper()
	all := map[string]any{}
	for i := 0; i < len(vars); i += 2 {
		all[vars[i].(string)] = vars[i+1]
	}
	body, err := json.Marshal(map[string]any{"query": query, "variables": all})
	if err != nil {
		f.Fatal(err)
	}
	var answer struct {
		Data   json.RawMessage
		Errors []struct{ Message string }
	}
	f.send("POST", "/graphql", string(body), &answer)
	if len(answer.Errors) > 0 {
		f.Fatalf("%s: %s", query, answer.Errors[0].Message)
	}
	dec := json.NewDecoder(bytes.NewReader(answer.Data))
	if v != nil {
		if err := dec.Decode(v); err != nil {
			f.Fatalf("%s: %v: %s", query, err, answer.Data)
		}
	}
}

// What flyctl decodes apps and organizations into.
type (
	ctlOrg struct {
		ID, InternalNumericID, Slug, RawSlug, Name, Type, ViewerRole string
		PaidPlan, Billable                                           bool
	}
	ctlApp struct {
		ID                string
		InternalNumericID int32
		Name, Hostname    string
		Deployed          bool
		Status, AppURL    string
		Version           int
		PlatformVersion   string
		Organization      ctlOrg
		CurrentRelease    *struct {
			Version   int
			CreatedAt time.Time
		}
		PostgresAppRole *struct{ Name string }
		Image           *struct{ ID, Digest, Ref, CompressedSize string }
	}
)

// orgs is what flyctl asks to know the organization of a flag.
func (f *flyctl) orgs() {
	f.Helper()
	var v struct{ Organizations struct{ Nodes []ctlOrg } }
	f.graph(`query($admin: Boolean!) { organizations(admin: $admin) { nodes { id slug name type paidPlan billable viewerRole internalNumericId } } }`, &v, "admin", false)
	if len(v.Organizations.Nodes) != 1 || v.Organizations.Nodes[0].Slug != "acme" {
		f.Fatalf("the organizations are %+v", v)
	}
	f.org = v.Organizations.Nodes[0].ID
	f.send("GET", "/api/v1/organizations?admin=false", "", &struct{ Organizations []uiOrg }{})
	f.graph(`query GetOrganization ($slug: String!) { organization(slug: $slug) { ... OrganizationData } }
		fragment OrganizationData on Organization { id slug rawSlug paidPlan addOnSsoLink provisionsBetaExtensions }`, nil, "slug", "acme")
}

// compact is what flyctl asks of an app before nearly everything.
func (f *flyctl) compact() ctlApp {
	f.Helper()
	var v struct{ AppCompact, AppBasic ctlApp }
	f.graph(`query ($appName: String!) { appcompact:app(name: $appName) { id internalNumericId name hostname deployed status appUrl platformVersion
		organization { id internalNumericId slug paidPlan } postgresAppRole: role { name } } }`, &v, "appName", "shop")
	f.graph(`query ($appName: String!) { appbasic:app(name: $appName) { id name platformVersion organization { id internalNumericId slug rawSlug paidPlan } } }`, &v, "appName", "shop")
	f.send("GET", "/v1/apps/shop", "", &struct {
		ID                string
		InternalNumericID int32 `json:"internal_numeric_id"`
		MachineCount      int64 `json:"machine_count"`
	}{})
	return v.AppCompact
}

// wait is how flyctl waits for a machine: a new one may not be known yet.
func (f *flyctl) wait(id, instance, state string) {
	f.Helper()
	for range 10 {
		status, raw := f.try("GET", fmt.Sprintf("/v1/apps/shop/machines/%s/wait?instance_id=%s&state=%s&timeout=60", id, instance, state), "")
		if status < 300 {
			return
		}
		f.Logf("wait: %d %s", status, raw)
		f.e.Advance(500 * time.Millisecond)
	}
	f.Fatalf("machine %s is not %s", id, state)
}

// ctlMachine is what flyctl decodes of a machine.
type ctlMachine struct {
	ID, Name, State, Region string
	InstanceID              string `json:"instance_id"`
	PrivateIP               string `json:"private_ip"`
	Nonce                   string
}

// resolve is how flyctl finds the image of a reference.
func (f *flyctl) resolve(ref string) {
	f.Helper()
	f.graph(`mutation ResolverCreateBuild ($input: CreateBuildInput!) { createBuild(input: $input) { id status } }`, nil,
		"input", map[string]any{
			"appName": "shop", "machineId": nil, "imageOpts": map[string]any{"imageRef": ref, "noCache": false, "publish": true},
			"strategiesAvailable": []string{"Local Image Reference", "Remote Image Reference"}, "builderType": "remote",
		})
	var v struct{ App ctlApp }
	f.graph(`query ($appName: String!, $imageRef: String!) { app(name: $appName) { id image(ref: $imageRef) { id digest ref compressedSize: compressedSizeFull } } }`,
		&v, "appName", "shop", "imageRef", ref)
	if v.App.Image == nil || !strings.HasPrefix(v.App.Image.Digest, "sha256:") {
		f.Fatalf("the image is %+v", v.App.Image)
	}
	f.graph(`mutation ResolverFinishBuild ($input: FinishBuildInput!) { finishBuild(input: $input) { id status wallclockTimeMs } }`, nil,
		"input", map[string]any{
			"buildId": "1", "appName": "shop", "machineId": nil, "status": "completed", "logs": "", "timings": map[string]any{"buildMs": -1, "pushMs": 5},
			"strategiesAttempted": []any{map[string]any{"strategy": "Remote Image Reference", "result": "success", "error": "", "note": ""}},
			"finalImage":          map[string]any{"id": v.App.Image.ID, "tag": ref, "sizeBytes": 1},
		})
}
