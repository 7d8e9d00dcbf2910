package api

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/secret"
)

func TestMachine(t *testing.T) {
	m, seen := asked(t, 200, `{"id":"148e21","name":"web-1","state":"started","region":"cdg","instance_id":"01HXX","version":"01HXX",
		"private_ip":"fdaa:0:1::2","created_at":"2026-01-02T03:04:05Z","updated_at":"2026-01-02T03:04:05.678Z","host_status":"ok",
		"image_ref":{"registry":"docker-hub-mirror.fly.io","repository":"library/nginx","tag":"1","digest":"sha256:ab"},
		"config":{"image":"nginx:1","init":{},"guest":{"cpu_kind":"shared","cpus":1,"memory_mb":256},"dns":{},"restart":{},
			"services":[{"protocol":"tcp","internal_port":8080,"autostop":true,"autostart":true,"force_instance_key":null,
				"ports":[{"port":443,"handlers":["tls","http"]}],"checks":[{"type":"http","interval":15000000000,"timeout":"2s","path":"/"}]},
				{"protocol":"tcp","internal_port":1,"autostop":false},{"internal_port":2,"autostop":"suspend"}],
			"checks":{"alive":{"type":"tcp","port":8080,"interval":"1m0s"}}},
		"events":[{"id":"e2","type":"exit","status":"stopped","source":"flyd","timestamp":1767323045678,"request":{"exit_event":{"exited_at":1767323045,"oom_killed":true,"signal":-1}}},
			{"id":"e1","type":"start","timestamp":1767323040000}],
		"checks":[{"name":"alive","status":"passing"}],"lease":{"owner":"a@b.c","expires_at":1767323045,"description":"d"},"surprise":[1]}`,
		func(ctx context.Context, c *Client) (Machine, error) { return c.Machine(ctx, "shop", "148e21") })
	if got := seen[0]; got.path != "/v1/apps/shop/machines/148e21" || got.query != "include_leases=true" || got.auth != "FlyV1 "+testToken {
		t.Errorf("%+v", got)
	}
	services := m.Config.Services
	if services[0].Autostop != AutostopStop || services[1].Autostop != AutostopOff || services[2].Autostop != AutostopSuspend {
		t.Errorf("autostop %q %q %q", services[0].Autostop, services[1].Autostop, services[2].Autostop)
	}
	if check := services[0].Checks[0]; time.Duration(*check.Interval) != 15*time.Second || time.Duration(*check.Timeout) != 2*time.Second {
		t.Errorf("%+v", check)
	}
	if exit, ok := m.Events[0].Exit(); !ok || exit.ExitCode != 0 || !exit.OOMKilled || exit.Signal != -1 || exit.ExitedAt.Year() != 2026 {
		t.Errorf("%+v %v", exit, ok)
	}
	if _, ok := m.Events[1].Exit(); ok {
		t.Error("a start is no exit")
	}
	if m.Lease == nil || m.Lease.Owner != "a@b.c" || m.Events[0].Timestamp.Year() != 2026 || m.UpdatedAt.Nanosecond() == 0 {
		t.Errorf("%+v", m)
	}
	m, _ = asked(t, 200, `{"id":"1","state":"started","host_status":"unreachable","config":null,"incomplete_config":{"image":"x"}}`,
		func(ctx context.Context, c *Client) (Machine, error) { return c.Machine(ctx, "shop", "1") })
	if m.Config != nil || m.Incomplete == nil {
		t.Errorf("%+v", m)
	}
}

