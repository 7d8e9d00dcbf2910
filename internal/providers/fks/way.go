package fks

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// way leads into one cluster. It outlives its add-on's being away for a while,
// and with it the token that opens the cluster.
type way struct {
	id       forge.ID
	accounts *fly.Accounts
	tokens   *tokens
	connect  connect

	mu      sync.Mutex
	spec    forge.FlyClusterSpec
	account forge.FlyAccount
	addon   string // id; empty: it leads nowhere now
	text    secret.Value
	sum     [sha256.Size]byte
	fly     secret.Value // the same where the user gives a file, to compare
	given   *rest.Config // what text says, without the credential; nil: the user gives a file
	native  bool         // the credential is a token that flyctl would make
	why     error        // it leads nowhere, if that is known
	appName string

	unanswered time.Time // when the cluster was last asked for its app, and it is not worth to ask again soon
	vain       int       // looks at the cluster that did not find its app
	verdict    *verdict  // of the user's file

	gone bool // it was looked for when nobody asked for it any more, and is not there
}

func newWay(l fly.Look, c connect) *way {
	w := &way{id: l.ID(), accounts: l.Accounts, connect: c}
	w.tokens = newTokens(w.mint)
	return w
}

// open has the way lead into a cluster. The error is for people.
func (w *way) open(spec forge.FlyClusterSpec, account forge.FlyAccount, live api.AddOn) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.addon != live.ID {
		w.appName, w.vain = "", 0
	}
	if w.account.Org != account.Org {
		w.tokens.forget()
	}
	w.spec, w.account, w.addon, w.gone = spec, account, "", false
	w.why = w.lead(live)
	return w.why
}

// lead is open, under the lock.
func (w *way) lead(live api.AddOn) error {
	spec := w.spec
	if spec.Kubeconfig != "" {
		w.given, w.sum, w.text, w.fly = nil, [sha256.Size]byte{}, secret.Value{}, live.Kubeconfig
		given, native, err := fromFile(spec)
		if err != nil {
			return err
		}
		w.native = native
		if _, why := compared(given, w.fly); why != "" {
			return another(spec, why)
		}
		w.addon = live.ID
		return nil
	}
	if len(live.Kubeconfig.Reveal()) == 0 {
		return fmt.Errorf("no kubeconfig is given out by Fly for cluster %s: nothing in it can be used; delete it by hand (\"fly ext kubernetes destroy %s\"), and have it made again", spec.Name, spec.Name)
	}
	if sum := sha256.Sum256(live.Kubeconfig.Reveal()); w.given == nil || sum != w.sum {
		given, native, err := fromFly(live.Kubeconfig)
		if err != nil {
			return fmt.Errorf("the kubeconfig that Fly gives out for cluster %s: %w", spec.Name, err)
		}
		w.given, w.native, w.sum, w.text = given, native, sum, live.Kubeconfig
	}
	w.addon = live.ID
	return nil
}

// close has the way lead nowhere: for now, or for good. why may be nil: it will.
func (w *way) close(gone bool, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.addon, w.appName, w.gone, w.why = "", "", gone, why
}

// kubeconfig is what Fly gives out; zero where the user gives a file.
func (w *way) kubeconfig() secret.Value {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text
}

func (w *way) app() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.appName
}

// config is how clients reach the cluster.
func (w *way) config(context.Context) (*rest.Config, error) {
	w.mu.Lock()
	open, gone, spec, given, native, org := w.addon != "", w.gone, w.spec, w.given, w.native, w.account.Org
	why, fly := w.why, w.fly
	w.mu.Unlock()
	switch {
	case gone:
		return nil, &reconcile.Error{Kind: reconcile.Invalid, ID: w.id, Op: "reach", Object: "cluster " + w.id.Name, Err: reconcile.ErrGone}
	case why != nil:
		return nil, w.nowhere(why)
	case !open:
		return nil, reconcile.WaitingFor(w.id, forge.OutputKubeconfig)
	}
	sure := true
	if given == nil {
		var err error
		if given, native, err = fromFile(spec); err != nil {
			return nil, &reconcile.Error{Kind: reconcile.Invalid, ID: w.id, Op: "read the kubeconfig of", Object: "cluster " + spec.Name, Err: err}
		}
		var elsewhere string
		if sure, elsewhere = compared(given, fly); elsewhere != "" {
			return nil, another(spec, elsewhere)
		}
	}
	cfg := rest.CopyConfig(given)
	n := network{cluster: spec.Name, org: org, server: hostOf(cfg.Host), connect: w.connect}
	cfg.Dial = n.dial
	if native {
		cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return &bearer{next: next, tokens: w.tokens} })
	}
	if !sure {
		known := w.verdictOf(spec, given)
		cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return &unsure{next: next, base: cfg.Host, spec: spec, verdict: known}
		})
	}
	return cfg, nil
}

