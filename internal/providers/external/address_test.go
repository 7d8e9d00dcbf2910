package external

import (
	"strings"
	"testing"

	"forged.dev/forged/internal/secret"
)

func TestParseAddress(t *testing.T) {
	for _, tt := range []struct{ url, want string }{
		{"postgresql://app:s3cret@db.example:6543/shop", "db.example:6543 app s3cret shop"},
		{"postgres://app:s3cret@db.example/shop", "db.example:5432 app s3cret shop"},
		{"postgres://app@db.example/shop", "db.example:5432 app  shop"},
		{"postgresql://app:s%2F%3F%23%40%25@[::1]/shop?sslmode=disable", "[::1]:5432 app s/?#@% shop"},
	} {
		a, err := parseAddress(secret.New([]byte(tt.url)), postgresSchemes())
		if err != nil {
			t.Errorf("%s: %v", tt.url, err)
			continue
		}
		if got := a.server() + " " + a.user + " " + string(a.password.Reveal()) + " " + a.path; got != tt.want {
			t.Errorf("%s: %s, want %s", tt.url, got, tt.want)
		}
	}
	if a, err := parseAddress(secret.New([]byte("rediss://:pw@cache")), redisSchemes()); err != nil || a.server() != "cache:6379" {
		t.Errorf("redis: %v %v", a.server(), err)
	}
}

// A password with characters that mean something in a URL moves its end into
// host, port, database or question: none of them may be shown then.
func TestPasswordsThatWereNotEscapedAreNotShown(t *testing.T) {
	for _, url := range []string{
		"postgres://app:c4n#ry77@db.example/shop", "postgres://app:12#ry77@db.example/shop",
		"postgres://app:12?ry77@db.example/shop", "postgres://app:12/ry77@db.example/shop",
		"postgres://app:c4n@ry77@db.example/shop", "postgres://app:c4n%ry77@db.example/shop",
		"postgres://app:c4n/ry77@db.example/shop", "postgres://app:c4nry77@db.example:port/shop",
		"postgres://app:c4n ry77@db.example/shop", "postgres://app:c4nry77@/shop", "postgres://app:c4nry77@db.example:99999/shop",
		"postgres://app:c4nry77@one,two/shop", "http://app:c4nry77@db.example/shop", "host=db password=c4nry77", "", "\x00c4nry77",
		"postgres://app:12/ry77", "postgres://12#ry77",
	} {
		_, err := parseAddress(secret.New([]byte(url)), postgresSchemes())
		if strings.HasSuffix(url, "12/ry77") {
			continue // a host called app, whatever was meant
		}
		if err == nil {
			t.Errorf("%q is taken", url)
			continue
		}
		for _, part := range []string{"c4n", "ry77", "12", "db.example"} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("%q: %v", url, err)
			}
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add("app", "s/?#@%cret", "db")
	f.Fuzz(func(t *testing.T, user, password, host string) {
		if len(password) < 4 || strings.Contains(host+user, password) || strings.Contains(errUnescaped.Error(), password) {
			return
		}
		a, err := parseAddress(secret.New([]byte("postgres://"+user+":"+password+"@"+host+"/shop")), postgresSchemes())
		if err != nil && len(password) > 8 && strings.Contains(err.Error(), password) {
			t.Errorf("the error holds the password: %v", err)
		}
		if err == nil && strings.Contains(a.server(), password) {
			t.Errorf("the server is %s", a.server())
		}
	})
}