func TestRequestsAreThoseOfTheDocuments(t *testing.T) {
	for _, tt := range []struct {
		name, method, path, query, body string
		call                            func(context.Context, *Client) error
	}{
		{"app", "POST", "/v1/apps", "wait=true", `{"name":"a","app_name":"a","org_slug":"o","network":"n"}`, func(ctx context.Context, c *Client) error {
			_, err := c.CreateApp(ctx, CreateApp{Name: "a", Org: "o", Network: "n"})
			return err
		}},
		{"apps", "GET", "/v1/apps", "app_role=postgres_cluster&org_slug=o", "", func(ctx context.Context, c *Client) error { _, err := c.Apps(ctx, "o", "postgres_cluster"); return err }},
		{"delete app", "DELETE", "/v1/apps/a", "force=true", "", func(ctx context.Context, c *Client) error { return c.DeleteApp(ctx, "a") }},
		{"machines", "GET", "/v1/apps/a/machines", "include_leases=true&metadata.k=v&region=cdg&state=started%2Cstopped", "", func(ctx context.Context, c *Client) error {
			_, err := c.Machines(ctx, "a", MachinesQuery{IncludeLeases: true, Region: "cdg", States: []string{"started", "stopped"}, Metadata: map[string]string{"k": "v"}})
			return err
		}},
		{"update", "POST", "/v1/apps/a/machines/1", "", `{"config":{"image":"i"},"skip_launch":true,"min_secrets_version":4,"current_version":"01"}`, func(ctx context.Context, c *Client) error {
			_, err := c.UpdateMachine(ctx, "a", "1", UpdateMachine{
				CreateMachine:  CreateMachine{Config: MachineConfig{Image: "i"}, SkipLaunch: true, MinSecretsVersion: 4},
				CurrentVersion: "01", Nonce: "n",
			})
			return err
		}},
		{"destroy", "DELETE", "/v1/apps/a/machines/1", "force=true&kill=true", "", func(ctx context.Context, c *Client) error { return c.DestroyMachine(ctx, "a", "1", "n") }},
		{"stop", "POST", "/v1/apps/a/machines/1/stop", "", `{"signal":"SIGINT","timeout":"10s"}`, func(ctx context.Context, c *Client) error {
			return c.StopMachine(ctx, "a", "1", "n", "SIGINT", 10*time.Second)
		}},
		{"lease", "POST", "/v1/apps/a/machines/1/lease", "", `{"ttl":90,"description":"d"}`, func(ctx context.Context, c *Client) error {
			_, err := c.RefreshLease(ctx, "a", "1", "n", 90*time.Second, "d")
			return err
		}},
		{"metadata", "PATCH", "/v1/apps/a/machines/1/metadata", "", `{"metadata":{"a":"b","c":null},"machine_version":"01"}`, func(ctx context.Context, c *Client) error {
			return c.PatchMetadata(ctx, "a", "1", "01", map[string]*string{"a": new("b"), "c": nil})
		}},
		{"secrets", "POST", "/v1/apps/a/secrets", "", `{"values":{"A":"v","B":null}}`, func(ctx context.Context, c *Client) error {
			_, err := c.SetSecrets(ctx, "a", map[string]*secret.Value{"A": new(secret.New([]byte("v"))), "B": nil})
			return err
		}},
		{"secrets of a version", "GET", "/v1/apps/a/secrets", "min_version=7&version=7", "", func(ctx context.Context, c *Client) error { _, err := c.Secrets(ctx, "a", 7); return err }},
		{"wildcard", "GET", "/v1/apps/a/certificates/%2A.example.com", "", "", func(ctx context.Context, c *Client) error {
			_, err := c.Certificate(ctx, "a", "*.example.com")
			return err
		}},
		{"check", "POST", "/v1/apps/a/certificates/h.example.com/check", "", "", func(ctx context.Context, c *Client) error {
			_, err := c.CheckCertificate(ctx, "a", "h.example.com")
			return err
		}},
		{"acme", "POST", "/v1/apps/a/certificates/acme", "", `{"hostname":"*.h"}`, func(ctx context.Context, c *Client) error {
			_, err := c.RequestCertificate(ctx, "a", "*.h")
			return err
		}},
		{"address", "DELETE", "/v1/apps/a/ip_assignments/2a09:8280:1::1", "", "", func(ctx context.Context, c *Client) error { return c.ReleaseIP(ctx, "a", "2a09:8280:1::1") }},
		{"volume", "POST", "/v1/apps/a/volumes", "", `{"name":"v","region":"cdg","size_gb":3,"encrypted":false,"compute":{"cpus":1}}`, func(ctx context.Context, c *Client) error {
			_, err := c.CreateVolume(ctx, "a", CreateVolume{Name: "v", Region: "cdg", SizeGB: 3, Encrypted: new(false), Compute: &Guest{CPUs: 1}})
			return err
		}},
		{"postgres", "POST", "/v1/postgres", "", `{"org_slug":"o","name":"n","plan":"Performance","region":"cdg","disk_size_gb":10,"pg_major_version":"17","pool_mode":"session","postgis_enabled":false}`, func(ctx context.Context, c *Client) error {
			_, err := c.CreatePostgres(ctx, CreatePostgres{Org: "o", Name: "n", Plan: "Performance", Region: "cdg", DiskGB: 10, Version: "17", PoolMode: "session"})
			return err
		}},
		{"user", "POST", "/v1/postgres/1/users", "", `{"username":"u","role":"writer"}`, func(ctx context.Context, c *Client) error {
			return c.CreatePostgresUser(ctx, "1", "u", PostgresWriter)
		}},
		{"extension", "POST", "/v1/postgres/1/databases/d/extensions", "", `{"name":"vector"}`, func(ctx context.Context, c *Client) error {
			return c.EnablePostgresExtension(ctx, "1", "d", "vector")
		}},
		{"release", "PATCH", "/api/v1/releases/r", "", `{"status":"complete"}`, func(ctx context.Context, c *Client) error { return c.SetRelease(ctx, "r", "complete") }},
	} {
		f := &fake{}
		f.serve = func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/machines") {
				says(200, `[]`)(w, r)
				return
			}
			says(200, whole)(w, r)
		}
		if err := tt.call(t.Context(), newClient(t, f)); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		got := f.requests()[0]
		if got.method != tt.method || got.path != tt.path || got.query != tt.query || got.body != tt.body {
			t.Errorf("%s: %s %s?%s %s", tt.name, got.method, got.path, got.query, got.body)
		}
		if wants := slices.Contains([]string{"update", "destroy", "stop", "lease"}, tt.name); wants != (got.nonce == "n") {
			t.Errorf("%s: nonce %q", tt.name, got.nonce)
		}
	}
}

