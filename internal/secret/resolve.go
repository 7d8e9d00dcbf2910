package secret

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/secret/sops"
)

// maxSize is the most a secret may have, in bytes.
const maxSize = 1 << 20

// Resolver turns references into values. Variables and files are read anew by
// every Pass, so that a rotated file or a changed variable is seen.
type Resolver struct {
	Dir       string                           // directory of forge.cue; relative files are looked for here
	LookupEnv func(name string) (string, bool) // nil: os.LookupEnv

	opener    sops.Opener
	mu        sync.Mutex
	kept      map[string]printed   // by command line
	decrypted map[string]decrypted // by path
}

// printed is what a command printed.
type printed struct {
	value Value
	at    time.Time
}

// Pass resolves the references that are needed at one moment: each file is
// decrypted once for all of them. It is used by one goroutine.
type Pass struct {
	*Resolver

	// MaxAge is how old what a command printed may be. 0: it is run for this
	// pass.
	MaxAge time.Duration

	started time.Time
	files   map[string]opened
}

// Pass begins a pass.
func (r *Resolver) Pass(maxAge time.Duration) *Pass {
	return &Pass{Resolver: r, MaxAge: maxAge, started: time.Now(), files: map[string]opened{}}
}

// Resolve is Resolve of a pass for one reference.
func (r *Resolver) Resolve(ctx context.Context, ref forge.SecretRef) (Value, error) {
	return r.Pass(0).Resolve(ctx, ref)
}

// Resolve reads one line: any line break but one at the end is refused. Errors
// name the source, never the value. Two kinds of references are errors here:
// see Generate for one, and the cluster's own client for the other.
func (p *Pass) Resolve(ctx context.Context, ref forge.SecretRef) (Value, error) {
	v, err := p.ResolveText(ctx, ref)
	if err != nil {
		return Value{}, err
	}
	if err := OneLine(v); err != nil {
		return Value{}, fmt.Errorf("%s %w", p.Describe(ref), err)
	}
	return v, nil
}

// ResolveText is Resolve for what may have more than one line.
func (p *Pass) ResolveText(ctx context.Context, ref forge.SecretRef) (Value, error) {
	raw, err := p.raw(ctx, ref)
	if err != nil {
		return Value{}, err
	}
	v, err := Clean(raw)
	if err != nil {
		return Value{}, fmt.Errorf("%s %w", p.Describe(ref), err)
	}
	return v, nil
}

func (p *Pass) raw(ctx context.Context, ref forge.SecretRef) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	switch {
	case ref.Env != "":
		text, ok := p.lookup(ref.Env)
		if !ok {
			return nil, fmt.Errorf("variable %s is not set", ref.Env)
		}
		return []byte(text), nil
	case ref.File != "":
		return readFile(p.path(ref.File), maxSize+3) // room to see what is too long and a newline
	case ref.SOPS != nil:
		return p.sops(ctx, *ref.SOPS)
	case ref.OP != "":
		out, err := p.command(ctx, []string{"op", "read", "--no-newline", ref.OP})
		if errors.Is(err, exec.ErrNotFound) {
			return nil, unread(fmt.Errorf("%s is read by the 1Password CLI, and there is no op on the PATH: install it from https://developer.1password.com/docs/cli", ref.OP))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ref.OP, err)
		}
		return out, nil
	case len(ref.Exec) > 0:
		return p.command(ctx, ref.Exec)
	case ref.Kubernetes != nil:
		return nil, errors.New("a Secret of a cluster is read with the cluster's client")
	case ref.Generate != nil:
		return nil, errors.New("a generated secret is read where it is kept")
	default:
		return nil, errors.New("the reference is empty: want env, file, sops, kubernetes, op, exec or generate")
	}
}

func (r *Resolver) lookup(name string) (string, bool) {
	if r.LookupEnv == nil {
		return os.LookupEnv(name)
	}
	return r.LookupEnv(name)
}

func (r *Resolver) path(path string) string {
	if !filepath.IsAbs(path) {
		path = filepath.Join(r.Dir, path)
	}
	return path
}

