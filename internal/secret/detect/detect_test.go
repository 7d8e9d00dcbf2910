package detect

import (
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// joined keeps what looks like a key out of this file: those who look for
// leaked ones need not stop here.
func joined(parts ...string) string { return strings.Join(parts, "") }

func TestLooks(t *testing.T) {
	const (
		r24 = "kX9bQ2mV7tLpZ4wNcR8sJ1hD"
		r40 = "kX9bQ2mV7tLpZ4wNcR8sJ1hDfG5yTaB6uE3iOoPq"
	)
	jwt := joined(base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)), ".", base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"1"}`)), ".", r40)
	for _, tt := range []struct{ value, want string }{
		{joined("AK", "IAQ3EGTW5ZPN7XKD2M"), "an AWS access key"},
		{joined("key=AS", "IAQ3EGTW5ZPN7XKD2M"), "an AWS access key"},
		{joined("gh", "p_", r40[:36]), "a GitHub token"},
		{joined("--token=gh", "p_", r40[:36]), "a GitHub token"},
		{joined(`{"token":"gh`, "s_", r40[:36], `"}`), "a GitHub token"},
		{joined("github", "_pat_", r40), "a GitHub token"},
		{joined("gl", "pat-", r40[:20]), "a GitLab token"},
		{joined("xo", "xb-1234567890-", r24), "a Slack token"},
		{joined("sk", "_live_", r24), "a Stripe key"},
		{joined("wh", "sec_", r40), "the signing secret of a webhook"},
		{joined("sk", "-ant-api03-", r40), "an Anthropic key"},
		{joined("sk", "-", r40), "an API key"},
		{joined("Fly", "V1 fm2_", r40), "a Fly.io token"},
		{joined("AGE-SECRET", "-KEY-1QQPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"), "an age key"},
		{"-----BEGIN RSA PRIVATE" + " KEY-----\nMIIE\n-----END RSA PRIVATE" + " KEY-----", "a private key"},
		{`{"private_key": "-----BEGIN PRIVATE` + ` KEY-----\nMIIE"}`, "a private key"},
		{base64.StdEncoding.EncodeToString([]byte("-----BEGIN EC PRIVATE" + " KEY-----\nMIIEMIIEMIIEMIIE\n")), "a private key"},
		{jwt, "a signed token (JWT)"},
		{joined("np", "m_", r40[:36]), "an npm token"},
		{joined("h", "f_", r40[:34]), "a Hugging Face token"},
		{joined("S", "G.", r24, ".", r40), "an API token"},
		{joined("hv", "s.", r24), "an API token"},
		{joined("AI", "za", r40[:35]), "a Google API key"},
		{"postgres://shop:hunter2@db.acme.dev:5432/shop", "an address with a password in it"},
		{"redis://:hunter2@cache:6379/0", "an address with a password in it"},
		{"https://a.example,amqp://u:hunter2@b", "an address with a password in it"},
		{"shop:hunter2@tcp(db:3306)/shop", "an address with a password in it"},
		{"host=db user=shop password=hunter2", "a setting that is a secret by its name"},
		{"--admin-password=hunter2", "a setting that is a secret by its name"},
		{"AccountName=shop;AccountKey=" + r40, "a setting that is a secret by its name"},
		{"Authorization: Bearer " + r24, "an HTTP credential"},
		{"Basic " + base64.StdEncoding.EncodeToString([]byte("shop:hunter2")), "an HTTP credential"},
		{joined("https://hooks.slack", ".com/services/T01234567/B01234567/", r24), "the address of a webhook, which is all one needs to post to it"},
		{r40, "a random text of 40 signs"},
		{"key-id:" + r40, "a random text of 40 signs"},
		{"Zm9yZ2VkK2Zvcitldm/yeW9uZQ9xK2Q3c1pL+w==", "a random text of 38 signs"},
		{"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "a random text of 64 hex digits"},
		{"k3j9x8q2w7e5r1t6y4u0i2o8p3a5", "a random text of 28 signs"},
	} {
		what, ok := Looks(tt.value)
		if what != tt.want || !ok {
			t.Errorf("the value meant as %q: got %q, %v", tt.want, what, ok)
		}
	}
}

func TestVariable(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		want        bool
	}{
		{"DB_PASSWORD", "hunter2", true},
		{"adminPassword", "hunter2", true},
		{"SESSION_SECRET", "change-me", true},
		{"STRIPE_API_KEY", "abcd1234", true},
		{"acme.dev/api-token", "abcd1234", true},
		{"DBPASS", "hunter2", true},
		{"COOKIE_KEY", "0123456789abcdef0123456789abcdef", true}, // 32 hex digits
		{"HASH_SALT", "9f86d081884c7d659a2feaa0c55ad015", true},

		{"DB_PASSWORD", "", false},
		{"DB_PASSWORD", "$(PGPASSWORD)", false},
		{"DB_PASSWORD", "${PGPASSWORD}", false},
		{"DB_PASSWORD", "{{ .password }}", false},
		{"DB_PASSWORD", "<from the vault>", false},
		{"DB_PASSWORD", "xxxxxxxx", false},
		{"DB_PASSWORD", "SHOP_DB_PASSWORD", false},
		{"tlsSecret", "shop.example-tls", false},
		{"DB_PASSWORD", "/run/secrets/db", false},
		{"DB_PASSWORD_FILE", "/run/secrets/db", false},
		{"PASSWORD_MIN_LENGTH", "12", false},
		{"REQUIRE_PASSWORD", "true", false},
		{"TOKEN_TTL", "3600s", false},
		{"TOKEN_URL", "https://idp.acme.dev/oauth/token", false},
		{"SECRET_NAME", "shop-db", false},
		{"BYPASS", "local-network", false},
		{"PARTITION_KEY", "customer", false},
		{"SORT_KEY", "created_at", false},
		{"IDEMPOTENCY_KEY_HEADER", "Idempotency-Key", false},
		{"JWT_PUBLIC_KEY", "kX9bQ2mV7tLpZ4wNcR8sJ1hDfG5yTaB6uE3iOoPq", false},
		{"RECAPTCHA_SITE_KEY", "kX9bQ2mV7tLpZ4wNcR8sJ1hDfG5yTaB6uE3iOoPq", false},
		{"ACCOUNT_ID", "9f86d081884c7d659a2feaa0c55ad015", false},
		{"CONFIG_SHA256", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", false},
		{"checksum/config", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", false},
	} {
		if what, ok := Variable(tt.name, tt.value); ok != tt.want {
			t.Errorf("%s: %v (%s), want %v", tt.name, ok, what, tt.want)
		}
	}
}

// What is ordinary in a configuration passes. The corpus is what one finds in
// the variables, arguments and annotations of deployments.
func TestOrdinaryValues(t *testing.T) {
	f, err := os.Open("testdata/ordinary.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, wrong := 0, 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "# ") {
			continue
		}
		n++
		name, value, ok := strings.Cut(line, "\t")
		if !ok {
			name, value = "", line
			if what, ok := Looks(value); ok {
				wrong++
				t.Errorf("%q is taken for %s", value, what)
			}
		}
		if what, ok := Variable(name, value); ok {
			wrong++
			t.Errorf("%s = %q is taken for %s", name, value, what)
		}
	}
	t.Logf("%d of %d ordinary values are taken for secrets", wrong, n)
	if n < 200 {
		t.Errorf("only %d values: not much of a corpus", n)
	}
}

// Of what programs make as keys, nearly all is found.
func TestRandomKeysAreFound(t *testing.T) {
	const rounds = 5000
	rng := rand.New(rand.NewPCG(1, 2))
	bytes := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	from := func(alphabet string, n int) string {
		b := bytes(n)
		for i := range b {
			b[i] = alphabet[rng.IntN(len(alphabet))]
		}
		return string(b)
	}
	const lower = "abcdefghijklmnopqrstuvwxyz0123456789"
	const alnum = lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	for _, kind := range []struct {
		name  string
		make  func() string
		least float64
	}{
		{"openssl rand -base64 24", func() string { return base64.StdEncoding.EncodeToString(bytes(24)) }, 0.92},
		{"openssl rand -base64 32", func() string { return base64.StdEncoding.EncodeToString(bytes(32)) }, 0.97},
		{"base64url of 48", func() string { return base64.RawURLEncoding.EncodeToString(bytes(48)) }, 0.97},
		{"openssl rand -hex 32", func() string { return hex.EncodeToString(bytes(32)) }, 0.999},
		{"20 letters and digits", func() string { return from(alnum, 20) }, 0.85},
		{"32 letters and digits", func() string { return from(alnum, 32) }, 0.95},
		{"40 letters and digits", func() string { return from(alnum, 40) }, 0.97},
		{"32 lower case letters and digits", func() string { return from(lower, 32) }, 0.85},
	} {
		found := 0
		for range rounds {
			if _, ok := Looks(kind.make()); ok {
				found++
			}
		}
		rate := float64(found) / rounds
		t.Logf("%s: %.1f %% found", kind.name, 100*rate)
		if rate < kind.least {
			t.Errorf("%s: %.3f found, want at least %.3f", kind.name, rate, kind.least)
		}
	}
}

func FuzzLooks(f *testing.F) {
	for _, s := range []string{"", "a", "://:@", "eyJ.", "-----BEGIN ", "x=:@=", "\xff\xfe", "Bearer ", "@tcp("} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		a, ok := Looks(value)
		if b, again := Looks(value); a != b || ok != again {
			t.Error("two answers to one question")
		}
		if (a != "") != ok {
			t.Errorf("%q, %v", a, ok)
		}
		if what, ok := Variable(name, value); (what != "") != ok {
			t.Errorf("%q, %v", what, ok)
		}
	})
}

func BenchmarkLooks(b *testing.B) {
	values := []string{"INFO", "https://idp.acme.dev/oauth/token", "10m", "registry.acme.dev/shop-api:2026.11.3", strings.Repeat("word ", 100)}
	b.ReportAllocs()
	for b.Loop() {
		for _, v := range values {
			Variable("LOG_LEVEL", v)
		}
	}
}