// TestWhatIsGoneIsDeleted: 404 after a delete is what was wanted, and a lease
// that has run out is given back.
func TestWhatIsGoneIsDeleted(t *testing.T) {
	for name, call := range map[string]func(context.Context, *Client) error{
		"app":         func(ctx context.Context, c *Client) error { return c.DeleteApp(ctx, "a") },
		"machine":     func(ctx context.Context, c *Client) error { return c.DestroyMachine(ctx, "a", "1", "") },
		"volume":      func(ctx context.Context, c *Client) error { return c.DeleteVolume(ctx, "a", "1") },
		"certificate": func(ctx context.Context, c *Client) error { return c.DeleteCertificate(ctx, "a", "h") },
		"postgres":    func(ctx context.Context, c *Client) error { return c.DeletePostgres(ctx, "1") },
		"lease":       func(ctx context.Context, c *Client) error { return c.ReleaseLease(ctx, "a", "1", "n") },
	} {
		for _, answer := range []http.HandlerFunc{says(404, `{"error":"lease not found"}`), says(410, ``), says(404, ``)} {
			err := call(t.Context(), newClient(t, answers(answer)))
			if (err != nil) != (KindOf(err) == NoLease) {
				t.Errorf("%s: %v", name, err)
			}
		}
		synctest.Test(t, func(t *testing.T) {
			if err := call(t.Context(), newClient(t, answers(says(404, "404 page not found\n")))); KindOf(err) != Unavailable {
				t.Errorf("%s: another server's page is taken for a deletion: %v", name, err)
			}
		})
	}
}

func TestLeaseShapes(t *testing.T) {
	for _, body := range []string{
		`{"status":"success","data":{"nonce":"n1","expires_at":1767323045,"owner":"a@b.c","description":"d","version":"01"}}`,
		`{"nonce":"n1","expires_at":1767323045,"owner":"a@b.c","description":"d","version":"01"}`,
	} {
		got, _ := asked(t, 201, body, func(ctx context.Context, c *Client) (Lease, error) {
			return c.AcquireLease(ctx, "a", "1", time.Minute, "d")
		})
		if want := (Lease{"n1", time.Unix(1767323045, 0).UTC(), "a@b.c", "d", "01"}); got != want {
			t.Errorf("%s is %+v", body, got)
		}
	}
}

func TestSecretsWritten(t *testing.T) {
	for body, want := range map[string]uint64{
		`{"secrets":[{"name":"A","digest":"d"}],"version":7}`: 7, `{"secrets":[{"name":"A"}],"Version":8}`: 8,
		`{"secrets":[{"name":"A"}],"Version":9,"version":9}`: 9, `{"secrets":[{"name":"A"}],"Version":0,"version":5}`: 5,
	} {
		got, _ := asked(t, 200, body, func(ctx context.Context, c *Client) (SecretsWritten, error) {
			return c.SetSecrets(ctx, "a", map[string]*secret.Value{})
		})
		if got.Version != want || got.Secrets[0].Name != "A" {
			t.Errorf("%s: %+v", body, got)
		}
	}
}

func TestBothStatusesOfAVolume(t *testing.T) {
	for _, status := range []int{200, 201} {
		v, _ := asked(t, status, `{"id":"vol_1","name":"data","state":"created","size_gb":3,"attached_machine_id":null,"created_at":""}`,
			func(ctx context.Context, c *Client) (Volume, error) { return c.CreateVolume(ctx, "a", CreateVolume{}) })
		if v.ID != "vol_1" || v.Deleted() {
			t.Errorf("%+v", v)
		}
	}
}

