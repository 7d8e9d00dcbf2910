package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/secret"
)

const (
	org        = "acme"
	app        = "soak"
	smallApp   = "soak-small" // of which the app itself is deleted, too
	bystander  = "bystander"
	firstToken = "fm2_the-first-token-of-the-soak"
)

var (
	environments = []string{"prod", "small"}
	regions      = []string{"iad", "ams", "fra"}
)

// forgeText are the forges that people write, the first one in the beginning
// and in the end. No value is generated: who sets another one, or deletes the
// app, would have to be asked about it.
const forgeText = `forge: "v1"
app: {
	name: "soak"
	image: {repository: "registry.fly.io/soak", tag: "1"}
	secrets: {SESSION: file: "session", API_KEY: file: "api-key"%s}
}
environments: {
	prod: {
		platform: {kind: "fly", org: "acme", appName: "soak", token: file: "token"}
		regions: iad: {}
		domains: ["api.soak.dev", "own.soak.dev"%s]
		expose: {
			publicIPv4: %q
			certificates: "own.soak.dev": {chain: file: "own.pem", key: file: "own.key"}
		}
		services: {
			postgres: {mode: "fly-managed", create: true, extensions: [%s]}
			redis: {mode: "upstash", create: true, evict: %v}
		}
		volumes: uploads: {mount: "/app/uploads", size: "3Gi"}
		policy: {mode: "apply", prune: "owned", maxDelete: 20}
	}
	small: {
		platform: {kind: "fly", org: "acme", appName: "soak-small", token: file: "token"}
		regions: ams: {}
		domains: ["small.soak.dev"%s]
		services: postgres: mode: "off"
		policy: {mode: "apply", prune: "owned", maxDelete: 20}
	}
}
`

const forges = 4

func forge(n int) string {
	switch n {
	case 1:
		return fmt.Sprintf(forgeText, `, MORE: file: "more"`, "", "shared", `"pg_trgm"`, false, "")
	case 2:
		return fmt.Sprintf(forgeText, "", `, "new.soak.dev"`, "dedicated", "", true, "")
	case 3:
		return fmt.Sprintf(forgeText, `, MORE: file: "session"`, "", "none", `"citext", "pg_trgm"`, true, `, "other.soak.dev"`)
	default:
		return fmt.Sprintf(forgeText, "", "", "shared", "", true, "")
	}
}

func (s *soak) write(name, text string) error {
	// A reader sees the one or the other, as it does with an editor.
	at := filepath.Join(s.dir, name)
	if err := os.WriteFile(at+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(at+".new", at)
}

// found makes the organization, what is in it of somebody else's, and the
// directory of the forge.
func (s *soak) found(ctx context.Context, seed uint64) (end func(), err error) {
	chain, key, err := ownPair("own.soak.dev")
	if err != nil {
		return nil, err
	}
	for name, text := range map[string]string{
		"forge.cue": forge(0), "token": s.token, "own.pem": chain, "own.key": key,
		"session": "a-session-key-of-the-soak", "api-key": "an-api-key-of-the-soak", "more": "more-of-the-soak",
	} {
		if err := s.write(name, text); err != nil {
			return nil, err
		}
		if name != "forge.cue" && name != "own.pem" {
			s.secrets = append(s.secrets, strings.TrimSpace(text))
		}
	}
	s.fly = flyemulator.New(flyemulator.Options{
		Orgs:   []flyemulator.Org{{Slug: org}},
		Tokens: []flyemulator.Token{{Value: s.token, Kind: flyemulator.OrgToken, Org: org}},
		Pace:   20, RateLimits: true, Seed: seed, Latency: 10 * time.Millisecond,
	})
	s.people, err = api.New(api.Options{
		Endpoints: flytest.Endpoints(), Token: secret.New([]byte(flyemulator.DefaultToken)), HTTP: &http.Client{Transport: flytest.ByHand(s.fly)},
	})
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.url = "http://" + listener.Addr().String()
	server := &http.Server{Handler: s.fly, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	end = func() {
		s.fly.Close()
		_ = server.Close()
		<-ended //nolint:errcheck // it was told to
	}
	if err := s.settle(ctx); err != nil {
		end()
		return nil, err
	}
	return end, nil
}

// settle moves the bystanders in.
func (s *soak) settle(ctx context.Context) error {
	for _, app := range []string{bystander, "fks-" + bystander} {
		for _, d := range [][2]string{
			{"/v1/apps", fmt.Sprintf(`{"app_name":%q,"org_slug":%q}`, app, org)},
			{"/v1/apps/" + app + "/machines", `{"region":"fra","config":{"image":"registry.fly.io/theirs:v1"}}`},
			{"/v1/apps/" + app + "/secrets", `{"values":{"THEIRS":"1"}}`},
			{"/v1/apps/" + app + "/volumes", `{"name":"theirs","region":"fra","size_gb":1}`},
			{"/v1/apps/" + app + "/ip_assignments", `{"type":"v6"}`},
		} {
			if err := s.drift(http.MethodPost, d[0], d[1]); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// drift is what somebody does who may do everything.
func (s *soak) drift(method, path, body string) error {
	status, answer := s.fly.Drift(flyemulator.Drift{Method: method, Path: path, Body: json.RawMessage(body)})
	if status >= 300 && status != http.StatusNotFound {
		return fmt.Errorf("%s %s: %d %s", method, path, status, answer)
	}
	return nil
}

// picture is all there is of the environments, but for what others have put
// beside it.
func (s *soak) picture(ctx context.Context) (string, error) {
	all, err := flytest.Picture(ctx, s.people, org, func(app string) bool { return !strings.HasSuffix(app, bystander) })
	if err != nil {
		return "", err
	}
	for name := range all {
		if strings.Contains(name, ": machine ") { // people's own: the rest of them is looked at by foreign
			delete(all, name)
		}
	}
	b, err := json.MarshalIndent(all, "", "  ")
	return string(b), err
}

// ownPair is a certificate of one's own, and its key.
func ownPair(host string) (chain, key string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * 24 * time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return "", "", err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})), nil
}
