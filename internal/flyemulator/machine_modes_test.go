package flyemulator

import (
	"testing"
	"time"
)

// TestMachineModes: where the service may answer in more than one way, each is
// to be had.
func TestMachineModes(t *testing.T) {
	in(t, Options{}, func(w *world) {
		id, one := w.make(nginx)
		w.want(200, "POST", one, nginx) // before it has started: it starts all the same
		pass(10 * time.Second)
		w.is(one, started)

		w.e.SetMode(ModeWaitTimeout, "412")
		w.want(412, "GET", one+"/wait?state=failed&timeout=1", "")

		w.want(200, "POST", one+"/stop", "")
		pass(10 * time.Second)
		w.want(200, "POST", one, nginx)
		w.want(409, "POST", one, nginx)
		w.e.SetMode(ModeUpdateReplacing, "accepted")
		w.e.SetMode(ModeUpdateStopped, "starts")
		w.want(200, "POST", one, nginx) // it leads to where the one before led
		pass(20 * time.Second)
		w.is(one, stopped)
		w.want(200, "POST", one, nginx)
		pass(20 * time.Second)
		w.is(one, started)
		w.want(200, "POST", one, `{"skip_launch":true,"config":{"image":"nginx"}}`)
		pass(20 * time.Second)
		w.is(one, stopped)

		w.e.SetMode(ModeFirstMount, "accepted")
		var vol string
		w.want(404, "POST", one, `{`+mounts("vol_none")+`}`)
		for {
			vol = w.disk("iad")
			status, v := w.ask("POST", one, `{`+mounts(vol)+`}`)
			if status == 200 {
				break
			}
			w.says(v, "error", "invalid_argument: volume "+vol+" is not on the host of machine "+id)
			if here, err := w.e.hostOf("web", "", vol); err != nil || here == w.host(id) {
				t.Fatalf("refused on the same host %s: %v", here, err)
			}
		}
		w.says(w.want(200, "GET", "/v1/apps/web/volumes/"+vol, ""), "attached_machine_id", id)
		w.sound()
	})
}

// host is the one of a machine.
func (w *world) host(machine string) string {
	w.Helper()
	h, err := w.e.hostOf("web", machine, "")
	if err != nil {
		w.Fatal(err)
	}
	return h
}
