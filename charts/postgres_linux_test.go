package charts_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
)

// The tests here run the chart's own scripts with a real PostgreSQL.

// database is a postgres release on this machine.
type database struct {
	*machine
	values map[string]any
	port   string
	server *server
}

func newDatabase(t *testing.T, tls bool) *database {
	t.Helper()
	d := &database{port: freePort(t), values: map[string]any{
		"user": "shop", "database": "shop", "schema": "app", "secretName": "pg",
		"roles": []any{map[string]any{
			"name": "temporal", "secretName": "pg-temporal", "key": "POSTGRES_PWD", "databases": []any{"temporal", "temporal_visibility"},
		}},
		"backup": map[string]any{"schedule": "15 2 * * *", "keepDays": 7, "claim": "pg-backup"},
	}}
	d.machine = newMachine(t, "initdb", secretValues{
		"pg":          {"password": awkwardText},
		"pg-temporal": {"POSTGRES_PWD": awkwardText + "2"},
	})
	d.env = []string{"PGPORT=" + d.port}
	if tls {
		d.values["tlsSecret"] = "pg-tls"
		d.secrets["pg-tls"] = certificates(t, "localhost")
	}
	return d
}

func (d *database) objects() (set *appsv1.StatefulSet, backup *batchv1.CronJob) {
	for _, object := range decode(d.t, mustRender(d.t, "postgres", "localhost", "shop", d.values)) {
		switch o := object.(type) {
		case *appsv1.StatefulSet:
			set = o
		case *batchv1.CronJob:
			backup = o
		}
	}
	return set, backup
}

func (d *database) up() {
	d.t.Helper()
	set, _ := d.objects()
	d.server = d.start(set.Spec.Template.Spec)
	d.server.ready()
}

// dump runs the container of a dump.
func (d *database) dump(env ...string) (string, error) {
	d.t.Helper()
	_, backup := d.objects()
	pod := backup.Spec.JobTemplate.Spec.Template.Spec
	return d.run(pod, pod.Containers[0].Command, env...)
}

// sql runs SQL as a client does, over TCP. settings are those of a connection.
func (d *database) sql(settings map[string]string, text string) (string, error) {
	d.t.Helper()
	all := map[string]string{"host": "localhost", "port": d.port, "user": "shop", "dbname": "shop", "connect_timeout": "10"}
	password := d.secrets["pg"]["password"]
	if d.values["tlsSecret"] != nil {
		all["sslmode"], all["sslrootcert"] = "verify-full", filepath.Join(d.dir, "ca.crt")
		if err := os.WriteFile(all["sslrootcert"], []byte(d.secrets["pg-tls"]["ca.crt"]), 0o644); err != nil {
			d.t.Fatal(err)
		}
	}
	maps.Copy(all, settings)
	if own, ok := all["password"]; ok {
		password = own
		delete(all, "password")
	}
	var words []string
	for key, value := range all {
		words = append(words, key+"="+value)
	}
	cmd := exec.CommandContext(d.t.Context(), "psql", "-XqtA", "-v", "ON_ERROR_STOP=1", "-d", strings.Join(words, " "), "-c", text)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "PGPASSWORD=" + password, "LC_ALL=C.UTF-8"}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (d *database) must(settings map[string]string, text, want string) {
	d.t.Helper()
	if got, err := d.sql(settings, text); err != nil || got != want {
		d.t.Errorf("%s: got %q, %v; want %q", text, got, err, want)
	}
}

func (d *database) refused(settings map[string]string, text, why string) {
	d.t.Helper()
	if got, err := d.sql(settings, text); err == nil || !strings.Contains(got, why) {
		d.t.Errorf("%v %s: got %q, %v; want it refused with %q", settings, text, got, err, why)
	}
}

// certificates are those of a Secret, for a host.
func certificates(t *testing.T, host string) map[string]string {
	t.Helper()
	make := func(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, string) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if signer == nil {
			parent, signer = template, key
		}
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	ca, caKey, caText := make(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true}, nil, nil)
	_, key, text := make(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}}, ca, caKey)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"ca.crt": caText, "tls.crt": text,
		"tls.key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	}
}

