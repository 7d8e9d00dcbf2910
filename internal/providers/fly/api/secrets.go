package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	"forged.dev/forged/internal/secret"
)

// AppSecret is what Fly tells of a secret: never the value.
type AppSecret struct {
	Name      string `json:"name"`
	Digest    string `json:"digest"` // of a kind that Fly does not tell
	CreatedAt Time   `json:"created_at"`
	UpdatedAt Time   `json:"updated_at"`
}

// SecretsWritten is what Fly answers to a write.
type SecretsWritten struct {
	Secrets []AppSecret // all of the app, or those written
	Version uint64      // of the app's secrets: it grows with each write
}

// UnmarshalJSON implements json.Unmarshaler: older answers spell it "Version",
// some hold both.
func (w *SecretsWritten) UnmarshalJSON(b []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return err
	}
	*w = SecretsWritten{}
	if list, ok := fields["secrets"]; ok {
		if err := json.Unmarshal(list, &w.Secrets); err != nil {
			return err
		}
	}
	for _, key := range []string{"Version", "version"} {
		var version uint64
		if v, ok := fields[key]; ok && json.Unmarshal(v, &version) == nil {
			w.Version = max(w.Version, version)
		}
	}
	return nil
}

// Secrets are the secrets of an app, in a state that has seen a version; 0:
// whatever Fly knows where it is asked. NotYet: it has not seen it.
func (c *Client) Secrets(ctx context.Context, app string, minVersion uint64) ([]AppSecret, error) {
	query := url.Values{}
	if minVersion > 0 {
		query.Set("min_version", strconv.FormatUint(minVersion, 10)) // the OpenAPI document
		query.Set("version", strconv.FormatUint(minVersion, 10))     // flyctl's source
	}
	list, err := get[struct {
		Secrets []AppSecret `json:"secrets"`
	}](ctx, c, request{action: "secret.list", ident: app, app: app, path: appPath(app, "secrets"), query: query})
	return list.Secrets, err
}

// SetSecrets writes and (nil) deletes secrets of an app, all or none.
func (c *Client) SetSecrets(ctx context.Context, app string, values map[string]*secret.Value) (SecretsWritten, error) {
	body := struct {
		Values map[string]*string `json:"values"`
	}{make(map[string]*string, len(values))}
	var hide []string
	for name, value := range values {
		if value == nil {
			body.Values[name] = nil
			continue
		}
		text := string(value.Reveal())
		body.Values[name] = &text
		hide = append(hide, text)
	}
	return send[SecretsWritten](ctx, c, request{
		action: "secret.set", ident: app, app: app, method: http.MethodPost, path: appPath(app, "secrets"),
		body: body, repeat: true, hide: hide,
	})
}