func TestTypesOfAddresses(t *testing.T) {
	ips, _ := asked(t, 200, `{"ips":[{"ip":"66.241.124.1","shared":true},{"ip":"137.66.1.1"},{"ip":"2a09:8280:1::1"},
		{"ip":"fdaa:0:1::3","network":{"name":"","org_slug":"o"}},{"ip":"FDAA::1"}]}`,
		func(ctx context.Context, c *Client) ([]IP, error) { return c.IPs(ctx, "a") })
	var types []string
	for _, ip := range ips {
		types = append(types, ip.Type())
	}
	if want := []string{SharedIPv4, IPv4, IPv6, PrivateIP, PrivateIP}; !slices.Equal(types, want) {
		t.Error(types)
	}
}

func TestCapitals(t *testing.T) {
	regions, _ := asked(t, 200, `{"Regions":[{"code":"cdg","gateway_available":true,"mpg_available":false}],"Nearest":"cdg"}`,
		func(ctx context.Context, c *Client) ([]Region, error) { return c.Regions(ctx) })
	if len(regions) != 1 || regions[0].Code != "cdg" {
		t.Error(regions)
	}
	for _, body := range []string{`{"Regions":[{"Region":"lhr","Count":3,"Concurrency":1}]}`, `{"regions":[{"region":"lhr","count":3,"concurrency":1}]}`} {
		got, _ := asked(t, 200, body, func(ctx context.Context, c *Client) ([]Placement, error) {
			return c.Placements(ctx, PlacementQuery{Org: "o"})
		})
		if want := []Placement{{"lhr", 3, 1}}; !slices.Equal(got, want) {
			t.Error(got)
		}
	}
}

func TestTokenScope(t *testing.T) {
	for body, want := range map[string]Scope{
		`{"tokens":[{"token_id":"1","org_slug":"acme","organization":"Acme","apps":["b","a"]}]}`:  {Orgs: []string{"acme"}, Apps: []string{"a", "b"}},
		`{"tokens":[{"org_slug":"acme","apps":null}]}`:                                            {Orgs: []string{"acme"}},
		`{"tokens":[{"org_slug":"acme","apps":["a"]},{"org_slug":"acme"}]}`:                       {Orgs: []string{"acme"}},
		`{"tokens":[{"org_slug":"x","user":"u"},{"org_slug":"a","restricted_to_machine":"148"}]}`: {Orgs: []string{"a", "x"}, User: "u", Machine: "148"},
		`{"tokens":[]}`: {},
	} {
		got, _ := asked(t, 200, body, func(ctx context.Context, c *Client) (Scope, error) { return c.TokenScope(ctx) })
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v", body, got)
		}
	}
}

func TestOrgList(t *testing.T) { synctest.Test(t, testOrgList) }

func testOrgList(t *testing.T) {
	f := answers(
		says(200, `{"machines":[{"id":"1","app_name":"a","config":{"image":"i","metadata":{"k":"v"}}}],"next_cursor":"c 1","last_updated_at":"2026-01-02T00:00:00Z","error_regions":["syd"]}`),
		says(200, `{"machines":[{"id":"2","app_name":"b"}],"next_cursor":"","last_updated_at":"2026-01-01T00:00:00Z","error_regions":["gru","syd"]}`),
	)
	got, err := newClient(t, f).OrgMachines(t.Context(), "o", OrgQuery{UpdatedAfter: time.Date(2026, 1, 1, 0, 0, 0, 0, time.FixedZone("", 3600))})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.All) != 2 || got.All[0].Config.Metadata["k"] != "v" || !slices.Equal(got.ErrorRegions, []string{"gru", "syd"}) || got.LastUpdated.Day() != 2 {
		t.Errorf("%+v", got)
	}
	if q := f.requests()[1].query; q != "cursor=c+1&limit=1000&updated_after=2025-12-31T23%3A00%3A00Z" {
		t.Error(q)
	}
}

// TestOrgListIsWholeOrNothing: a page that fails makes no short list.
func TestOrgListIsWholeOrNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := answers(says(200, `{"volumes":[{"id":"v"}],"next_cursor":"1"}`), says(500, ``))
		got, err := newClient(t, f).OrgVolumes(t.Context(), "o", OrgQuery{})
		if err == nil || got.All != nil {
			t.Errorf("%+v, %v", got, err)
		}
		_, err = newClient(t, answers(says(200, `{"volumes":[{"id":"v"}],"next_cursor":"1"}`))).OrgVolumes(t.Context(), "o", OrgQuery{})
		contains(t, err.Error(), "does not end", "org.volumes")
	})
}