// TestPostgres: encrypted logins with SCRAM and nothing else, roles with the
// rights they need, passwords of any characters.
func TestPostgres(t *testing.T) {
	d := newDatabase(t, true)
	d.up()
	d.must(nil, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", "t")
	d.must(nil, "SHOW password_encryption", "scram-sha-256")
	d.refused(map[string]string{"sslmode": "disable"}, "SELECT 1", "no encryption")
	d.refused(map[string]string{"password": "wrong"}, "SELECT 1", "password authentication failed")
	d.refused(map[string]string{"user": "postgres", "password": ""}, "SELECT 1", "rejects")

	// The app's role is no superuser, owns its database, and makes tables and
	// trusted extensions in its schema without being told its name.
	d.must(nil, "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls FROM pg_roles WHERE rolname = current_user", "f")
	d.refused(nil, "CREATE ROLE mallory", "permission denied")
	d.refused(nil, "COPY (SELECT 1) TO PROGRAM 'id'", "must be superuser")
	d.must(nil, "CREATE TABLE orders (id int); CREATE EXTENSION btree_gin; SELECT schemaname FROM pg_tables WHERE tablename = 'orders'", "app")
	// A migration that says nothing and an app that asks for the schema see the
	// same tables.
	d.must(map[string]string{"options": "-csearch_path=app"}, "SELECT count(*) FROM orders", "0")
	d.must(nil, "SHOW server_encoding; SHOW data_checksums", "UTF8\non")

	// Temporal's role has its two databases and no other.
	temporal := map[string]string{"user": "temporal", "dbname": "temporal", "password": awkwardText + "2"}
	d.must(temporal, "CREATE TABLE a (id int); SELECT schemaname FROM pg_tables WHERE tablename = 'a'", "public")
	temporal["dbname"] = "temporal_visibility"
	d.must(temporal, "CREATE EXTENSION btree_gin; SELECT current_user", "temporal")
	temporal["dbname"] = "shop"
	d.refused(temporal, "SELECT 1", "permission denied for database")
	d.refused(map[string]string{"dbname": "temporal"}, "SELECT 1", "permission denied for database")

	// A stop does not wait for clients that stay.
	stays := exec.CommandContext(t.Context(), "psql", "-X", "-d", "host=localhost port="+d.port+" user=shop dbname=shop application_name=stays", "-c", "SELECT pg_sleep(600)")
	stays.Env = []string{"PATH=" + os.Getenv("PATH"), "PGPASSWORD=" + awkwardText}
	if err := stays.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		got, err := d.sql(nil, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'stays' AND wait_event = 'PgSleep'")
		return err == nil && got == "1"
	})
	d.server.stop()
	if err := stays.Wait(); err == nil {
		t.Error("the client was not cut off")
	}
	if out := d.server.out.String(); !strings.Contains(out, "database system is shut down") || strings.Contains(out, "p\\\\w") {
		t.Errorf("no orderly stop, or a password in the log:\n%s", out)
	}
}

// TestPostgresRotation: a new password in the Secret and a restart are all; the
// old one is worth nothing, and nobody gets in with it in between.
func TestPostgresRotation(t *testing.T) {
	d := newDatabase(t, false)
	d.up()
	d.must(nil, "CREATE TABLE kept (id int); INSERT INTO kept VALUES (7); SELECT id FROM kept", "7")
	d.server.stop()
	old := d.secrets["pg"]["password"]
	d.secrets["pg"]["password"], d.secrets["pg-temporal"]["POSTGRES_PWD"] = "new'", "newer"
	d.up()
	d.must(nil, "SELECT id FROM kept", "7")
	d.must(map[string]string{"user": "temporal", "dbname": "temporal", "password": "newer"}, "SELECT 1", "1")
	d.refused(map[string]string{"password": old}, "SELECT 1", "password authentication failed")
	// Readiness is a login: a server whose passwords are others is not ready.
	d.secrets["pg"]["password"] = "not yet known to it"
	if out, err := d.server.probe(d.server.pod.Containers[0].ReadinessProbe); err == nil {
		t.Errorf("ready with a password that does not work: %s", out)
	}
	d.secrets["pg"]["password"], d.secrets["pg-temporal"]["POSTGRES_PWD"] = "new'", "not yet known to it"
	if out, err := d.server.probe(d.server.pod.Containers[0].ReadinessProbe); err == nil {
		t.Errorf("ready with a password of Temporal's that does not work: %s", out)
	}
	if out, err := d.server.probe(d.server.pod.Containers[0].LivenessProbe); err != nil {
		t.Errorf("a password is no reason to restart: %v %s", err, out)
	}
}

// TestPostgresCutOff: a start that ends anywhere is begun again, and a server
// that lost its power recovers.
func TestPostgresCutOff(t *testing.T) {
	d := newDatabase(t, true)
	set, _ := d.objects()
	data := filepath.Join(d.volume("data"), "pgdata")
	for _, reached := range []string{data + ".new/PG_VERSION", data + "/PG_VERSION", data + "/postmaster.pid"} {
		half := d.start(set.Spec.Template.Spec)
		eventually(t, func() bool {
			_, err := os.Stat(reached)
			return err == nil
		})
		half.kill()
	}
	d.up()
	d.must(nil, "CREATE TABLE kept (id int); INSERT INTO kept VALUES (7); SELECT id FROM kept", "7")
	d.server.kill()
	d.up()
	d.must(nil, "SELECT id FROM kept", "7")
}

// TestPostgresEmptyLock: a server that was cut off while it wrote its number
// left an empty file, with which none starts.
func TestPostgresEmptyLock(t *testing.T) {
	d := newDatabase(t, false)
	d.up()
	d.server.kill()
	if err := os.Truncate(filepath.Join(d.volume("data"), "pgdata", "postmaster.pid"), 0); err != nil {
		t.Fatal(err)
	}
	d.up()
	d.must(nil, "SELECT 1", "1")
}

