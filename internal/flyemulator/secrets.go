package flyemulator

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// secrets are those of an app. Each write makes a version; machines see it a
// moment later.
type secrets struct {
	Version int
	Values  map[string]secret
	Earlier []secretsVersion `json:",omitempty"` // oldest first
}

type secret struct {
	Value   string
	Digest  string
	Created time.Time
	Updated time.Time
}

// secretsVersion is what was there before a write.
type secretsVersion struct {
	Version int
	Until   time.Time // of the write
	Values  map[string]string
}

// secretsHeld is how long a reader is held up who names a version that is not
// there yet.
const secretsHeld = 5 * time.Second

// secretName is what the real service takes: measured by users of the API.
var secretName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// values are the values by name.
func (s *secrets) values() map[string]string {
	all := make(map[string]string, len(s.Values))
	for name, v := range s.Values {
		all[name] = v.Value
	}
	return all
}

// writeSecrets sets values and takes away those that are nil; with all, also
// those that are not named. Nothing happens to machines that run.
func (e *Emulator) writeSecrets(a *app, values map[string]*string, all bool) *failure {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !secretName.MatchString(name) {
			return invalid("secret name %q may have letters, digits and underscores only, and must not begin with a digit", name)
		}
	}
	s, now := &a.Secrets, e.now()
	s.Earlier = slices.DeleteFunc(s.Earlier, func(v secretsVersion) bool { return !v.Until.Add(e.o.Times.SecretsSeen).After(now) })
	s.Earlier = append(s.Earlier, secretsVersion{Version: s.Version, Until: now, Values: s.values()})
	if all {
		maps.DeleteFunc(s.Values, func(name string, _ secret) bool { return values[name] == nil })
	}
	if s.Values == nil {
		s.Values = map[string]secret{}
	}
	for name, value := range values {
		if value == nil {
			delete(s.Values, name)
			continue
		}
		was, digest := s.Values[name], e.secretDigest(a, name, *value)
		if was.Digest == digest {
			continue // it keeps digest and time
		}
		if was.Digest == "" {
			was.Created = now
		}
		s.Values[name] = secret{Value: *value, Digest: digest, Created: was.Created, Updated: now}
	}
	s.Version++
	e.after(e.o.Times.SecretsSeen, event{Kind: "secrets.seen", App: a.Name})
	return nil
}

