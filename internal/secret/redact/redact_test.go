package redact_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"forged.dev/forged/internal/secret"
	"forged.dev/forged/internal/secret/redact"
)

const (
	password = "pa ss/w+rd=%&\"x"
	token    = "c4n4ryTokenOfSomeLength"
)

func TestKnownValuesAreTakenOut(t *testing.T) {
	t.Parallel()
	var values []secret.Value
	for _, v := range []string{
		password, token + "\n", "xy", "-----BEGIN KEY-----\nfirst-line-of-it\nsecond-line-of-it\n-----END KEY-----\n",
		"postgres://app:" + url.PathEscape("n0t th1s") + "@db/app", `{"auths":{"ghcr.io":{"password":"registryPass","auth":"cmVnaXN0cnk6UGFzcw=="}}}`,
	} {
		values = append(values, secret.New([]byte(v)))
	}
	r := redact.New(values)
	for _, tt := range []struct{ text, secret string }{
		{"plain " + password, "w+rd"},
		{"query ?p=" + url.QueryEscape(password) + "&x", url.QueryEscape(password)},
		{"path " + url.PathEscape(password), url.PathEscape(password)},
		{fmt.Sprintf("quoted %q", password), `w+rd`},
		{"hex " + hex.EncodeToString([]byte(token)), hex.EncodeToString([]byte(token))},
		{"within:" + token + ":others", token},
		{"short xy alone", "xy"},
		{"key: second-line-of-it", "second-line"},
		{"dsn password=n0t th1s host=db", "n0t th1s"},
		{"pull with registryPass", "registryPass"},
	} {
		got := r.Text(tt.text)
		if strings.Contains(got, tt.secret) || !strings.Contains(got, redact.Mark) {
			t.Errorf("%q became %q", tt.text, got)
		}
	}
	// A secret inside of something that is encoded as a whole.
	for _, before := range []string{"", "u", "us", "usr:"} {
		text := base64.StdEncoding.EncodeToString([]byte(before + token + "tail"))
		got := r.Text("authorization " + text)
		for shift := range 3 {
			raw, _ := base64.StdEncoding.DecodeString(got[len("authorization "):])
			if strings.Contains(string(raw), token[2:len(token)-2]) {
				t.Errorf("after %q and %d: %q", before, shift, got)
			}
		}
		if !strings.Contains(got, redact.Mark) {
			t.Errorf("after %q: %q", before, got)
		}
	}
	// What is no secret stays readable.
	for _, text := range []string{"proxy galaxy", "Traceback (most recent call last):", `  File "/app/main.py", line 12, in <module>`, "alembic.util.exc.CommandError: Can't locate revision"} {
		if got := r.Text(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestValuesThatOverlap(t *testing.T) {
	t.Parallel()
	r := redact.New([]secret.Value{secret.New([]byte("abcdef")), secret.New([]byte("defghi"))})
	if got := r.Text("<abcdefghi>"); got != "<"+redact.Mark+">" {
		t.Error(got)
	}
}

func TestWhatLooksLikeASecretIsTakenOut(t *testing.T) {
	t.Parallel()
	var r redact.Redactor
	for _, tt := range []struct{ text, secret, stays string }{
		{"connect to postgres://app:hunter2hunter2@db/app failed", "hunter2", "failed"},
		{"GITHUB_TOKEN=ghp_abcdefghijklmnopqrstuvwxyz0123456789 was refused", "ghp_", "refused"},
		{"Authorization: Bearer Zm9yZ2VkIGlzIGEgdG9vbA91k2", "Zm9yZ2VkIGlz", ""},
	} {
		got := r.Text("before\n" + tt.text)
		if strings.Contains(got, tt.secret) || !strings.Contains(got, tt.stays) || !strings.HasPrefix(got, "before\n") {
			t.Errorf("%q became %q", tt.text, got)
		}
	}
}

func FuzzKnownValueNeverAppears(f *testing.F) {
	f.Add("secret", "a secret in the text")
	f.Add("aa", "aaa aa")
	f.Add("abab", "ababab")
	f.Fuzz(func(t *testing.T, value, text string) {
		value = strings.TrimSpace(value)
		if len(value) < 4 || strings.Contains(redact.Mark, value) || strings.Contains(value, redact.Mark[:1]) || strings.Contains(value, "]") {
			return
		}
		got := redact.New([]secret.Value{secret.New([]byte(value))}).Text(text + value + text)
		// Marks may join with what stands around them, nothing else may.
		for _, part := range strings.Split(got, redact.Mark) {
			if strings.Contains(part, value) && !strings.Contains(part, "(a line with ") {
				t.Errorf("%q is in %q", value, got)
			}
		}
	})
}
