package flyemulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
)

// inner has the Machines API answer a request of the emulator's own, for the
// APIs that show the same things in another way. Rights were looked at before.
func (c *call) inner(method, path string, body any) reply {
	var raw []byte
	if body != nil {
		raw, _ = json.Marshal(body) // plain data
	}
	r, err := http.NewRequestWithContext(c.r.Context(), method, "http://inner"+path, bytes.NewReader(raw))
	if err != nil {
		return c.fail(http.StatusBadRequest, "%v", err)
	}
	in := c.e.newCall(r, raw)
	in.all, in.tokens = true, c.tokens
	if in.route == nil {
		return in.notRouted()
	}
	if f := in.authorize(); f != nil {
		return in.failed(f)
	}
	rep := in.route.handler(in)
	if method != http.MethodGet {
		c.e.remember(in.appName())
	}
	return rep
}

// read is inner for what only reads; it fills v.
func (c *call) read(path string, v any) error {
	rep := c.inner(http.MethodGet, path, nil)
	raw, _ := rep.bytes()
	if rep.status != http.StatusOK {
		return fmt.Errorf("read %s: %d %s", path, rep.status, raw)
	}
	return json.Unmarshal(raw, v)
}