// command runs a command unless what it printed is still good enough.
func (p *Pass) command(ctx context.Context, argv []string) ([]byte, error) {
	key := strings.Join(argv, "\x00")
	p.mu.Lock()
	old, ok := p.kept[key]
	p.mu.Unlock()
	if ok && (!old.at.Before(p.started) || p.started.Sub(old.at) < p.MaxAge) {
		return old.value.Reveal(), nil
	}
	out, err := run(ctx, commandLimit, p.Dir, argv)
	if err != nil {
		return nil, unread(err)
	}
	p.mu.Lock()
	if p.kept == nil {
		p.kept = map[string]printed{}
	}
	p.kept[key] = printed{New(out), time.Now()}
	p.mu.Unlock()
	return out, nil
}

// Describe names the source of a reference for people, as the start of a
// sentence: "variable TOKEN". It has nothing in it that could be secret.
func (r *Resolver) Describe(ref forge.SecretRef) string {
	switch {
	case ref.Env != "":
		return "variable " + ref.Env
	case ref.File != "":
		return "file " + r.path(ref.File)
	case ref.SOPS != nil:
		return "key " + ref.SOPS.Key + " of file " + r.path(ref.SOPS.File)
	case ref.OP != "":
		return ref.OP
	case len(ref.Exec) > 0:
		return "what command " + filepath.Base(ref.Exec[0]) + " prints"
	case ref.Kubernetes != nil:
		return "key " + ref.Kubernetes.Key + " of Secret " + ref.Kubernetes.Name
	case ref.Generate != nil:
		return "a generated value"
	}
	return "an empty reference"
}

// readFile reads so much of a file. It never waits: a named pipe without a
// writer would.
func readFile(path string, most int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("file %s does not exist", path)
	case err != nil:
		return nil, unread(err) // names the path
	}
	defer f.Close()
	// A directory or a device would give a puzzling error, or none and no end.
	if info, err := f.Stat(); err != nil {
		return nil, unread(err)
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("file %s is not a regular file", path)
	}
	raw, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return nil, unread(err)
	}
	return raw, nil
}

// unreadError marks that nothing is known of a secret.
type unreadError struct{ error }

func (e unreadError) Unwrap() error { return e.error }

func unread(err error) error { return unreadError{err} }

// Unread tells of an error of resolving that nothing is known of the secret: its
// source could not be read. After any other error it is known that what is there
// is nothing, or nothing that can be used.
func Unread(err error) bool {
	var u unreadError
	return errors.As(err, &u) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// Clean takes off one line ending and refuses what is too long or has nothing
// in it. Its errors go on from the name of the source.
func Clean(raw []byte) (Value, error) {
	if rest, ok := bytes.CutSuffix(raw, []byte("\n")); ok {
		raw = bytes.TrimSuffix(rest, []byte("\r"))
	}
	switch {
	case len(raw) > maxSize:
		return Value{}, fmt.Errorf("holds more than %d bytes", maxSize)
	case len(raw) == 0:
		return Value{}, errors.New("is empty")
	}
	return New(raw), nil
}

// OneLine refuses a value of more than one line: variables with line breaks
// are lost on the way more often than not.
func OneLine(v Value) error {
	if bytes.ContainsAny(v.Reveal(), "\r\n") {
		return errors.New("holds more than one line")
	}
	return nil
}

// Alphabets of generated values.
const (
	alnum     = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	base64url = alnum + "-_"
	hexDigits = "0123456789abcdef"
)

// Generate makes a value from the system's source of randomness.
func Generate(g forge.Generate) (Value, error) {
	var alphabet string
	switch g.Alphabet {
	case "alnum":
		alphabet = alnum
	case "base64url":
		alphabet = base64url
	case "hex":
		alphabet = hexDigits
	default:
		return Value{}, fmt.Errorf("generate: unknown alphabet %q: want alnum, base64url or hex", g.Alphabet)
	}
	if g.Length < 1 || g.Length > maxSize {
		return Value{}, fmt.Errorf("generate: a length of %d is not between 1 and %d", g.Length, maxSize)
	}
	// Bytes above the largest multiple of the alphabet's size are thrown away,
	// so that no character is likelier than another.
	limit := 256 - 256%len(alphabet)
	out := make([]byte, 0, g.Length)
	buf := make([]byte, g.Length+16)
	for len(out) < g.Length {
		if _, err := rand.Read(buf); err != nil {
			return Value{}, fmt.Errorf("generate: %w", err)
		}
		for _, b := range buf {
			if int(b) < limit && len(out) < g.Length {
				out = append(out, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return New(out), nil
}