// secretDigest is of no algorithm that anybody could know: who wants to
// compare has to keep what a write returned. Nobody has measured whether the
// same value has the same digest elsewhere; here it has not.
func (e *Emulator) secretDigest(a *app, name, value string) string {
	mac := hmac.New(sha256.New, fmt.Appendf(nil, "salt %d %d", e.state.Seed, a.Number))
	mac.Write([]byte(name + "\x00" + value))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// seenSecrets are the values that a machine of the app that starts at a time
// gets, and their version: writes are seen Times.SecretsSeen after they were
// made.
func (e *Emulator) seenSecrets(a *app, at time.Time) (values map[string]string, version int) {
	for _, v := range a.Secrets.Earlier {
		if v.Until.Add(e.o.Times.SecretsSeen).After(at) {
			return maps.Clone(v.Values), v.Version
		}
	}
	return a.Secrets.values(), a.Secrets.Version
}

func (e *Emulator) secretEvents() map[string]func(event) {
	return map[string]func(event){"secrets.seen": func(event) {}} // who waits for a version looks again
}

func (e *Emulator) secretRoutes() []route {
	const all, one = "/v1/apps/{app}/secrets", "/v1/apps/{app}/secrets/{secret}"
	return []route{
		{method: http.MethodGet, pattern: all, action: "secrets.list", scope: scopeApp, handler: (*call).listSecrets},
		{method: http.MethodPost, pattern: all, action: "secrets.update", scope: scopeApp, handler: (*call).updateSecrets},
		{method: http.MethodGet, pattern: one, action: "secrets.get", scope: scopeApp, handler: (*call).getSecret},
		{method: http.MethodPost, pattern: one, action: "secrets.create", scope: scopeApp, handler: (*call).setSecret},
		{method: http.MethodDelete, pattern: one, action: "secrets.delete", scope: scopeApp, handler: (*call).deleteSecret},
	}
}

// secretView is a secret as the API shows it: never its value, whatever
// show_secrets says; that takes rights that tokens do not have.
type secretView struct {
	Name    string    `json:"name"`
	Digest  string    `json:"digest"`
	Created time.Time `json:"created_at"`
	Updated time.Time `json:"updated_at"`
}

// versionView is the version in both spellings that the API has.
type versionView struct {
	Version int `json:"version"`
	Old     int `json:"Version"` //nolint:tagliatelle // the older spelling
}

// view is the secrets as the API shows them, by name.
func (s *secrets) view() []secretView {
	out := []secretView{}
	for _, name := range slices.Sorted(maps.Keys(s.Values)) {
		v := s.Values[name]
		out = append(out, secretView{name, v.Digest, v.Created, v.Updated})
	}
	return out
}

// heldUp waits for the version that a reader wants to see at least.
func (c *call) heldUp() *failure {
	text := cmp.Or(c.query("min_version"), c.query("version"))
	if text == "" {
		return nil
	}
	least, err := strconv.Atoi(text)
	if err != nil {
		return refuse(http.StatusBadRequest, "min_version is no number")
	}
	name := c.app.Name
	there := func() bool {
		a := c.e.state.Apps[name]
		return a == nil || a.Secrets.Version >= least
	}
	if !c.e.await(c, c.e.now().Add(secretsHeld), there) {
		return refuse(http.StatusPreconditionFailed, "min_secrets_version %d is not yet available", least)
	}
	a := c.e.state.Apps[name]
	if a == nil {
		return missing("app not found")
	}
	c.app = a
	return nil
}

func (c *call) listSecrets() reply {
	if f := c.heldUp(); f != nil {
		return c.failed(f)
	}
	return c.ok(map[string]any{"secrets": c.app.Secrets.view()})
}

func (c *call) getSecret() reply {
	if f := c.heldUp(); f != nil {
		return c.failed(f)
	}
	name := c.values["secret"]
	v, ok := c.app.Secrets.Values[name]
	if !ok {
		return c.failed(missing("secret %s not found", name))
	}
	return c.ok(secretView{name, v.Digest, v.Created, v.Updated})
}

func (c *call) updateSecrets() reply {
	var in struct {
		Values map[string]*string `json:"values"`
	}
	if f := c.decode(&in); f != nil {
		return c.failed(f)
	}
	if len(in.Values) == 0 {
		return c.fail(http.StatusBadRequest, "values is required")
	}
	if f := c.e.writeSecrets(c.app, in.Values, false); f != nil {
		return c.failed(f)
	}
	v := c.app.Secrets.Version
	return c.ok(struct {
		Secrets []secretView `json:"secrets"`
		versionView
	}{c.app.Secrets.view(), versionView{v, v}})
}

func (c *call) setSecret() reply {
	var in struct {
		Value *string `json:"value"`
	}
	if f := c.decode(&in); f != nil {
		return c.failed(f)
	}
	if in.Value == nil {
		return c.fail(http.StatusBadRequest, "value is required")
	}
	name := c.values["secret"]
	if f := c.e.writeSecrets(c.app, map[string]*string{name: in.Value}, false); f != nil {
		return c.failed(f)
	}
	s, v := c.app.Secrets.Values[name], c.app.Secrets.Version
	return c.reply(http.StatusCreated, struct {
		secretView
		versionView
	}{secretView{name, s.Digest, s.Created, s.Updated}, versionView{v, v}})
}

func (c *call) deleteSecret() reply {
	name := c.values["secret"]
	if _, ok := c.app.Secrets.Values[name]; !ok {
		return c.failed(missing("secret %s not found", name))
	}
	if f := c.e.writeSecrets(c.app, map[string]*string{name: nil}, false); f != nil {
		return c.failed(f)
	}
	return c.ok(versionView{c.app.Secrets.Version, c.app.Secrets.Version})
}
