package fly_test

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"forged.dev/forged/sandbox/fly"
)

// What was made is there again after a restart on the same file.
func TestStateIsKept(t *testing.T) {
	config := fly.Config{State: filepath.Join(t.TempDir(), "fly.json"), Pace: 100}
	first, err := fly.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if status, body := ask(t, http.MethodPost, first.URL+"/v1/apps?wait=true", `{"name":"shop","org_slug":"acme"}`); status != http.StatusCreated {
		t.Fatalf("%d %s", status, body)
	}
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	second, err := fly.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := second.Stop(); err != nil {
			t.Error(err)
		}
	}()
	if status, body := ask(t, http.MethodGet, second.URL+"/v1/apps/shop", ""); status != http.StatusOK || !strings.Contains(body, `"slug":"acme"`) {
		t.Errorf("%d %s", status, body)
	}
}

func ask(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+fly.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}
