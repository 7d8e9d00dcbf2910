package external

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/secret"
)

// Told is the answer that a pod leaves behind. It holds no secret.
type Told struct {
	Code    string    `json:"code,omitempty"` // of what is wrong; empty: nothing is
	Text    string    `json:"text,omitempty"`
	Hint    string    `json:"hint,omitempty"`
	Notices []remark  `json:"notices,omitempty"`
	Expires time.Time `json:"expires,omitzero"` // of the first certificate that ends
}

type remark struct {
	Object  string `json:"object,omitempty"`
	Message string `json:"message"`
}

// mostTold is how long an answer may be: Kubernetes keeps no more.
const mostTold = 4096

// String is the answer for who reads the log of the pod.
func (t Told) String() string {
	if t.Code == "" {
		return "it answers, and lets the app in"
	}
	return (&trouble{text: t.Text, hint: t.Hint}).Error()
}

// JSON is the answer as it is left behind.
func (t Told) JSON() ([]byte, error) {
	raw, err := json.Marshal(t)
	if len(raw) > mostTold {
		t.Notices = nil
		raw, err = json.Marshal(t)
	}
	return raw, err
}

func told(a answer) Told {
	t := Told{Expires: a.expires}
	if a.trouble != nil {
		t.Code, t.Text, t.Hint = string(a.trouble.code), a.trouble.text, a.trouble.hint
	}
	for _, n := range a.notices {
		t.Notices = append(t.Notices, remark{n.Object, n.Message})
	}
	return t
}

func (t Told) answer() answer {
	a := answer{expires: t.Expires}
	if t.Code != "" {
		a.trouble = &trouble{code: code(t.Code), text: printable(t.Text), hint: printable(t.Hint)}
	}
	for _, n := range t.Notices {
		a.notices = append(a.notices, notice(noticeReadOnly, printable(n.Object), printable(n.Message)))
	}
	return a
}

// Probe asks a service once, from where this process is. What it takes to log
// in is in files of a directory, under the keys of forge.ProbeSpec; empty: it
// takes nothing.
func Probe(ctx context.Context, spec forge.ProbeSpec, dir string) (Told, error) {
	q := question{
		service: spec.Service, pod: true, limit: usualPace().limit, sslMode: spec.SSLMode,
		address: spec.Address, namespace: spec.TemporalNamespace, encrypted: spec.TLS,
	}
	for key, v := range map[string]*secret.Value{
		forge.ProbeURL: &q.url, forge.ProbeCABundle: &q.bundle, forge.ProbeAPIKey: &q.apiKey,
		forge.ProbeClientCert: &q.cert, forge.ProbeClientKey: &q.certKey,
	} {
		if dir == "" {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, key))
		switch {
		case err == nil:
			*v = secret.New(raw)
		case !errors.Is(err, fs.ErrNotExist):
			return Told{}, fmt.Errorf("read what it takes to log in: %w", err)
		}
	}
	ask := q.ask()
	if ask == nil {
		return Told{}, fmt.Errorf("there is no check of %q; there are of postgres, redis and temporal", spec.Service)
	}
	ctx, cancel := context.WithTimeout(ctx, q.limit)
	defer cancel()
	a := ask(ctx)
	return told(a), nil
}
