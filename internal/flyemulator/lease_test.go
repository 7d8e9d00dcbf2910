package flyemulator

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const nonceHeader = "fly-machine-lease-nonce"

// lease takes one, and returns its nonce.
func (w *world) lease(path, body string) string {
	w.Helper()
	nonce, _ := w.want(201, "POST", path+"/lease", body).at("data.nonce").(string)
	if nonce == "" {
		w.Fatal("no nonce")
	}
	return nonce
}

func TestLeases(t *testing.T) {
	in(t, Options{}, func(w *world) {
		id, one := w.make(nginx)
		pass(5 * time.Second)
		w.says(w.want(404, "GET", one+"/lease", ""), "error", "lease not found")
		v := w.want(201, "POST", one+"/lease", `{"ttl":60,"description":"forged"}`)
		nonce, _ := v.at("data.nonce").(string)
		version := w.want(200, "GET", one, "").at("instance_id")
		for path, want := range map[string]any{"status": "success", "data.description": "forged", "data.version": version, "data.expires_at": int(time.Now().Unix()) + 60} {
			w.says(v, path, want)
		}
		v = w.want(200, "GET", one+"/lease", "")
		w.says(v, "data.nonce", nil)
		owner, _ := v.at("data.owner").(string)
		if !strings.HasSuffix(owner, "@tokens.fly.io") {
			t.Errorf("owner %q", owner)
		}

		held := fmt.Sprintf("machine ID %s lease currently held by %s, expires at %s", id, owner, time.Now().Add(time.Minute).UTC().Format(time.RFC3339))
		guarded := []refused{
			{"another lease", "POST", one + "/lease", "", 409, held},
			{"update", "POST", one, nginx, 409, held},
			{"start", "POST", one + "/start", "", 409, held},
			{"restart", "POST", one + "/restart", "", 409, held},
			{"suspend", "POST", one + "/suspend", "", 409, held},
			{"cordon", "POST", one + "/cordon", "", 409, held},
			{"uncordon", "POST", one + "/uncordon", "", 409, held},
			{"exec", "POST", one + "/exec", `{"command":["true"]}`, 409, held},
			{"signal", "POST", one + "/signal", `{"signal":"SIGHUP"}`, 409, held},
			{"release", "DELETE", one + "/lease", "", 400, "lease nonce does not match"},
		}
		w.refuses(guarded)
		for _, g := range guarded {
			if a := w.with(g.status, g.method, g.path, g.body, nonceHeader, "wrong"); a.at("error") != g.text {
				t.Errorf("%s with a wrong nonce: %s", g.name, a.raw)
			}
		}
		w.want(204, "POST", one+"/metadata/k", `{"value":"v"}`) // what it does not guard
		w.make(nginx)

		// Its holder may, and it survives an update.
		w.with(200, "POST", one, nginx, nonceHeader, nonce)
		w.want(409, "POST", one+"/start", "")
		pass(10 * time.Second)
		w.with(200, "POST", one+"/cordon", "", nonceHeader, nonce)

		// It is renewed, and its nonce stays.
		pass(49 * time.Second)
		a := w.with(201, "POST", one+"/lease", `{"ttl":60}`, nonceHeader, nonce)
		w.says(a.value, "data.nonce", nonce)
		w.says(a.value, "data.description", "forged")
		pass(59 * time.Second)
		w.want(409, "POST", one+"/lease", "")
		pass(time.Second)

		// It has expired: its nonce opens nothing more.
		w.says(w.with(404, "POST", one+"/lease", "", nonceHeader, nonce).value, "error", "lease not found")
		w.says(w.with(404, "DELETE", one+"/lease", "", nonceHeader, nonce).value, "error", "lease not found")
		w.with(404, "POST", one+"/stop", "", nonceHeader, nonce)
		w.with(404, "DELETE", one, "", nonceHeader, nonce)
		w.with(404, "POST", one+"/uncordon", "", nonceHeader, nonce)
		w.want(404, "GET", one+"/lease", "")

		nonce = w.lease(one+"", "")
		a = w.with(200, "DELETE", one+"/lease", "", nonceHeader, nonce)
		w.says(a.value, "data.ok", true)
		w.want(200, "POST", one+"/uncordon", "")
		if n, _ := w.want(201, "POST", one+"/lease?ttl=5", "").at("data.expires_at").(float64); int64(n) != time.Now().Unix()+5 {
			t.Errorf("expires at %v", n)
		}
		w.refuses([]refused{
			{"ttl", "POST", one + "/lease?ttl=x", "", 400, "invalid ttl"},
			{"negative", "POST", one + "/lease", `{"ttl":-1}`, 400, "invalid ttl"},
		})
		v = w.want(200, "POST", machinesPath, `{"lease_ttl":30,"config":{"image":"nginx"}}`)
		two := machinesPath + "/" + v.at("id").(string)
		w.with(200, "POST", two+"/cordon", "", nonceHeader, v.at("nonce").(string))
		w.want(409, "POST", two+"/cordon", "")

		pass(5 * time.Second)
		nonce = w.lease(one, "")
		w.want(201, "POST", "/_emulator/drift", `{"path":"`+one+`/lease?ttl=60"}`) // somebody steals it
		w.with(409, "POST", one+"/lease", "", nonceHeader, nonce)
		w.e.StealLease("web", id, "somebody@example.org", time.Minute)
		if a := w.want(409, "POST", one+"/lease", ""); !strings.Contains(a.raw, "held by somebody@example.org") {
			t.Error(a.raw)
		}
	})
}

