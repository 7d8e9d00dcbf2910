package flyemulator

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// dice decide what is asked next.
type dice interface{ upTo(n int) int }

type random struct{ *rand.Rand }

func (r random) upTo(n int) int { return r.IntN(n) }

// tape is dice whose throws a fuzzer chose. At its end they show nothing.
type tape struct{ left []byte }

func (t *tape) upTo(n int) int {
	if len(t.left) == 0 {
		return 0
	}
	b := t.left[0]
	t.left = t.left[1:]
	return int(b) % n
}

// player asks for whatever the dice say, of few things, so that much collides.
type player struct {
	w      *world
	d      dice
	nonces []string
}

func pick[T any](d dice, of ...T) T { return of[d.upTo(len(of))] }

func (p *player) id(kind string) string {
	var ids []string
	p.w.e.mu.Lock()
	defer p.w.e.mu.Unlock()
	app := p.w.e.state.Apps["web"]
	if app == nil {
		return "none"
	}
	switch kind {
	case "machine":
		for _, m := range app.inOrder() {
			ids = append(ids, m.ID)
		}
	default:
		ids = slices.Sorted(maps.Keys(app.Volumes))
	}
	if len(ids) == 0 {
		return "none"
	}
	return ids[p.d.upTo(len(ids))]
}

// config is one that may be right.
func (p *player) config() string {
	d := p.d
	parts := []string{`"image":"` + pick(d, "nginx", "nginx", "emu/crash", "emu/exit", "emu/unpullable", "emu/late", "") + `"`}
	if d.upTo(3) == 0 {
		parts = append(parts, `"mounts":[{"volume":"`+p.id("volume")+`","path":"/data"}]`)
	}
	if d.upTo(4) == 0 {
		parts = append(parts, `"auto_destroy":true`)
	}
	if d.upTo(4) == 0 {
		parts = append(parts, `"schedule":"hourly"`)
	}
	if d.upTo(4) == 0 {
		parts = append(parts, `"standbys":["`+p.id("machine")+`"]`)
	}
	if d.upTo(4) == 0 {
		parts = append(parts, `"services":[{"protocol":"tcp","internal_port":80,"autostart":true,"autostop":"`+pick(d, "stop", "suspend", "off")+`","checks":[{"type":"http"}]}]`)
	}
	if d.upTo(8) == 0 {
		parts = append(parts, pick(d, `"guest":null`, `"guest":{}`, `"checks":{"a":null}`, `"services":[null]`, `"files":[{}]`, `"env":null`, `"mounts":[{}]`, `"init":null`, `"restart":null`))
	}
	return `{` + strings.Join(parts, ",") + `}`
}

// ask asks for one thing, and returns what came.
func (p *player) ask() (method, path string, a answer) {
	d := p.d
	one := machinesPath + "/" + p.id("machine")
	body := ""
	switch d.upTo(16) {
	case 0, 1, 2:
		method, path = "POST", machinesPath
		body = fmt.Sprintf(`{"name":%q,"region":%q,"skip_launch":%t,"lease_ttl":%d,"config":%s}`,
			pick(d, "", "a", "b", "c"), pick(d, "", "iad", "iad,lhr", "eu", "none"), d.upTo(2) == 0, pick(d, 0, 0, 30), p.config())
	case 3, 4:
		method, path, body = "POST", one, `{"skip_launch":`+pick(d, "true", "false")+`,"config":`+p.config()+`}`
	case 5:
		method, path = "DELETE", one+pick(d, "", "?force=true")
	case 6:
		method, path = "POST", one+"/"+pick(d, "start", "stop", "restart", "suspend", "cordon", "uncordon")
	case 7:
		method, path, body = pick(d, "POST", "DELETE", "GET"), one+"/lease", pick(d, "", `{"ttl":5}`, `{"ttl":60}`)
	case 8:
		method, path, body = "POST", one+"/"+pick(d, "exec", "signal"), pick(d, `{"command":["x"],"signal":"SIGKILL"}`, `{"signal":"SIGTERM"}`)
	case 9:
		method, path, body = pick(d, "PUT", "PATCH"), one+"/metadata", pick(d, `{"metadata":{"a":"1"}}`, `{"metadata":{"a":null}}`, `{}`)
	case 10:
		method, path, body = "POST", "/v1/apps/web/volumes", `{"name":"data","size_gb":1,"region":"`+pick(d, "iad", "lhr")+`"}`
	case 11:
		method, path = "DELETE", "/v1/apps/web/volumes/"+p.id("volume")
	case 12:
		method, path = "GET", one+pick(d, "", "/wait?timeout=1", "/wait?state=settled&timeout=5", "/events", "/versions", "/ps", "/memory")
	case 13:
		method, path = "GET", pick(d, machinesPath, machinesPath+"?include_deleted=true&summary=true&include_leases=true", "/v1/orgs/acme/machines?limit=2", "/v1/orgs/acme/volumes", "/v1/apps?org_slug=acme")
	case 14:
		switch d.upTo(6) {
		case 0:
			method, path = "DELETE", "/v1/apps/web?force=true"
		default:
			method, path, body = "POST", "/v1/apps?wait=true", `{"name":"web","org_slug":"acme"}`
		}
	case 15:
		p.trouble()
		pass(time.Duration(d.upTo(20)) * time.Second)
		method, path = "GET", "/v1/apps/web"
	}
	headers := []string{}
	if len(p.nonces) > 0 && d.upTo(2) == 0 {
		headers = append(headers, nonceHeader, pick(d, p.nonces...))
	}
	ctx, cancel := context.WithTimeout(p.w.Context(), 30*time.Second)
	defer cancel()
	a = p.w.send(ctx, method, path, body, headers...)
	for _, at := range []string{"nonce", "data.nonce"} {
		if nonce, _ := a.at(at).(string); nonce != "" {
			p.nonces = append(p.nonces, nonce)
		}
	}
	return method, path, a
}

