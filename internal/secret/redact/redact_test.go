package redact_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"strconv"
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

// Programs print a value in forms of their own: none of them is let through, and
// no piece of one is left.
func TestEveryFormOfAValue(t *testing.T) {
	t.Parallel()
	const value = "q<9&w>/é+8 𝄞'Z"
	encoded, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.NewReplacer(`\u003c`, "<", `\u0026`, "&", `\u003e`, ">").Replace(string(encoded))
	r := redact.New([]secret.Value{secret.New([]byte(value))})
	for name, text := range map[string]string{
		"JSON for HTML":        strings.Trim(string(encoded), `"`),
		"JSON":                 strings.Trim(plain, `"`),
		"JSON of PHP":          strings.ReplaceAll(strings.Trim(plain, `"`), "/", `\/`),
		"JSON in ASCII":        `q<9&w>/\u00e9+8 \ud834\udd1e'Z`,
		"HTML":                 html.EscapeString(value),
		"Go":                   strings.Trim(strconv.Quote(value), `"`),
		"Go in ASCII":          strings.Trim(strconv.QuoteToASCII(value), `"`),
		"base64":               base64.StdEncoding.EncodeToString([]byte(value)),
		"base64 of a line":     base64.StdEncoding.EncodeToString([]byte(value + "\n")),
		"base64, raw":          base64.RawStdEncoding.EncodeToString([]byte(value)),
		"base64 for URLs":      base64.URLEncoding.EncodeToString([]byte(value)),
		"base64 for URLs, raw": base64.RawURLEncoding.EncodeToString([]byte(value)),
		"hex":                  hex.EncodeToString([]byte(value)),
		"HEX":                  strings.ToUpper(hex.EncodeToString([]byte(value))),
		"query":                url.QueryEscape(value),
		"path":                 url.PathEscape(value),
		"component":            strings.ReplaceAll(url.QueryEscape(value), "+", "%20"),
		"query in lower case":  strings.NewReplacer("%3C", "%3c", "%3E", "%3e", "%2F", "%2f", "%C3%A9", "%c3%a9", "%2B", "%2b", "%F0%9D%84%9E", "%f0%9d%84%9e").Replace(url.QueryEscape(value)),
	} {
		got := r.Text("before " + text + " after")
		if left := strings.Trim(strings.NewReplacer("before ", "", " after", "", redact.Mark, "").Replace(got), "="); left != "" {
			t.Errorf("%s: %s is left of %s", name, left, text)
		}
	}
	// Short ones too.
	r = redact.New([]secret.Value{secret.New([]byte("<&>9"))})
	for _, text := range []string{`\u003c\u0026\u003e9`, base64.URLEncoding.EncodeToString([]byte("<&>9")), base64.StdEncoding.EncodeToString([]byte("<&>9\n"))} {
		if got := r.Text("x " + text + " y"); strings.Contains(got, text) {
			t.Error(got)
		}
	}
}

// A log of a pod is looked through while people wait.
func BenchmarkText(b *testing.B) {
	var values []secret.Value
	for i := range 50 {
		values = append(values, secret.New(fmt.Appendf(nil, "%s/%d+<secret>", token, i)))
	}
	r := redact.New(values)
	text := strings.Repeat("2026-11-23T11:00:00Z INFO request handled path=/orders/17 status=200 took=3ms\n", 100)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		r.Text(text)
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
