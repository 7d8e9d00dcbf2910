package schema_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/textproto"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// languageServer is the real cue lsp.
type languageServer struct {
	in  io.Writer
	out *textproto.Reader
	id  int
}

type message struct {
	Version string          `json:"jsonrpc"`
	ID      *int            `json:"id,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  any             `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
}

func (l *languageServer) send(t *testing.T, m message) {
	t.Helper()
	m.Version = "2.0"
	data, err := json.Marshal(m)
	if err == nil {
		_, err = fmt.Fprintf(l.in, "Content-Length: %d\r\n\r\n%s", len(data), data)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// ask sends a request and waits for its answer; what the server asks in
// between gets an empty one.
func (l *languageServer) ask(t *testing.T, method string, params any) string {
	t.Helper()
	l.id++
	id := l.id
	l.send(t, message{ID: &id, Method: method, Params: params})
	for {
		header, err := l.out.ReadMIMEHeader()
		if err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		n, err := strconv.Atoi(header.Get("Content-Length"))
		if err != nil {
			t.Fatal(err)
		}
		data := make([]byte, n)
		if _, err := io.ReadFull(l.out.R, data); err != nil {
			t.Fatal(err)
		}
		var m message
		if err := json.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		switch {
		case m.ID == nil:
		case m.Method != "":
			l.send(t, message{ID: m.ID, Result: json.RawMessage("null")})
		case *m.ID == id:
			return string(m.Result)
		}
	}
}

// The language server knows the keys of a forge, also below the names of
// environments, without network.
func TestLanguageServer(t *testing.T) {
	w := newWorkspace(t)
	text := "package forge\n\n" + string(whole(`environments: dev: {
	platform: kind: "minikube"
	networkPolicy: "none"
	services: postgres: storage: "2Gi"
}
`).Files[0].Data)
	w.forge(t, ".", text, "dev")

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, w.cue, "lsp")
	c.Dir, c.Env = w.dir, w.env()
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = c.Wait() // it was killed
	}()
	l := &languageServer{in: in, out: textproto.NewReader(bufio.NewReader(out))}

	root, file := "file://"+w.dir, "file://"+filepath.Join(w.dir, "forge.cue")
	l.ask(t, "initialize", map[string]any{
		"rootUri": root, "workspaceFolders": []any{map[string]string{"uri": root, "name": "forge"}}, "capabilities": map[string]any{},
	})
	l.send(t, message{Method: "initialized", Params: map[string]any{}})
	l.send(t, message{Method: "textDocument/didOpen", Params: map[string]any{
		"textDocument": map[string]any{"uri": file, "languageId": "cue", "version": 1, "text": text},
	}})
	for _, tt := range []struct{ at, hover, completes string }{
		{"environments", "deployments of the app", "notifications"},
		{"name", "names of its objects", "configFiles"},
		{"kind", "Kind of platform", "createNamespace"},
		{"networkPolicy", "Who may talk", "workers"},
		{"storage", "Size of its volume", "storageClass"},
	} {
		before, _, _ := strings.Cut(text, tt.at+":")
		where := map[string]any{
			"textDocument": map[string]string{"uri": file},
			"position":     map[string]int{"line": strings.Count(before, "\n"), "character": len(before) - strings.LastIndex(before, "\n")},
		}
		if got := l.ask(t, "textDocument/hover", where); !strings.Contains(got, tt.hover) {
			t.Errorf("%s: it shows %s", tt.at, got)
		}
		if got := l.ask(t, "textDocument/completion", where); !strings.Contains(got, `"`+tt.completes+`"`) {
			t.Errorf("%s: it completes %s", tt.at, got)
		}
	}
}
