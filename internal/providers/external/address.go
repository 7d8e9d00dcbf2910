package external

import (
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"

	"forged.dev/forged/internal/secret"
)

// address is what a URL says of a service and of who logs in to it.
type address struct {
	scheme   string
	host     string
	port     string
	user     string
	password secret.Value
	path     string // without its first slash: a database
}

// server is host and port, for people and to dial.
func (a address) server() string { return net.JoinHostPort(a.host, a.port) }

// errUnescaped is about a password with characters that end it too early. What
// stands before or behind them must not be shown: it is a part of the password.
var errUnescaped = errors.New(`holds a character that has a meaning in URLs; write %2F for /, %3F for ?, %23 for # and %40 for @ in its password`)

// parseAddress reads a URL. Its errors go on from the name of the source, and
// quote nothing of it.
func parseAddress(v secret.Value, schemes map[string]string) (address, error) {
	text := string(v.Reveal())
	scheme, rest, ok := strings.Cut(text, "://")
	port, known := schemes[scheme]
	if !ok || !known {
		return address{}, errors.New("is not a URL that begins with " + orList(schemes))
	}
	// A slash, a question mark or a number sign ends the authority. With an @
	// behind one of them, it stands in a password that was not escaped.
	authority := rest
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority = rest[:i]
		if strings.Contains(rest[i:], "@") {
			return address{}, errUnescaped
		}
	}
	if strings.Count(authority, "@") > 1 {
		return address{}, errUnescaped
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return address{}, errors.New("is not a URL that can be read; is its port a number, and every % in its password written as %25?")
	case u.Fragment != "":
		return address{}, errUnescaped
	case u.Hostname() == "":
		return address{}, errors.New("is a URL without a host")
	case strings.ContainsAny(u.Hostname(), ", /"):
		return address{}, errors.New("names more than one host; name one that leads to the server that takes writes")
	}
	a := address{scheme: scheme, host: u.Hostname(), port: u.Port(), user: u.User.Username(), path: strings.TrimPrefix(u.Path, "/")}
	if a.port == "" {
		a.port = port
	}
	if n, err := strconv.Atoi(a.port); err != nil || n < 1 || n > 65535 {
		return address{}, errors.New("has a port that is not between 1 and 65535")
	}
	if password, _ := u.User.Password(); password != "" {
		a.password = secret.New([]byte(password))
	}
	return a, nil
}

// Schemes, with the port of each.
func postgresSchemes() map[string]string {
	return map[string]string{"postgres": "5432", "postgresql": "5432"}
}

func redisSchemes() map[string]string {
	return map[string]string{"redis": "6379", "rediss": "6379"}
}

func orList(schemes map[string]string) string {
	switch {
	case schemes["redis"] != "":
		return "redis:// or rediss://"
	default:
		return "postgresql:// or postgres://"
	}
}
