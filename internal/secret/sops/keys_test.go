package sops

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	library "github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/hcvault"

	"forged.dev/forged/internal/secret/sopstest"
)

func opens(t *testing.T, ctx context.Context, data []byte) error {
	t.Helper()
	doc, err := new(Opener).Open(ctx, "a.yaml", data)
	if err != nil {
		return err
	}
	if v, err := doc.Lookup("k"); err != nil || string(v) != "s3cret" {
		t.Errorf("%q, %v", v, err)
	}
	return nil
}

// Age keys are found where sops finds them. What goes wrong there is said, and
// no key and no command line is.
func TestAgeKeys(t *testing.T) {
	mine, to := sopstest.Key(t)
	stranger, _ := sopstest.Key(t)
	data := sopstest.Encrypt(t, "a.yaml", "k: s3cret\n", nil, to)
	dir := t.TempDir()
	write := func(path, text string) string {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := write("mine", "# created: today\n"+mine+"\n\n")
	damaged := write("damaged", mine+"C4N4RY\n")
	for _, tt := range []struct{ name, variable, value, err string }{
		{"variable", "SOPS_AGE_KEY", mine, ""},
		{"several", "SOPS_AGE_KEY", stranger + "\n" + mine, ""},
		{"file", "SOPS_AGE_KEY_FILE", file, ""},
		{"command", "SOPS_AGE_KEY_CMD", "cat '" + file + "'", ""},
		{"nothing", "", "", "keys.txt"},
		{"stranger", "SOPS_AGE_KEY", stranger, "identity did not match any of the recipients"},
		{"no file", "SOPS_AGE_KEY_FILE", filepath.Join(dir, "nothing"), "SOPS_AGE_KEY_FILE file: open " + dir},
		{"damaged", "SOPS_AGE_KEY", mine + "C4N4RY", "SOPS_AGE_KEY"},
		{"damaged file", "SOPS_AGE_KEY_FILE", damaged, "SOPS_AGE_KEY_FILE"},
		{"not a key", "SOPS_AGE_KEY", "C4N4RY", "unknown identity type"},
		{"command fails", "SOPS_AGE_KEY_CMD", "sh -c 'echo C4N4RY >&2; exit 7'", "failed to execute command SOPS_AGE_KEY_CMD: exit status 7"},
		{"no such command", "SOPS_AGE_KEY_CMD", "no-such-command --token=C4N4RY", "not found in $PATH"},
		{"quote", "SOPS_AGE_KEY_CMD", "get 'C4N4RY", "failed to parse command SOPS_AGE_KEY_CMD"},
		{"empty command", "SOPS_AGE_KEY_CMD", "", "asking for one failed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			only(t, tt.variable, tt.value)
			err := opens(t, t.Context(), data)
			switch {
			case tt.err == "":
				if err != nil {
					t.Error(err)
				}
			case !errors.Is(err, ErrNoIdentity) || !strings.Contains(err.Error(), tt.err) || strings.ContainsAny(err.Error(), "\n\t"):
				t.Errorf("%v, want %q", err, tt.err)
			case strings.Contains(err.Error(), "C4N4RY"), strings.Contains(err.Error(), "AGE-SECRET-KEY"):
				t.Errorf("quotes a secret: %v", err)
			}
		})
	}
	t.Run("of the user", func(t *testing.T) {
		only(t, "XDG_CONFIG_HOME", filepath.Join(dir, "config"))
		write("config/sops/age/keys.txt", mine)
		if err := opens(t, t.Context(), data); err != nil {
			t.Error(err)
		}
	})
}

