package api

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/secret"
)

// onFly runs a test against the emulator, which limits as Fly does, and in
// which time passes by itself.
func onFly(t *testing.T, o flyemulator.Options, test func(t *testing.T, e *flyemulator.Emulator, c *Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o.RateLimits = true
		e := flyemulator.New(o)
		defer e.Close()
		c := clientOf(t, e, flyemulator.DefaultToken)
		test(t, e, c)
		for _, r := range e.Requests() {
			if r.Status == http.StatusTooManyRequests {
				t.Errorf("%s %s was too much", r.Method, r.Path)
			}
		}
	})
}

func clientOf(t *testing.T, e *flyemulator.Emulator, token string) *Client {
	t.Helper()
	c, err := New(Options{Token: secret.New([]byte(token)), HTTP: &http.Client{Transport: against{t, e.Transport()}}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// must is the result of what may not fail.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func fine(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t *testing.T, err error, want Kind) *Error {
	t.Helper()
	if KindOf(err) != want {
		t.Fatalf("%v is %q, not %q", err, KindOf(err), want)
	}
	return asError(t, err)
}

var web = MachineConfig{
	Image:    "registry.fly.io/shop:1",
	Env:      map[string]string{"A": "1"},
	Guest:    &Guest{CPUKind: "shared", CPUs: 2, MemoryMB: 512},
	Metadata: map[string]string{"owner": "me"},
	Services: []Service{{
		Protocol: "tcp", InternalPort: 8080, Autostop: AutostopStop, Autostart: new(true), MinMachinesRunning: new(1),
		Ports:  []Port{{Port: new(443), Handlers: []string{"tls", "http"}}},
		Checks: []Check{{Type: "http", Path: "/", Interval: new(Duration(5 * time.Minute)), Timeout: new(Duration(2 * time.Second))}},
	}},
	Checks:  map[string]Check{"alive": {Type: "tcp", Port: new(8080), Interval: new(Duration(90 * time.Second)), Timeout: new(Duration(time.Second))}},
	Restart: &Restart{Policy: "on-failure", MaxRetries: 3},
}

func TestLifeOfAnApp(t *testing.T) {
	onFly(t, flyemulator.Options{}, func(t *testing.T, e *flyemulator.Emulator, c *Client) {
		ctx := t.Context()
		scope := must[Scope](t)(c.TokenScope(ctx))
		if !slices.Equal(scope.Orgs, []string{"acme"}) || len(scope.Apps) != 0 {
			t.Fatalf("%+v", scope)
		}
		app := must[App](t)(c.CreateApp(ctx, CreateApp{Name: "shop", Org: "acme"}))
		if app = must[App](t)(c.App(ctx, app.Name)); app.Organization.Slug != "acme" || app.Network != "default" {
			t.Errorf("%+v", app)
		}

		volume := must[Volume](t)(c.CreateVolume(ctx, "shop", CreateVolume{Name: "data", Region: "cdg", SizeGB: 3}))
		config := web
		config.Mounts = []Mount{{Volume: volume.ID, Path: "/data"}}
		m := must[Machine](t)(c.CreateMachine(ctx, "shop", CreateMachine{Name: "web-1", Region: "cdg", Config: config}))
		must[Waited](t)(c.Wait(ctx, "shop", m.ID, WaitFor{Version: m.InstanceID}))
		m = must[Machine](t)(c.Machine(ctx, "shop", m.ID))
		if m.State != StateStarted || m.Region != "cdg" {
			t.Errorf("%+v", m)
		}
		if paths := Drift(config, *m.Config); len(paths) != 0 {
			t.Errorf("%q differ once it is read back", paths)
		}
		_, err := c.CreateMachine(ctx, "shop", CreateMachine{Name: "web-1", Region: "cdg", Config: web})
		wantKind(t, err, Taken)
		_, err = c.CreateMachine(ctx, "shop", CreateMachine{Region: "cdg", Config: config})
		wantKind(t, err, Precondition) // the volume is claimed
		wantKind(t, c.DeleteVolume(ctx, "shop", volume.ID), NotYet)

		lease := must[Lease](t)(c.AcquireLease(ctx, "shop", m.ID, time.Minute, "a test"))
		if held := must[Lease](t)(c.Lease(ctx, "shop", m.ID)); held.Description != "a test" || time.Until(held.ExpiresAt) > time.Minute {
			t.Errorf("%+v", held)
		}
		_, err = c.AcquireLease(ctx, "shop", m.ID, time.Minute, "another")
		if held := wantKind(t, err, Leased); held.Holder == "" || held.Until.Before(time.Now()) {
			t.Errorf("%+v", held)
		}
		_, err = c.UpdateMachine(ctx, "shop", m.ID, UpdateMachine{CreateMachine: CreateMachine{Config: config}})
		wantKind(t, err, Leased)
		if again := must[Lease](t)(c.RefreshLease(ctx, "shop", m.ID, lease.Nonce, time.Minute, "a test")); again.Nonce != lease.Nonce {
			t.Error("the nonce has changed")
		}
		config.Env = map[string]string{"A": "2"}
		_, err = c.UpdateMachine(ctx, "shop", m.ID, UpdateMachine{CreateMachine: CreateMachine{Config: config}, CurrentVersion: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Nonce: lease.Nonce})
		wantKind(t, err, Conflict)
		changed := must[Machine](t)(c.UpdateMachine(ctx, "shop", m.ID, UpdateMachine{CreateMachine: CreateMachine{Config: config}, CurrentVersion: m.InstanceID, Nonce: lease.Nonce}))
		must[Waited](t)(c.Wait(ctx, "shop", m.ID, WaitFor{Version: changed.InstanceID}))
		fine(t, c.ReleaseLease(ctx, "shop", m.ID, lease.Nonce))
		_, err = c.Lease(ctx, "shop", m.ID)
		wantKind(t, err, NoLease)
		if versions := must[[]MachineVersion](t)(c.Versions(ctx, "shop", m.ID)); len(versions) != 2 {
			t.Errorf("%+v", versions)
		}

		fine(t, c.SetMetadata(ctx, "shop", m.ID, "k", "v"))
		fine(t, c.PatchMetadata(ctx, "shop", m.ID, "", map[string]*string{"k": nil, "l": new("w")}))
		if metadata := must[map[string]string](t)(c.Metadata(ctx, "shop", m.ID)); metadata["l"] != "w" || metadata["k"] != "" || metadata["owner"] != "me" {
			t.Errorf("%v", metadata)
		}
		fine(t, c.StopMachine(ctx, "shop", m.ID, "", "", 0))
		must[Waited](t)(c.Wait(ctx, "shop", m.ID, WaitFor{States: []string{StateStopped}, Version: changed.InstanceID}))
		wantKind(t, c.StartMachine(ctx, "shop", m.ID, ""), NotYet) // too soon
		if events := must[[]MachineEvent](t)(c.Events(ctx, "shop", m.ID)); len(events) == 0 || events[0].Timestamp.IsZero() {
			t.Errorf("%+v", events)
		}
		fine(t, c.DestroyMachine(ctx, "shop", m.ID, ""))
		must[Waited](t)(c.Wait(ctx, "shop", m.ID, WaitFor{States: []string{StateDestroyed}, Version: changed.InstanceID}))
		if m = must[Machine](t)(c.Machine(ctx, "shop", m.ID)); m.State != StateDestroyed {
			t.Errorf("%+v", m)
		}
		fine(t, c.DestroyMachine(ctx, "shop", m.ID, ""))
		time.Sleep(time.Minute)
		fine(t, c.DeleteVolume(ctx, "shop", volume.ID))
		fine(t, c.DeleteApp(ctx, "shop"))
		time.Sleep(time.Minute)
		_, err = c.App(ctx, "shop")
		wantKind(t, err, NotFound)
	})
}

func TestWhatHangsOnAnApp(t *testing.T) {
	onFly(t, flyemulator.Options{}, func(t *testing.T, e *flyemulator.Emulator, c *Client) {
		ctx := t.Context()
		must[App](t)(c.CreateApp(ctx, CreateApp{Name: "shop", Org: "acme"}))
		before := must[map[string]AppDigest](t)(c.Snapshot(ctx, "acme", []string{"shop", "missing"}))
		if before["shop"].Err != nil || KindOf(before["missing"].Err) != NotFound {
			t.Fatalf("%+v", before)
		}

		written := must[SecretsWritten](t)(c.SetSecrets(ctx, "shop", map[string]*secret.Value{
			"A": new(secret.New([]byte("one"))), "B": new(secret.New([]byte("two"))),
		}))
		again := must[SecretsWritten](t)(c.SetSecrets(ctx, "shop", map[string]*secret.Value{"B": nil}))
		if written.Version == 0 || again.Version <= written.Version {
			t.Errorf("%+v, then %+v", written, again)
		}
		if list := must[[]AppSecret](t)(c.Secrets(ctx, "shop", again.Version)); len(list) != 1 || list[0].Digest == "" {
			t.Errorf("%+v", list)
		}

		for _, kind := range []string{SharedIPv4, IPv6} {
			must[IP](t)(c.AssignIP(ctx, "shop", AssignIP{Type: kind}))
		}
		ips := must[[]IP](t)(c.IPs(ctx, "shop"))
		if len(ips) != 2 {
			t.Errorf("%+v", ips)
		}
		for _, ip := range ips {
			if ip.Type() == IPv6 {
				fine(t, c.ReleaseIP(ctx, "shop", ip.Address))
				fine(t, c.ReleaseIP(ctx, "shop", ip.Address))
			}
		}

		must[Certificate](t)(c.RequestCertificate(ctx, "shop", "*.example.com"))
		_, err := c.RequestCertificate(ctx, "shop", "*.example.com")
		wantKind(t, err, Taken)
		certificate := must[Certificate](t)(c.CheckCertificate(ctx, "shop", "*.example.com"))
		if certificate.Hostname != "*.example.com" || certificate.Requirements.ACMEChallenge == nil || certificate.Configured {
			t.Errorf("%+v", certificate)
		}
		if list := must[[]CertificateSummary](t)(c.Certificates(ctx, "shop")); len(list) != 1 {
			t.Errorf("%+v", list)
		}

		after := must[map[string]AppDigest](t)(c.Snapshot(ctx, "acme", []string{"shop"}))["shop"]
		if b := before["shop"]; after.Secrets == b.Secrets || after.IPs == b.IPs || after.Certificates == b.Certificates {
			t.Errorf("%+v, then %+v", b, after)
		}
		if same := must[map[string]AppDigest](t)(c.Snapshot(ctx, "acme", []string{"shop"}))["shop"]; same != after {
			t.Errorf("%+v, then %+v", after, same)
		}
		fine(t, c.DeleteCertificate(ctx, "shop", "*.example.com"))
		_, err = c.Certificate(ctx, "shop", "*.example.com")
		wantKind(t, err, NotFound)
	})
}

func TestManagedServices(t *testing.T) {
	onFly(t, flyemulator.Options{}, func(t *testing.T, e *flyemulator.Emulator, c *Client) {
		ctx := t.Context()
		org := must[Org](t)(c.Organization(ctx, "acme"))
		plans := must[[]AddOnPlan](t)(c.AddOnPlans(ctx, AddOnRedis))
		if len(plans) == 0 {
			t.Fatal("no plans")
		}
		redis := must[AddOn](t)(c.CreateAddOn(ctx, CreateAddOn{
			Type: AddOnRedis, OrgID: org.ID, Name: "cache", PlanID: plans[0].ID, PrimaryRegion: "cdg", Options: map[string]any{"eviction": true},
		}))
		must[AddOn](t)(c.UpdateAddOn(ctx, UpdateAddOn{ID: redis.ID, Metadata: map[string]any{"owner": "me"}}))
		redis = must[AddOn](t)(c.AddOn(ctx, "cache", AddOnRedis))
		if redis.Metadata["owner"] != "me" || redis.Options["eviction"] != true || redis.Org != "acme" || redis.PublicURL.IsZero() {
			t.Errorf("%+v", redis)
		}
		if list := must[[]AddOn](t)(c.AddOns(ctx, "acme", AddOnRedis)); len(list) != 1 {
			t.Errorf("%+v", list)
		}
		fine(t, c.DeleteAddOn(ctx, redis.ID))
		fine(t, c.DeleteAddOn(ctx, redis.ID))
		_, err := c.AddOn(ctx, "cache", AddOnRedis)
		wantKind(t, err, NotFound)

		cluster := must[PostgresCluster](t)(c.CreatePostgres(ctx, CreatePostgres{Org: "acme", Name: "db", Plan: "basic", Region: "fra", DiskGB: 10, Version: "17"}))
		for cluster.Status != PostgresReady {
			time.Sleep(5 * time.Second)
			cluster = must[PostgresCluster](t)(c.PostgresCluster(ctx, cluster.ID))
		}
		fine(t, c.CreatePostgresDatabase(ctx, cluster.ID, "shop"))
		fine(t, c.CreatePostgresUser(ctx, cluster.ID, "shop", PostgresSchemaAdmin))
		if password := must[secret.Value](t)(c.PostgresPassword(ctx, cluster.ID, "shop")); password.IsZero() {
			t.Error("no password")
		}
		if k := KindOf(c.CreatePostgresUser(ctx, cluster.ID, "shop", PostgresSchemaAdmin)); k != Taken && k != Conflict {
			t.Errorf("a user of the name: %q", k)
		}
		if list := must[[]PostgresCluster](t)(c.PostgresClusters(ctx, "acme")); len(list) != 1 || list[0].Name != "db" {
			t.Errorf("%+v", list)
		}
		fine(t, c.DeletePostgres(ctx, cluster.ID))
		fine(t, c.DeletePostgres(ctx, cluster.ID))

		token := must[LimitedToken](t)(c.CreateLimitedToken(ctx, CreateLimitedToken{Name: "n", OrgID: org.ID, Profile: TokenOfOrg, Expiry: time.Hour}))
		other := clientOf(t, e, string(token.Header.Reveal()))
		must[Scope](t)(other.TokenScope(ctx))
		time.Sleep(2 * time.Hour)
		_, err = other.TokenScope(ctx)
		wantKind(t, err, Unauthenticated)
		if image := must[string](t)(c.LatestImage(ctx, "flyio/postgres-flex")); !strings.Contains(image, "postgres-flex") {
			t.Error(image)
		}
		must[[]Region](t)(c.Regions(ctx))
		must[[]Placement](t)(c.Placements(ctx, PlacementQuery{Org: "acme", Region: "cdg", Count: 2, Guest: web.Guest}))
		release := must[App](t)(c.CreateApp(ctx, CreateApp{Name: "shop", Org: "acme"}))
		made := must[Release](t)(c.CreateRelease(ctx, CreateRelease{App: release.Name, Image: "i", Strategy: "ROLLING", Definition: []byte(`{}`)}))
		fine(t, c.SetRelease(ctx, made.ID, "complete"))
		if list := must[[]Release](t)(c.Releases(ctx, "shop")); len(list) != 1 || list[0].Status != "complete" {
			t.Errorf("%+v", list)
		}
	})
}

// TestTenThousandRequests: of many at once, about many apps and machines, and
// not one too many.
// TestLostAnswers: what was made is made once, and the client does not pretend
// to know.
// TestOthersUseTheLimit: flyctl asks as well. Then Fly refuses, and we wait.
// TestReadsSeeWrites: the cookie leads to the replica that has them.
func TestMetrics(t *testing.T) {
	onFly(t, flyemulator.Options{}, func(t *testing.T, e *flyemulator.Emulator, c *Client) {
		ctx := t.Context()
		must[App](t)(c.CreateApp(ctx, CreateApp{Name: "shop", Org: "acme"}))
		m := must[Machine](t)(c.CreateMachine(ctx, "shop", CreateMachine{Region: "cdg", Config: web}))
		must[Waited](t)(c.Wait(ctx, "shop", m.ID, WaitFor{}))
		up := must[[]Sample](t)(c.Query(ctx, "acme", "fly_instance_up"))
		if len(up) != 1 || up[0].Labels["instance"] != m.ID || up[0].Value != 1 || time.Since(up[0].At) > time.Minute {
			t.Errorf("%+v", up)
		}
	})
}

// TestLostAnswersOfSockets: net/http makes some requests again by itself when a
// connection that it has used before breaks. A write must not be among them.
// TestEmulatorHearsNoToken: what the requests' log keeps of URLs.
func TestEmulatorHearsNoToken(t *testing.T) {
	onFly(t, flyemulator.Options{}, func(t *testing.T, e *flyemulator.Emulator, c *Client) {
		must[App](t)(c.CreateApp(t.Context(), CreateApp{Name: "shop", Org: "acme"}))
		var log bytes.Buffer
		for _, r := range e.Requests() {
			fmt.Fprintln(&log, r.Path)
		}
		if strings.Contains(log.String(), "fm2_") {
			t.Error(log.String())
		}
	})
}