// TestPostgresRefusesToStart: with a reason, instead of running with less.
func TestPostgresRefusesToStart(t *testing.T) {
	t.Run("a role without a password", func(t *testing.T) {
		d := newDatabase(t, false)
		d.secrets["pg-temporal"]["POSTGRES_PWD"] = ""
		set, _ := d.objects()
		s := d.start(set.Spec.Template.Spec)
		if err := s.wait(); err == nil || !strings.Contains(s.out.String(), "no password for the role temporal") {
			t.Errorf("%v\n%s", err, s.out)
		}
	})
	t.Run("data of another version", func(t *testing.T) {
		d := newDatabase(t, false)
		data := filepath.Join(d.volume("data"), "pgdata")
		if err := os.Mkdir(data, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte("9\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		set, _ := d.objects()
		s := d.start(set.Spec.Template.Spec)
		if err := s.wait(); err == nil || !strings.Contains(s.out.String(), "written by PostgreSQL 9") {
			t.Errorf("%v\n%s", err, s.out)
		}
	})
}

// TestPostgresBackup: what was dumped comes back; a dump that fails says so and
// costs no old one.
func TestPostgresBackup(t *testing.T) {
	d := newDatabase(t, true)
	d.up()
	d.must(nil, "CREATE TABLE orders (id int); INSERT INTO orders SELECT generate_series(1, 1000); CREATE EXTENSION btree_gin; SELECT count(*) FROM orders", "1000")
	d.must(map[string]string{"user": "temporal", "dbname": "temporal", "password": awkwardText + "2"}, "CREATE TABLE runs (id int); SELECT 1", "1")

	backups := d.volume("backups")
	old := filepath.Join(backups, "shop-20200101T000000Z.dump")
	if err := os.WriteFile(old, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	aged := time.Now().Add(-8 * 24 * time.Hour)
	if err := os.Chtimes(old, aged, aged); err != nil {
		t.Fatal(err)
	}
	d.own(old)

	password := d.secrets["pg-temporal"]["POSTGRES_PWD"]
	d.secrets["pg-temporal"]["POSTGRES_PWD"] = "wrong"
	out, err := d.dump()
	if err == nil || !strings.Contains(out, "no new dump of temporal temporal_visibility") {
		t.Errorf("a dump that failed: %v\n%s", err, out)
	}
	if _, err := os.Stat(old); err != nil {
		t.Errorf("a dump that failed cost an old one: %v", err)
	}
	d.secrets["pg-temporal"]["POSTGRES_PWD"] = password

	out, err = d.dump()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"shop", "temporal", "temporal_visibility"} {
		if !strings.Contains(out, "dumped database="+name+" ") {
			t.Errorf("no word of %s:\n%s", name, out)
		}
	}
	if _, err := os.Stat(old); err == nil {
		t.Error("a dump is kept for longer than was asked for")
	}
	if left, _ := filepath.Glob(filepath.Join(backups, ".*")); len(left) > 0 {
		t.Errorf("half a dump is left: %v", left)
	}
	dumps, _ := filepath.Glob(filepath.Join(backups, "shop-*.dump"))
	if len(dumps) == 0 {
		t.Fatal("no dump")
	}

	d.must(nil, "DELETE FROM orders WHERE id > 10; CREATE TABLE later (id int); SELECT count(*) FROM orders", "10")
	out, err = d.dump("RESTORE=" + filepath.Base(dumps[len(dumps)-1]))
	if err != nil {
		t.Fatalf("restore: %v\n%s", err, out)
	}
	d.must(nil, "SELECT count(*) FROM orders", "1000")
	d.must(nil, "SELECT count(*) FROM pg_tables WHERE tablename = 'later'", "0")
	d.must(nil, "SELECT schemaname || tableowner FROM pg_tables WHERE tablename = 'orders'", "appshop")
	broken := filepath.Join(backups, "shop-20200102T000000Z.dump")
	whole, err := os.ReadFile(dumps[len(dumps)-1])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(broken, whole[:len(whole)-200], 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := d.dump("RESTORE=" + filepath.Base(broken)); err == nil || !strings.Contains(out, "Nothing was restored") {
		t.Errorf("restored half a dump: %v\n%s", err, out)
	}
	d.must(nil, "SELECT count(*) FROM orders", "1000")
	if out, err := d.dump("RESTORE=other-20200101T000000Z.dump"); err == nil || !strings.Contains(out, "no dump of a database") {
		t.Errorf("restored what is not there: %v\n%s", err, out)
	}
}

// TestPostgresPodRanges: connections come from the ranges that are listed, and
// probes from the container itself.
func TestPostgresPodRanges(t *testing.T) {
	d := newDatabase(t, false)
	d.values["podCIDRs"] = []any{"10.42.0.0/16", "fd00:42::/48"}
	d.up() // the probes log in
	set, _ := d.objects()
	script := set.Spec.Template.Spec.Containers[0].Command[3]
	var hosts []string
	for line := range strings.Lines(script) {
		if strings.HasPrefix(line, "host") && strings.HasSuffix(line, "scram-sha-256\n") {
			hosts = append(hosts, strings.Fields(line)[3])
		}
	}
	if got := fmt.Sprint(hosts); got != "[127.0.0.1/32 ::1/128 10.42.0.0/16 fd00:42::/48]" {
		t.Errorf("connections are let in from %s", got)
	}
}