func TestCertificate(t *testing.T) {
	got, _ := asked(t, 200, `{"hostname":"h.example.com","configured":false,"acme_requested":true,"status":"Awaiting configuration","rate_limited_until":null,
		"certificates":[{"source":"fly","status":"active","created_at":"2026-01-02T03:04:05Z","expires_at":"2026-04-02T03:04:05Z","issued":[{"type":"rsa","expires_at":"2026-04-02T03:04:05Z"}]}],
		"validation":{"dns_configured":true},"dns_requirements":{"a":["66.241.124.1"],"aaaa":["2a09::1"],"cname":"x.shop.fly.dev",
		"acme_challenge":{"name":"_acme-challenge.h.example.com","target":"h.example.com.x.flydns.net"},"ownership":{"name":"_fly-ownership.h.example.com","app_value":"app-1"}},
		"validation_errors":[{"code":"DNS","message":"m","remediation":"r"}],"dns_records":{"a":["1.2.3.4"]}}`,
		func(ctx context.Context, c *Client) (Certificate, error) {
			return c.CheckCertificate(ctx, "a", "h.example.com")
		})
	if got.Certificates[0].Status != CertificateActive || got.Certificates[0].ExpiresAt.Month() != 4 || !got.RateLimitedUntil.IsZero() ||
		got.Requirements.ACMEChallenge.Target == "" || got.Requirements.Ownership.AppValue != "app-1" || got.Found.A[0] != "1.2.3.4" || got.Errors[0].Remediation != "r" {
		t.Errorf("%+v", got)
	}
}

func TestPostgres(t *testing.T) {
	got, _ := asked(t, 200, `{"data":{"id":"x1","name":"db","status":"ready","plan":"Performance","pg_major_version":"17",
		"endpoints":{"primary":{"direct":{"host":"direct.h.flympg.net","port":5432},"pooler":{"host":"pgbouncer.h.flympg.net","port":5432}}},
		"attached_apps":[{"name":"shop"}],"created_at":"2026-01-02T03:04:05Z","deleted_at":null}}`,
		func(ctx context.Context, c *Client) (PostgresCluster, error) { return c.PostgresCluster(ctx, "x1") })
	if got.Endpoints.Primary.Pooler.Host != "pgbouncer.h.flympg.net" || got.AttachedApps[0].Name != "shop" || got.Version != "17" {
		t.Errorf("%+v", got)
	}
	password, _ := asked(t, 200, `{"data":{"username":"u","password":"pw"}}`,
		func(ctx context.Context, c *Client) (secret.Value, error) { return c.PostgresPassword(ctx, "x1", "u") })
	if string(password.Reveal()) != "pw" {
		t.Error("another password")
	}
	names, _ := asked(t, 200, `{"data":[{"name":"vector"},{"name":"postgis"}]}`,
		func(ctx context.Context, c *Client) ([]string, error) { return c.PostgresExtensions(ctx, "x1", "d") })
	if !slices.Equal(names, []string{"vector", "postgis"}) {
		t.Error(names)
	}
}

func TestAppOfWhichTheIDAloneIsTold(t *testing.T) {
	app, _ := asked(t, 201, `{"id":"r3y","created_at":1767323045678}`, func(ctx context.Context, c *Client) (App, error) {
		return c.CreateApp(ctx, CreateApp{Name: "shop", Org: "o"})
	})
	if app.Name != "shop" || app.CreatedAt.Year() != 2026 {
		t.Errorf("%+v", app)
	}
}

func TestTimes(t *testing.T) {
	for text, want := range map[string]int64{
		`"2026-01-02T03:04:05Z"`: 1767323045, `"2026-01-02T04:04:05+01:00"`: 1767323045, `1767323045`: 1767323045, `1767323045678`: 1767323045,
		`"2026-01-02T03:04:05.123456"`: 1767323045, `"2026-01-02 03:04:05 UTC"`: 1767323045,
	} {
		var got Time
		if err := json.Unmarshal([]byte(text), &got); err != nil || got.Unix() != want {
			t.Errorf("%s is %s, %v", text, got, err)
		}
	}
	for _, text := range []string{`""`, `null`, `"soon"`, `0`, `-1`, `{}`} {
		got := Time{time.Now()}
		if err := json.Unmarshal([]byte(text), &got); err != nil || !got.IsZero() {
			t.Errorf("%s is %s, %v", text, got, err)
		}
	}
}
