package sops

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	library "github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/age"
	"github.com/getsops/sops/v3/hcvault"
	"github.com/getsops/sops/v3/keys"
	"github.com/getsops/sops/v3/keyservice"
	"github.com/getsops/sops/v3/pgp"
)

// Opener opens files. Its zero value is ready, and may be used by many
// goroutines.
type Opener struct {
	hung atomic.Int32 // goroutines that were given up and still run
}

// dataKey asks for the key of the file, those first that need no network. Not
// everything that is asked ends with the context: commands do not. So they are
// left behind, and as long as one is, nothing else is asked.
func (o *Opener) dataKey(ctx context.Context, m *library.Metadata) ([]byte, error) {
	if o.hung.Load() > 0 {
		return nil, fmt.Errorf("%w: what was asked for a key before has not ended yet", ErrKeyService)
	}
	type answer struct {
		key []byte
		err error
	}
	done := make(chan answer, 1)
	go func() {
		var ans answer
		defer func() {
			if recover() != nil { // on an empty SOPS_AGE_KEY_CMD, for one
				ans = answer{nil, fmt.Errorf("%w: asking for one failed", ErrNoIdentity)}
			}
			done <- ans
		}()
		ans.key, ans.err = ask(ctx, m)
	}()
	select {
	case ans := <-done:
		if ctx.Err() != nil && ans.err != nil {
			return nil, context.Cause(ctx)
		}
		return ans.key, ans.err
	case <-ctx.Done():
		o.hung.Add(1)
		go func() {
			<-done
			o.hung.Add(-1)
		}()
		return nil, context.Cause(ctx)
	}
}

func ask(ctx context.Context, m *library.Metadata) ([]byte, error) {
	s := &service{ctx: ctx, keys: map[string]keys.MasterKey{}}
	for _, key := range slices.Concat(m.KeyGroups...) {
		s.keys[string(key.EncryptedDataKey())] = key
	}
	client := keyservice.NewCustomLocalClient(s)
	key, err := m.GetDataKeyWithKeyServices([]keyservice.KeyServiceClient{client}, library.DefaultDecryptionOrder)
	switch {
	case err == nil:
		return key, nil
	case len(s.failures) == 0:
		return nil, fmt.Errorf("%w: its parts do not make one", ErrNoIdentity)
	case s.remote:
		err = ErrKeyService
	default:
		err = ErrNoIdentity
	}
	return nil, fmt.Errorf("%w: %s", err, strings.Join(s.failures, "; "))
}

// service does what the library's own local key service does: the key itself
// decrypts what was encrypted for it. It hands on a context besides, which the
// library's drops, and keeps why a key did not do.
type service struct {
	keyservice.UnimplementedKeyServiceServer
	ctx      context.Context
	keys     map[string]keys.MasterKey // by what was encrypted for them
	failures []string
	remote   bool // something was asked that is not on this machine
}

func (s *service) Decrypt(_ context.Context, r *keyservice.DecryptRequest) (*keyservice.DecryptResponse, error) {
	key := s.keys[string(r.Ciphertext)]
	if key == nil {
		return nil, errors.New("not a key of this file")
	}
	if err := s.ctx.Err(); err != nil {
		return nil, err
	}
	var plain []byte
	var err error
	if key.TypeToIdentifier() == hcvault.KeyTypeIdentifier && os.Getenv(hcvault.SopsHCVaultAllowlist) == "" {
		// The library would send the token to whichever server the file names.
		err = fmt.Errorf("set %s to the addresses of the Vaults that may have your token", hcvault.SopsHCVaultAllowlist)
		s.fail(hcvault.KeyTypeIdentifier+" "+key.ToString(), err)
		return nil, err
	}
	if k, ok := key.(interface {
		DecryptContext(ctx context.Context) ([]byte, error)
	}); ok {
		plain, err = k.DecryptContext(s.ctx)
	} else {
		plain, err = key.Decrypt()
	}
	if err == nil {
		return &keyservice.DecryptResponse{Plaintext: plain}, nil
	}
	kind := key.TypeToIdentifier()
	where := kind
	switch kind {
	case age.KeyTypeIdentifier: // all of them look in the same places
	case pgp.KeyTypeIdentifier:
		where += " " + key.ToString()
	default:
		where += " " + key.ToString()
		s.remote = true
	}
	s.fail(where, err)
	return nil, err
}

// fail keeps why a key did not do.
func (s *service) fail(where string, err error) {
	if failure := where + ": " + reason(err); !slices.Contains(s.failures, failure) {
		s.failures = append(s.failures, failure)
	}
}

const longestReason = 600

// reason makes one line of what an error says. Of the commands that print age
// keys the library quotes the whole line, in which there may be a secret.
func reason(err error) string {
	text := err.Error()
	for _, name := range []string{age.SopsAgeKeyCmdEnv, age.SopsAgeSshPrivateKeyCmdEnv} {
		if line := os.Getenv(name); line != "" {
			text = strings.ReplaceAll(text, line, name)
		}
	}
	text = strings.TrimSuffix(strings.Join(strings.Fields(text), " "), ".")
	if len(text) > longestReason {
		text = strings.ToValidUTF8(text[:longestReason], "") + "…"
	}
	return text
}
