package flyemulator

import (
	"net/http"
	"slices"
	"time"
)

func (e *Emulator) tokenRoutes() []route {
	return []route{
		{method: "GET", pattern: "/v1/tokens/current", action: "tokens.current", handler: e.currentToken},
		{method: "POST", pattern: "/v1/apps/{app}/deploy_token", action: "apps.deploy_token", scope: scopeApp, handler: e.createDeployToken},
	}
}

// newToken makes a token; its value is made up.
func (e *Emulator) newToken(t Token) *Token {
	t.ID = e.newID("token", 16)
	if t.Value == "" {
		t.Value = "fm2_" + e.newHex("token", 48)
	}
	e.state.Tokens = append(e.state.Tokens, &t)
	return &t
}

// currentToken says what the request's tokens reach.
func (e *Emulator) currentToken(c *call) reply {
	out := []map[string]any{}
	for _, t := range c.tokens {
		o := e.state.Orgs[t.Org]
		if t.Kind == AppToken {
			if a := e.state.Apps[t.App]; a != nil {
				o = e.state.Orgs[a.Org]
			}
		}
		b := map[string]any{"token_id": t.ID, "org_slug": "", "organization": "", "apps": []string{}, "user": t.owner()}
		if o != nil {
			b["org_slug"], b["organization"] = o.Slug, o.Name
		}
		if t.Kind == AppToken {
			b["apps"] = []string{t.App}
		}
		out = append(out, b)
	}
	return c.ok(map[string]any{"tokens": out})
}

// defaultExpiry is twenty years.
const defaultExpiry = 175200 * time.Hour

func (e *Emulator) createDeployToken(c *call) reply {
	var r struct {
		Expiry string `json:"expiry"`
	}
	if f := c.decodeMaybe(&r); f != nil {
		return c.failed(f)
	}
	d := defaultExpiry
	if r.Expiry != "" {
		var err error
		if d, err = time.ParseDuration(r.Expiry); err != nil || d <= 0 {
			return c.fail(http.StatusBadRequest, "invalid expiry %q", r.Expiry)
		}
	}
	t := e.newToken(Token{Kind: AppToken, Org: c.app.Org, App: c.app.Name, Profile: "deploy", Expires: e.now().Add(d)})
	return c.ok(map[string]any{"token": "FlyV1 " + t.Value})
}

// Revoke makes a token void.
func (e *Emulator) Revoke(value string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.revoke(value)
}

func (e *Emulator) revoke(value string) {
	for _, t := range e.state.Tokens {
		if t.Value == value {
			t.Revoked = true
		}
	}
}

// AddToken makes a token valid, also one that was revoked.
func (e *Emulator) AddToken(t Token) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.addToken(t)
}

func (e *Emulator) addToken(t Token) {
	e.state.Tokens = slices.DeleteFunc(e.state.Tokens, func(o *Token) bool { return o.Value == t.Value })
	e.newToken(t)
}
