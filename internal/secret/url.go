package secret

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Fields of a URL that Field takes out.
const (
	fieldUser     = "user"
	fieldPassword = "password"
	fieldHost     = "host"
	fieldPort     = "port"
	fieldPath     = "path"
)

// Field takes one part out of a secret that is a URL, with the escaping of
// URLs undone: user, password, host (in brackets if it is an IPv6 address),
// port (of the scheme if the URL has none) or path (without its first slash).
// Its errors go on from the name of the source.
func Field(v Value, field string) (Value, error) {
	u, err := url.Parse(string(v.Reveal()))
	if err != nil || u.Scheme == "" || u.Host == "" {
		return Value{}, errors.New("is not a URL with a scheme and a host") // the parser's error would quote it
	}
	var part string
	switch field {
	case fieldUser:
		part = u.User.Username()
	case fieldPassword:
		part, _ = u.User.Password()
	case fieldHost:
		if part = u.Hostname(); strings.Contains(part, ":") {
			part = "[" + part + "]"
		}
	case fieldPort:
		if part = u.Port(); part == "" {
			part = defaultPort(u.Scheme)
		}
	case fieldPath:
		part = strings.TrimPrefix(u.Path, "/")
	default:
		return Value{}, fmt.Errorf("has no part called %q: want user, password, host, port or path", field)
	}
	if part == "" {
		return Value{}, fmt.Errorf("is a URL without %s", field)
	}
	return New([]byte(part)), nil
}

func defaultPort(scheme string) string {
	switch scheme {
	case "postgres", "postgresql":
		return "5432"
	case "redis", "rediss":
		return "6379"
	case "http":
		return "80"
	case "https":
		return "443"
	}
	return ""
}
