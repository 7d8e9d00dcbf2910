package flyemulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// The controls stand below /_emulator/. Each is a method in Go as well.
func (e *Emulator) controlRoutes() []route {
	const at = "/_emulator/"
	all := []route{
		{method: "GET", pattern: at + "now", handler: e.controlNow},
		{method: "POST", pattern: at + "advance", handler: e.controlAdvance},
		{method: "GET", pattern: at + "state", handler: e.controlSave},
		{method: "PUT", pattern: at + "state", handler: e.controlLoad},
		{method: "GET", pattern: at + "requests", handler: e.controlRequests},
		{method: "DELETE", pattern: at + "requests", handler: func(c *call) reply { e.requests = nil; return c.nothing(http.StatusNoContent) }},
		{method: "GET", pattern: at + "faults", handler: func(c *call) reply { return c.ok(append([]*Fault{}, e.faults...)) }},
		{method: "POST", pattern: at + "faults", handler: e.controlFault},
		{method: "DELETE", pattern: at + "faults", handler: func(c *call) reply { e.faults = nil; return c.nothing(http.StatusNoContent) }},
		{method: "DELETE", pattern: at + "faults/{id}", handler: e.controlMend},
		{method: "POST", pattern: at + "lag", handler: e.controlLag},
		{method: "POST", pattern: at + "drift", handler: e.controlDrift},
		{method: "POST", pattern: at + "hosts", handler: e.controlHost},
		{method: "POST", pattern: at + "regions", handler: e.controlRegion},
		{method: "POST", pattern: at + "migrate", handler: e.controlMigrate},
		{method: "POST", pattern: at + "programs", handler: e.controlProgram},
		{method: "POST", pattern: at + "images", handler: e.controlImage},
		{method: "POST", pattern: at + "proxy", handler: e.controlProxy},
		{method: "POST", pattern: at + "tokens", handler: e.controlToken},
		{method: "POST", pattern: at + "tokens/revoke", handler: e.controlRevoke},
		{method: "GET", pattern: at + "machines/{id}/env", handler: e.controlEnv},
	}
	for i := range all {
		all[i].scope = scopeControl
	}
	return all
}

// done answers a control.
func (c *call) done(err error) reply {
	if err != nil {
		return c.fail(http.StatusBadRequest, "%v", err)
	}
	return c.nothing(http.StatusNoContent)
}

// order reads what a control is told, and does it.
func order[T any](c *call, do func(T) error) reply {
	var v T
	if err := json.Unmarshal(c.body, &v); err != nil {
		return c.done(err)
	}
	return c.done(do(v))
}

func (e *Emulator) controlNow(c *call) reply {
	return c.ok(map[string]any{"now": e.now().Format(time.RFC3339Nano)})
}

func (e *Emulator) controlAdvance(c *call) reply {
	return order(c, func(v struct {
		By Duration `json:"by"`
	},
	) error {
		if v.By < 0 {
			return fmt.Errorf("time does not go back")
		}
		e.advance(time.Duration(v.By))
		return nil
	})
}

func (e *Emulator) controlSave(c *call) reply {
	var b bytes.Buffer
	if err := e.save(&b); err != nil {
		return c.fail(http.StatusInternalServerError, "%v", err)
	}
	return reply{status: http.StatusOK, raw: b.Bytes(), contentType: "application/json; charset=utf-8"}
}

func (e *Emulator) controlLoad(c *call) reply { return c.done(e.load(bytes.NewReader(c.body))) }

func (e *Emulator) controlRequests(c *call) reply {
	all := append([]Request{}, e.requests...)
	return c.ok(all)
}

func (e *Emulator) controlFault(c *call) reply {
	var f Fault
	if err := json.Unmarshal(c.body, &f); err != nil {
		return c.done(err)
	}
	one, err := e.addFault(f)
	if err != nil {
		return c.done(err)
	}
	return c.reply(http.StatusCreated, one)
}

func (e *Emulator) controlMend(c *call) reply {
	id, err := strconv.Atoi(c.values["id"])
	if err == nil {
		e.mend(id)
	}
	return c.done(err)
}

func (e *Emulator) controlLag(c *call) reply {
	return order(c, func(v struct {
		Replica Duration `json:"replica"`
		Listing Duration `json:"listing"`
	},
	) error {
		e.setLag(Lag{Replica: time.Duration(v.Replica), Listing: time.Duration(v.Listing)})
		return nil
	})
}

func (e *Emulator) controlDrift(c *call) reply {
	var v Drift
	if err := json.Unmarshal(c.body, &v); err != nil {
		return c.done(err)
	}
	rep := e.drift(c.r.Context(), v)
	rep.header = nil
	return rep
}

func (e *Emulator) controlHost(c *call) reply {
	return order(c, func(v struct {
		Host    string `json:"host"` // or the one of a machine or volume
		App     string `json:"app"`
		Machine string `json:"machine"`
		Volume  string `json:"volume"`
		Status  string `json:"status"` // empty: as it is
		Full    *bool  `json:"full"`
	},
	) error {
		if v.Host == "" {
			var err error
			if v.Host, err = e.hostOf(v.App, v.Machine, v.Volume); err != nil {
				return err
			}
		}
		return e.setHost(v.Host, v.Status, v.Full)
	})
}

func (e *Emulator) controlRegion(c *call) reply {
	return order(c, func(v struct {
		Region string `json:"region"`
		Room   *int   `json:"room"` // for so many more machines; negative: no end
		Silent *bool  `json:"silent"`
	},
	) error {
		return e.setRegion(v.Region, v.Room, v.Silent)
	})
}

func (e *Emulator) controlMigrate(c *call) reply {
	return order(c, func(v struct{ App, Machine string }) error { return e.migrate(v.App, v.Machine) })
}

func (e *Emulator) controlProgram(c *call) reply { return order(c, e.addProgram) }

func (e *Emulator) controlImage(c *call) reply {
	return order(c, func(v struct{ Image, Digest string }) error {
		e.state.Digests[v.Image] = v.Digest
		return nil
	})
}

func (e *Emulator) controlProxy(c *call) reply {
	return order(c, func(v struct {
		On bool `json:"on"`
	},
	) error {
		e.setProxy(v.On)
		return nil
	})
}

func (e *Emulator) controlToken(c *call) reply {
	return order(c, func(t Token) error {
		e.addToken(t)
		return nil
	})
}

func (e *Emulator) controlRevoke(c *call) reply {
	return order(c, func(v struct{ Value string }) error {
		e.revoke(v.Value)
		return nil
	})
}

func (e *Emulator) controlEnv(c *call) reply {
	for _, a := range e.state.Apps {
		if m := a.Machines[c.values["id"]]; m != nil {
			return c.ok(map[string]any{"env": m.Env, "secrets_version": m.SecretsVersion})
		}
	}
	return c.fail(http.StatusNotFound, "machine not found")
}