// trouble is what happens besides.
func (p *player) trouble() {
	d, post := p.d, func(path, body string) { p.w.send(p.w.Context(), "POST", "/_emulator/"+path, body) }
	host := fmt.Sprintf("%s-%d", pick(d, "iad", "lhr"), 1+d.upTo(hostsPerRegion))
	switch d.upTo(8) {
	case 0:
		post("hosts", `{"host":"`+host+`","status":"`+pick(d, hostOK, hostUnreachable)+`"}`)
	case 1:
		post("hosts", `{"host":"`+host+`","full":`+pick(d, "true", "false")+`}`)
	case 2:
		post("regions", `{"region":"iad","room":`+pick(d, "0", "1", "-1")+`}`)
	case 3:
		post("migrate", `{"app":"web","machine":"`+p.id("machine")+`"}`)
	case 4:
		post("proxy", `{"on":`+pick(d, "true", "false")+`}`)
	case 5:
		post("faults", `{"method":"POST","count":1,`+pick(d, `"drop":"after"`, `"drop":"before"`, `"status":408,"commit":true`)+`}`)
	case 6:
		post("drift", `{"method":"POST","path":"`+machinesPath+"/"+p.id("machine")+`","patch":true,"body":{"env":{"X":"y"}}}`)
	case 7:
		post("lag", `{"replica":"`+pick(d, "0s", "1s")+`","listing":"`+pick(d, "0s", "10s")+`"}`)
	}
}

// sound wants that nothing is twice, and that what hangs together does.
func (w *world) sound() {
	w.Helper()
	w.e.mu.Lock()
	defer w.e.mu.Unlock()
	ids := map[string]bool{}
	for name, a := range w.e.state.Apps {
		names, disks := map[string]string{}, map[string]string{}
		for id, m := range a.Machines {
			if ids[id] || m.ID != id {
				w.Errorf("machine %s is twice", id)
			}
			ids[id] = true
			if m.State == destroyed {
				continue
			}
			if other := names[m.Name]; other != "" {
				w.Errorf("app %s: machines %s and %s are both %s", name, id, other, m.Name)
			}
			names[m.Name] = id
			if m.Volume == "" {
				continue
			}
			if other := disks[m.Volume]; other != "" {
				w.Errorf("machines %s and %s have both volume %s", id, other, m.Volume)
			}
			disks[m.Volume] = id
			if v := a.Volumes[m.Volume]; v == nil || v.Machine != id || v.Host != m.Host || m.Config.Mounts[0].Volume != v.ID {
				w.Errorf("machine %s has volume %s, which is %+v", id, m.Volume, v)
			}
			if m.Instance != m.Versions[0].Instance {
				w.Errorf("machine %s is at %s, its versions begin with %s", id, m.Instance, m.Versions[0].Instance)
			}
		}
		for id, v := range a.Volumes {
			if ids[id] || v.ID != id {
				w.Errorf("volume %s is twice", id)
			}
			ids[id] = true
			if v.Machine != "" && disks[id] != v.Machine {
				w.Errorf("volume %s says that machine %s has it", id, v.Machine)
			}
		}
	}
	if n := len(w.e.state.Agenda); n > 5000 {
		w.Errorf("%d things are yet to happen", n)
	}
}

// play asks n times. Whatever is asked, the answer is one of the service's.
func play(w *world, d dice, n int) {
	p := &player{w: w, d: d}
	for range n {
		method, path, a := p.ask()
		switch {
		case a.err != nil:
		case a.status >= 500 && a.status != http.StatusServiceUnavailable, a.status < 200, a.status >= 300 && a.status < 400:
			w.Errorf("%s %s: %d %s", method, path, a.status, a.raw)
		case a.status >= 400 && a.status != http.StatusMethodNotAllowed:
			if text, _ := a.at("error").(string); text == "" {
				w.Errorf("%s %s: %d without a reason: %s", method, path, a.status, a.raw)
			}
		}
	}
}

// TestRandom: several ask at random, all at once; then nothing is twice, and
// what is saved reads back as it was.
func TestRandom(t *testing.T) {
	for seed := range uint64(8) {
		in(t, Options{Seed: seed}, func(w *world) {
			var all sync.WaitGroup
			for i := range uint64(4) {
				all.Go(func() { play(w, random{rand.New(rand.NewPCG(seed, i))}, 250) }) //nolint:gosec // it is to be the same each time
			}
			all.Wait()
			w.sound()
			var first, second bytes.Buffer
			if err := w.e.Save(&first); err != nil {
				t.Fatal(err)
			}
			saved := first.String()
			if err := w.e.Load(&first); err != nil {
				t.Fatal(err)
			}
			if err := w.e.Save(&second); err != nil {
				t.Fatal(err)
			}
			if !json.Valid([]byte(saved)) || saved != second.String() {
				t.Errorf("seed %d: what was loaded is not what was saved", seed)
			}
			w.e.Advance(24 * time.Hour)
			w.sound()
		})
	}
}

// FuzzRequests: no sequence of requests makes anything twice, or breaks it.
func FuzzRequests(f *testing.F) {
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // as above
		raw := make([]byte, 200)
		for i := range raw {
			raw[i] = byte(r.UintN(256))
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, throws []byte) {
		synctest.Test(t, func(t *testing.T) {
			e := New(Options{})
			defer e.Close()
			w := newWorld(t, e)
			play(w, &tape{throws}, min(len(throws)/4, 200))
			w.sound()
			e.Advance(48 * time.Hour)
			w.sound()
		})
	})
}