// verdictOf is what is known of where a kubeconfig of the user leads. It outlives
// the clients that have asked.
func (w *way) verdictOf(spec forge.FlyClusterSpec, given *rest.Config) *verdict {
	h := sha256.New()
	text, _ := os.ReadFile(spec.Kubeconfig) // it was read just now
	fmt.Fprintf(h, "%x %q %q %q %q", sha256.Sum256(text), spec.Kubeconfig, spec.Context, spec.Name, spec.Account.Org)
	for _, known := range authorities(given) {
		fmt.Fprintf(h, " %x", known)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(h, " %q", w.addon)
	if of := [sha256.Size]byte(h.Sum(nil)); w.verdict == nil || w.verdict.of != of {
		w.verdict = newVerdict(of)
	}
	return w.verdict
}

// nowhere is what stands in the way of everything in the cluster.
func (w *way) nowhere(why error) error {
	if of, ok := errors.AsType[*reconcile.Error](why); ok {
		return of
	}
	return &reconcile.Error{Kind: reconcile.Invalid, ID: w.id, Op: "reach", Object: "cluster " + w.id.Name, Err: why}
}

func hostOf(server string) string {
	u, err := url.Parse(server)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// fromFly reads a kubeconfig that Fly gives out. It comes from elsewhere, so it
// runs nothing and reads nothing on this machine.
func fromFly(text secret.Value) (cfg *rest.Config, native bool, err error) {
	raw, err := clientcmd.Load(text.Reveal())
	if err != nil {
		return nil, false, errors.New("it cannot be read") // what is wrong may be quoted, with the secrets
	}
	name, err := contextOf(raw, raw.CurrentContext)
	if err != nil {
		return nil, false, err
	}
	cluster, user := raw.Clusters[raw.Contexts[name].Cluster], raw.AuthInfos[raw.Contexts[name].AuthInfo]
	switch {
	case cluster == nil || !strings.HasPrefix(cluster.Server, "https://"):
		return nil, false, errors.New("it names no server with https")
	case user == nil:
		return nil, false, errors.New("it names no user")
	case cluster.CertificateAuthority != "" || user.ClientCertificate != "" || user.ClientKey != "" || user.TokenFile != "" || user.AuthProvider != nil ||
		user.Exec != nil && !isNative(user.Exec):
		return nil, false, errors.New("it reads files or runs a command of this machine, which forged does for a kubeconfig of yours alone; if you trust it, write it to a file and name that in platform.kubeconfig")
	}
	return configOf(raw, name)
}

// fromFile reads a kubeconfig of the user.
func fromFile(spec forge.FlyClusterSpec) (cfg *rest.Config, native bool, err error) {
	raw, err := (&clientcmd.ClientConfigLoadingRules{ExplicitPath: spec.Kubeconfig}).Load()
	if err != nil {
		if _, err := os.ReadFile(spec.Kubeconfig); err != nil {
			return nil, false, fmt.Errorf("platform.kubeconfig: %w", err)
		}
		// What is wrong may be quoted, with the secrets.
		return nil, false, fmt.Errorf("platform.kubeconfig %s: it is no YAML or JSON of kind Config", spec.Kubeconfig)
	}
	name, err := contextOf(raw, spec.Context)
	if err != nil {
		return nil, false, fmt.Errorf("platform.kubeconfig %s: %w", spec.Kubeconfig, err)
	}
	if cfg, native, err = configOf(raw, name); err != nil {
		err = fmt.Errorf("platform.kubeconfig %s: %w", spec.Kubeconfig, err)
	}
	return cfg, native, err
}

// contextOf is the context that is asked for, or else the only one.
func contextOf(raw *clientcmdapi.Config, asked string) (string, error) {
	names := slices.Sorted(maps.Keys(raw.Contexts))
	switch {
	case asked != "" && raw.Contexts[asked] != nil:
		return asked, nil
	case asked != "":
		return "", fmt.Errorf("it has no context %s; it has %s", asked, strings.Join(names, ", "))
	case len(names) == 1:
		return names[0], nil
	case len(names) == 0:
		return "", errors.New("it has no context")
	}
	return "", fmt.Errorf("it has several contexts; name one of them in platform.context: %s", strings.Join(names, ", "))
}

// configOf is what a context says. Where flyctl would be run for a token, it is
// left out: native.
func configOf(raw *clientcmdapi.Config, name string) (cfg *rest.Config, native bool, err error) {
	if user := raw.AuthInfos[raw.Contexts[name].AuthInfo]; user != nil && user.Exec != nil && isNative(user.Exec) {
		native, user.Exec = true, nil
	}
	cfg, err = clientcmd.NewNonInteractiveClientConfig(*raw, name, &clientcmd.ConfigOverrides{}, nil).ClientConfig()
	return cfg, native, err
}

// isNative tells whether an entry has flyctl make a token.
func isNative(e *clientcmdapi.ExecConfig) bool {
	command := strings.TrimSuffix(path.Base(strings.ReplaceAll(e.Command, `\`, "/")), ".exe")
	return (command == "fly" || command == "flyctl") && slices.Contains(e.Args, "kubectl-token")
}