// TestLeaseBlocks: stopping and destroying a machine whose lease somebody
// holds is not refused: it hangs until the lease is no more.
func TestLeaseBlocks(t *testing.T) {
	in(t, Options{}, func(w *world) {
		_, one := w.make(nginx)
		pass(5 * time.Second)
		w.lease(one, `{"ttl":120}`)
		w.took(120*time.Second, func() { w.want(200, "POST", one+"/stop", "") })
		w.is(one, stopping)
		pass(10 * time.Second)

		// The holder may do it at once.
		nonce := w.lease(one, `{"ttl":120}`)
		w.took(0, func() { w.with(200, "POST", one+"/stop", "", nonceHeader, nonce) })
		w.with(409, "POST", one+"/start", "", nonceHeader, "wrong")
		w.took(0, func() { w.with(409, "POST", one+"/stop", "", nonceHeader, "wrong") })

		// A lease that is renewed holds on; one that is released lets go at once.
		done := make(chan answer)
		go func() { done <- w.send(w.Context(), "DELETE", one, "") }()
		pass(100 * time.Second)
		w.with(201, "POST", one+"/lease", `{"ttl":120}`, nonceHeader, nonce)
		pass(100 * time.Second)
		w.is(one, stopped)
		w.with(200, "DELETE", one+"/lease", "", nonceHeader, nonce)
		if a := <-done; a.status != 200 {
			t.Errorf("destroy: %d %v %s", a.status, a.err, a.raw)
		}
		w.is(one, destroying)

		// One that gives up has done nothing.
		_, two := w.make(nginx)
		pass(5 * time.Second)
		w.lease(two, `{"ttl":120}`)
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if a := w.send(ctx, "POST", two+"/stop", ""); !errors.Is(a.err, context.DeadlineExceeded) {
			t.Errorf("given up: %d %v", a.status, a.err)
		}
		pass(time.Hour)
		w.is(two, started)

		// And one whose machine goes away meanwhile is told so.
		w.lease(two, `{"ttl":120}`)
		go func() { done <- w.send(w.Context(), "POST", two+"/stop", "") }()
		synctest.Wait()
		w.want(202, "DELETE", "/v1/apps/web?force=true", "")
		if a := <-done; a.status != 404 {
			t.Errorf("gone: %d %v %s", a.status, a.err, a.raw)
		}
	})
}

func TestWait(t *testing.T) {
	in(t, Options{}, func(w *world) {
		v := w.want(200, "POST", machinesPath, nginx)
		first, _ := v.at("instance_id").(string)
		one := machinesPath + "/" + v.at("id").(string)
		wait := one + "/wait"
		w.want(404, "GET", wait, "") // it is too new
		pass(200 * time.Millisecond)
		w.took(2800*time.Millisecond, func() {
			v = w.want(200, "GET", wait, "")
			w.says(v, "ok", true)
			w.says(v, "state", started)
			w.says(v, "version", first)
		})
		event := w.want(200, "GET", one+"/events", "").at("0.id")
		w.says(v, "event_id", event)
		w.took(0, func() { w.want(200, "GET", wait+"?state=settled&timeout=60", "") })
		w.refuses([]refused{
			{"too long", "GET", wait + "?timeout=61", "", 400, "timeout"},
			{"no time", "GET", wait + "?timeout=0", "", 400, "timeout"},
			{"no number", "GET", wait + "?timeout=10s", "", 400, "timeout"},
			{"no such state", "GET", wait + "?state=created", "", 400, "cannot wait for state"},
			{"stopped, of which version", "GET", wait + "?state=stopped", "", 400, "instance_id is required"},
			{"no such version", "GET", wait + "?version=01J0000000000000000000000", "", 404, "not found"},
			{"no such machine", "GET", machinesPath + "/0/wait", "", 404, "machine not found"},
		})
		w.took(5*time.Second, func() {
			v := w.want(408, "GET", wait+"?state=stopped&timeout=5&instance_id="+first, "")
			w.says(v, "error", "deadline_exceeded: machine failed to reach desired state, stopped, currently started")
		})
		w.took(60*time.Second, func() { w.want(408, "GET", wait+"?state=destroyed", "") })

		w.want(200, "POST", one+"/stop", "")
		w.took(time.Second, func() { w.want(200, "GET", wait+"?state=suspended,stopped&version="+first, "") })
		w.took(0, func() {
			w.says(w.want(200, "GET", wait+"?state=failed&state=stopped&version="+first, ""), "state", stopped)
		})
		pass(10 * time.Second)

		done := make(chan answer)
		go func() { done <- w.send(w.Context(), "GET", wait+"?version="+first, "") }()
		synctest.Wait()
		second, _ := w.want(200, "POST", one, nginx).at("instance_id").(string)
		if a := <-done; a.status != 408 || !strings.HasSuffix(a.at("error").(string), ", currently replaced") {
			t.Errorf("a version that is no more: %d %s", a.status, a.raw)
		}
		w.took(3500*time.Millisecond, func() { w.says(w.want(200, "GET", wait+"?state=settled&version="+second, ""), "state", stopped) })

		w.want(200, "DELETE", one, "")
		w.took(time.Second, func() { w.want(200, "GET", wait+"?state=destroyed", "") })
		w.took(0, func() { w.want(200, "GET", wait+"?state=destroyed", "") })
	})
}

