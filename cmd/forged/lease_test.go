package main

import (
	"strings"
	"testing"

	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/server"
)

// Of two forged with one forge.cue one acts. The other one looks, says which one
// it is, and takes over when that has ended, or has been killed.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	h := installed(t)
	one := h.run()
	one.await("the first has the lease", func(s server.Snapshot) bool {
		l := environment(s, "prod").Lease
		return ready(1)(s) && l != nil && l.Held
	})
	two := h.run()
	s := two.await("the second knows who has it", func(s server.Snapshot) bool {
		l := environment(s, "prod").Lease
		return ready(1)(s) && l != nil && !l.Held
	})
	if holder := environment(s, "prod").Lease.Holder; !strings.Contains(holder, "process ") {
		t.Errorf("the holder is %q", holder)
	}
	for d, want := range map[*daemonProcess]string{one: " 1", two: " 0"} {
		text, err := d.get("/metrics")
		if err != nil || !strings.Contains(text, `forged_lease_held{environment="prod"}`+want) {
			t.Errorf("the metric is not%s: %v", want, err)
		}
	}
	h.edit("ConfigMap", "shop-env", `{"data":{"LOG_LEVEL":"DEBUG"}}`)
	one.await("put back", func(server.Snapshot) bool { return h.setting("LOG_LEVEL") == "INFO" })

	// One that ends by itself says so, and changes nothing.
	h.write("forge.cue", moded("apply", "1.4.2"))
	one.await("rolled out", ready(2))
	if !strings.HasSuffix(h.image(), "1.4.2") {
		t.Errorf("the image is %s", h.image())
	}
	h.write("other.cue", moded("apply", "1.4.3"))
	out, stderr, code := h.command("run", "--once", "--instance", h.Instance, "--config", "other.cue")
	if code != exitPending || !strings.Contains(out, "another forged acts on this environment") {
		t.Errorf("exit code %d\n%s%s", code, out, stderr)
	}
	if !strings.HasSuffix(h.image(), "1.4.2") {
		t.Errorf("it changed the image to %s", h.image())
	}

	one.kill()
	h.edit("ConfigMap", "shop-env", `{"data":{"LOG_LEVEL":"DEBUG"}}`)
	two.await("taken over", func(s server.Snapshot) bool {
		return h.setting("LOG_LEVEL") == "INFO" && environment(s, "prod").Lease.Held
	})
	two.await("at rest", func(s server.Snapshot) bool {
		return environment(s, "prod").State == reconcile.StateReady
	})
	two.stop()

	// It was given back: the next one does not wait.
	if out, stderr, code := h.command("run", "--once", "--instance", h.Instance, "--config", "other.cue"); code != 0 {
		t.Errorf("exit code %d\n%s%s", code, out, stderr)
	}
	if !strings.HasSuffix(h.image(), "1.4.3") {
		t.Errorf("the image is %s", h.image())
	}
}