// A key may be split over groups, of which so many are needed.
func TestGroups(t *testing.T) {
	first, a := sopstest.Key(t)
	second, b := sopstest.Key(t)
	_, c := sopstest.Key(t)
	data := sopstest.Encrypt(t, "a.yaml", "k: s3cret\n", func(m *library.Metadata) {
		m.KeyGroups = []library.KeyGroup{sopstest.Group(t, a), sopstest.Group(t, b, c), sopstest.Group(t, c)}
		m.ShamirThreshold = 2
	})
	only(t, "SOPS_AGE_KEY", first+" "+second)
	if err := opens(t, t.Context(), data); err != nil {
		t.Error(err)
	}
	t.Setenv("SOPS_AGE_KEY", first)
	if err := opens(t, t.Context(), data); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("one group of two: %v", err)
	}
}

// vault is so much of the transit engine of Vault as sops asks for. Its cipher
// is a prefix.
type vault struct {
	*httptest.Server
	down  atomic.Bool
	hang  atomic.Bool
	asked atomic.Int32
}

func startVault(t *testing.T) *vault {
	t.Helper()
	v := &vault{}
	v.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := map[string]string{}
		raw, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(raw, &body)
		answer := map[string]string{}
		switch {
		case r.Header.Get("X-Vault-Token") != "token" || v.down.Load():
			http.Error(w, `{"errors": ["permission denied"]}`, http.StatusForbidden)
			return
		case strings.HasPrefix(r.URL.Path, "/v1/transit/encrypt/"):
			answer["ciphertext"] = "vault:v1:" + body["plaintext"]
		default:
			v.asked.Add(1)
			if v.hang.Load() {
				<-r.Context().Done()
				return
			}
			answer["plaintext"] = strings.TrimPrefix(body["ciphertext"], "vault:v1:")
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"data": answer})
	}))
	t.Cleanup(v.Close)
	return v
}

// Services in the network are asked after the keys of the machine, and no
// longer than the context lasts. Not to be let in is not to know.
func TestKeyServices(t *testing.T) {
	only(t, "VAULT_TOKEN", "token")
	v := startVault(t)
	mine, to := sopstest.Key(t)
	inVault := func(m *library.Metadata) {
		key := &hcvault.MasterKey{VaultAddress: v.URL, EnginePath: "transit", KeyName: "shop", CreationDate: time.Now()}
		m.KeyGroups[0] = append(library.KeyGroup{key}, m.KeyGroups[0]...)
	}
	data := sopstest.Encrypt(t, "a.yaml", "k: s3cret\n", inVault)
	asked := v.asked.Load()
	if err := opens(t, t.Context(), data); !errors.Is(err, ErrNoIdentity) || !strings.Contains(err.Error(), hcvault.SopsHCVaultAllowlist) || v.asked.Load() != asked {
		t.Errorf("a Vault that nobody has allowed was asked %d times: %v", v.asked.Load()-asked, err)
	}
	t.Setenv(hcvault.SopsHCVaultAllowlist, v.URL)
	both := sopstest.Encrypt(t, "a.yaml", "k: s3cret\n", inVault, to)
	if err := opens(t, t.Context(), data); err != nil || v.asked.Load() != 1 {
		t.Errorf("asked %d times: %v", v.asked.Load(), err)
	}
	if err := opens(t, t.Context(), both); err != nil || v.asked.Load() != 2 {
		t.Errorf("without the age key, asked %d times: %v", v.asked.Load(), err)
	}
	t.Setenv("SOPS_AGE_KEY", mine)
	if err := opens(t, t.Context(), both); err != nil || v.asked.Load() != 2 {
		t.Errorf("with the age key, asked %d times: %v", v.asked.Load(), err)
	}

	v.down.Store(true)
	err := opens(t, t.Context(), data)
	if !errors.Is(err, ErrKeyService) || !strings.Contains(err.Error(), "hc_vault "+v.URL) || !strings.Contains(err.Error(), "permission denied") || strings.Contains(err.Error(), "vault:v1:") {
		t.Errorf("not let in: %v", err)
	}
	v.down.Store(false)

	v.hang.Store(true)
	slow := errors.New("too slow")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, slow)
	defer cancel()
	if err := opens(t, ctx, data); !errors.Is(err, slow) {
		t.Errorf("no answer: %v", err)
	}
}