// TestInventoryMachine: a machine that never starts keeps notes in the files
// of its config; whoever writes them has its lease, and names the version they
// have read.
func TestInventoryMachine(t *testing.T) {
	in(t, Options{}, func(w *world) {
		notes := func(text string) string {
			raw, err := json.Marshal(map[string]any{
				"image": "nginx", "restart": map[string]any{"policy": "no"}, "metadata": map[string]any{"kind": "inventory"},
				"files": []any{map[string]any{"guest_path": "/notes", "raw_value": base64.StdEncoding.EncodeToString([]byte(text))}},
			})
			if err != nil {
				t.Fatal(err)
			}
			return string(raw)
		}
		write := func(status int, nonce, version, text string) value {
			w.Helper()
			body := fmt.Sprintf(`{"skip_launch":true,"current_version":%q,"config":%s}`, version, notes(text))
			return w.with(status, "POST", machinesPath+"/"+w.want(200, "GET", machinesPath, "").at("0.id").(string), body, nonceHeader, nonce).value
		}
		_, one := w.make(`{"name":"inventory","skip_launch":true,"config":` + notes("first") + `}`)
		if v := w.want(409, "POST", machinesPath, `{"name":"inventory","skip_launch":true,"config":`+notes("again")+`}`); !strings.Contains(v.raw, "unique machine name violation") {
			t.Error(v.raw)
		}
		read := func() (text, version string) {
			w.Helper()
			v := w.want(200, "GET", one, "")
			raw, err := base64.StdEncoding.DecodeString(v.at("config.files.0.raw_value").(string))
			if err != nil {
				t.Fatal(err)
			}
			return string(raw), v.at("instance_id").(string)
		}
		nonce := w.lease(one, `{"ttl":90,"description":"forged of somebody"}`)
		_, version := read()

		// Already while it is being prepared, it is written; the answer has the
		// version of what was written, and so has the listing.
		v := write(200, nonce, version, "second")
		text, now := read()
		if text != "second" || now == version || v.at("instance_id") != now {
			t.Fatalf("%q at %s after %s", text, now, version)
		}
		w.says(w.want(200, "GET", "/v1/orgs/acme/machines", ""), "machines.0.instance_id", now)

		// The next write waits until the one before is done.
		w.says(write(409, nonce, now, "third"), "error", "aborted: machine update failed due to concurrent update")
		pass(3500 * time.Millisecond)
		w.is(one, stopped)

		// Who has read an older version is refused, and so is who has no lease.
		if v := write(412, nonce, version, "third"); !strings.Contains(v.raw, "current_version") {
			t.Error(v.raw)
		}
		write(409, "", now, "third")
		write(200, nonce, now, "third")
		pass(90 * time.Second)
		_, now = read()
		write(404, nonce, now, "fourth") // the lease has run out
		if text, _ := read(); text != "third" {
			t.Errorf("it says %q", text)
		}
		write(200, "", now, "fourth") // nobody holds it
		pass(24 * time.Hour)
		w.is(one, stopped)
		if text, _ := read(); text != "fourth" {
			t.Errorf("it says %q", text)
		}
		for _, ev := range w.want(200, "GET", one+"/events?limit=50", "").any.([]any) {
			if ev.(map[string]any)["type"] == "start" {
				t.Error("it was started")
			}
		}
		if n := len(w.want(200, "GET", one+"/versions", "").any.([]any)); n != 4 {
			t.Errorf("%d versions", n)
		}
	})
}
