package kubernetes

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

const (
	connectTimeout = 15 * time.Second
	maxWrites      = 8 // in flight per cluster
)

// loadConfig reads the kubeconfig of a target. The context is always named:
// the current one is a property of a person's shell, not of forge.cue.
func loadConfig(target forge.Target) (*rest.Config, error) {
	op := "read kubeconfig for context " + target.Context
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	if target.Kubeconfig != "" {
		rules.ExplicitPath = target.Kubeconfig
	}
	raw, err := rules.Load()
	if err != nil {
		return nil, &reconcile.Error{
			Kind: reconcile.Invalid, Op: op, Err: err,
			Hint: "set platform.kubeconfig or KUBECONFIG to a readable kubeconfig file",
		}
	}
	if _, ok := raw.Contexts[target.Context]; !ok {
		return nil, &reconcile.Error{
			Kind: reconcile.Invalid, Op: op,
			Err:  fmt.Errorf("no such context in %s", source(rules)),
			Hint: contextHint(raw),
		}
	}
	cfg, err := clientcmd.NewNonInteractiveClientConfig(*raw, target.Context, &clientcmd.ConfigOverrides{}, rules).ClientConfig()
	if err != nil {
		return nil, &reconcile.Error{Kind: reconcile.Invalid, Op: op, Err: err, Hint: "repair the context in " + source(rules)}
	}
	if target.Impersonate != "" {
		// In place of whom the kubeconfig may say to act as.
		cfg.Impersonate = rest.ImpersonationConfig{UserName: target.Impersonate}
	}
	return cfg, nil
}

func source(rules *clientcmd.ClientConfigLoadingRules) string {
	if rules.ExplicitPath != "" {
		return rules.ExplicitPath
	}
	return strings.Join(rules.Precedence, ", ")
}

// contextHint names the contexts there are. Without any it is rather the file
// that is not the one that was meant.
func contextHint(raw *clientcmdapi.Config) string {
	if len(raw.Contexts) == 0 {
		return "known contexts: none; name the kubeconfig in KUBECONFIG or platform.kubeconfig"
	}
	names := make([]string, 0, len(raw.Contexts))
	for name := range raw.Contexts {
		names = append(names, name)
	}
	slices.Sort(names)
	return "known contexts: " + strings.Join(names, ", ")
}

// config is how a target is reached now.
func (cs *Clusters) config(ctx context.Context, target forge.Target) (*rest.Config, error) {
	if target.Context != "" || target.Cluster == (forge.ID{}) {
		return loadConfig(target)
	}
	if cs.opts.Ways == nil {
		return nil, reconcile.Errorf(reconcile.Internal, "connect to "+target.String(), "nobody knows a way into %s", target.Cluster)
	}
	cfg, err := cs.opts.Ways.Way(ctx, target.Cluster)
	if err != nil {
		return nil, err
	}
	if target.Impersonate != "" {
		cfg.Impersonate = rest.ImpersonationConfig{UserName: target.Impersonate}
	}
	return cfg, nil
}

// fingerprint changes when a kubeconfig leads to another server or brings
// other credentials. It is never shown.
func fingerprint(cfg *rest.Config) [sha256.Size]byte {
	plain := struct {
		Host, User, Password, Token, TokenFile string
		Proxy                                  string
		TLS                                    rest.TLSClientConfig
		Exec                                   *clientcmdapi.ExecConfig
		As                                     rest.ImpersonationConfig
	}{cfg.Host, cfg.Username, cfg.Password, cfg.BearerToken, cfg.BearerTokenFile, proxyOf(cfg), cfg.TLSClientConfig, cfg.ExecProvider, cfg.Impersonate}
	b, err := json.Marshal(plain)
	if err != nil {
		// Plain data does marshal; the type of the error still says more than
		// a fingerprint that never matches would.
		b = fmt.Appendf(nil, "%T", err)
	}
	return sha256.Sum256(b)
}

// proxyOf is the proxy that a kubeconfig names.
func proxyOf(cfg *rest.Config) string {
	if cfg.Proxy == nil {
		return ""
	}
	r, err := http.NewRequest(http.MethodGet, cfg.Host, http.NoBody)
	if err != nil {
		return ""
	}
	if proxy, err := cfg.Proxy(r); err == nil && proxy != nil {
		return proxy.String()
	}
	return ""
}

// connect makes the clients of a cluster and asks which cluster it is. known
// is the uid of the cluster met under this target before, if any.
func connect(ctx context.Context, cs *Clusters, target forge.Target, known string) (*Cluster, error) {
	if wrong := validation.IsValidLabelValue(cs.opts.Instance); cs.opts.Instance == "" || len(wrong) > 0 {
		return nil, reconcile.Errorf(reconcile.Invalid, "connect to "+target.String(),
			"instance id %q cannot be a label's value: %s", cs.opts.Instance, strings.Join(append(wrong, "it must not be empty"), "; "))
	}
	cfg, err := cs.config(ctx, target)
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		clusters: cs, target: target,
		instance: cs.opts.Instance,
		manager:  "forged/" + cs.opts.Instance,
		log:      cs.opts.Logger.With("cluster", target.String()),
		print:    fingerprint(cfg),
		writes:   make(chan struct{}, maxWrites),

		watches:     map[watchKey]*watch{},
		wide:        map[schema.GroupVersionKind]*watch{},
		confined:    map[schema.GroupVersionResource]bool{},
		scalers:     map[string]*scalers{},
		index:       map[Ref]*tracked{},
		unowned:     map[schema.GroupKind]*unowned{},
		lenses:      map[Ref]Lens{},
		awaited:     map[schema.GroupVersionKind]bool{},
		completed:   map[Ref]string{},
		verdicts:    map[Ref]explained{},
		own:         map[Ref]*ownWrite{},
		followed:    map[Ref]*followed{},
		inventories: map[inventoryKey]*inventorySlot{},
		listed:      map[string]listedPlaces{},
		fence:       fence{leases: map[inventoryKey]*lease{}, acted: map[string]bool{}},
	}
	op := "connect to " + target.String()

	// API Priority & Fairness is on every server we support, so the client
	// need not hold itself back; a server that disagrees answers 429.
	cfg.QPS, cfg.Burst = -1, 0
	cfg.UserAgent = userAgent()
	cfg.WarningHandler, cfg.WarningHandlerWithContext = nil, &warnings{c: c, told: map[warning]struct{}{}}
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return &counting{next: next, observe: c.onRequest, refuse: c.refuse}
	})
	if cs.wrap != nil {
		cfg.Wrap(cs.wrap)
	}
	c.rest = cfg
	if c.http, err = rest.HTTPClientFor(cfg); err != nil {
		return nil, &reconcile.Error{Kind: reconcile.Invalid, Op: op, Err: err, Hint: "repair the context's cluster or user in the kubeconfig"}
	}
	if plugin := cfg.ExecProvider; plugin != nil {
		c.http.Transport = &impatient{next: c.http.Transport, plugin: plugin.Command}
	}
	if err := c.makeClients(); err != nil {
		return nil, &reconcile.Error{Kind: reconcile.Invalid, Op: op, Err: err}
	}

	bounded, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	stop := context.AfterFunc(cs.ctx, cancel)
	defer stop()
	ns, err := c.client.CoreV1().Namespaces().Get(bounded, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		c.http.CloseIdleConnections()
		err := Classify(op, Ref{}, err)
		var e *reconcile.Error
		if errors.As(err, &e) && e.Hint == "" {
			e.Hint = "is the cluster running? try: " + saving(target) + target.Kubectl() + " get namespace kube-system"
		}
		return nil, err
	}
	c.uid = string(ns.UID)
	if known != "" && known != c.uid {
		c.http.CloseIdleConnections()
		return nil, anotherCluster(target, known, c.uid)
	}
	c.ctx, c.cancel = context.WithCancel(cs.ctx)
	c.verification = newVerification(c)
	c.log.DebugContext(ctx, "connected", "host", cfg.Host, "uid", c.uid)
	return c, nil
}

// saving comes before the first use of kubectl with a cluster that is a resource.
func saving(target forge.Target) string {
	if target.Context != "" {
		return ""
	}
	return "fly ext kubernetes save-kubeconfig " + target.Cluster.Name + ", and "
}

func (c *Cluster) makeClients() (err error) {
	typed := rest.CopyConfig(c.rest)
	typed.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	typed.ContentType = "application/vnd.kubernetes.protobuf"
	if c.client, err = kubernetes.NewForConfigAndClient(typed, c.http); err != nil {
		return err
	}
	if c.dynamic, err = dynamic.NewForConfigAndClient(c.rest, c.http); err != nil {
		return err
	}
	if c.metadata, err = metadata.NewForConfigAndClient(metadata.ConfigFor(c.rest), c.http); err != nil {
		return err
	}
	// The dynamic client does not tell 201 from 200; this one does.
	raw := dynamic.ConfigFor(c.rest)
	raw.GroupVersion = nil
	raw.APIPath = "/unused"
	if c.raw, err = rest.UnversionedRESTClientForConfigAndClient(raw, c.http); err != nil {
		return err
	}
	disco, err := discovery.NewDiscoveryClientForConfigAndClient(typed, c.http)
	if err != nil {
		return err
	}
	c.discovery = memory.NewMemCacheClientWithContext(discovery.ToDiscoveryInterfaceWithContext(disco))
	c.mapper = restmapper.NewDeferredDiscoveryRESTMapperWithContext(c.discovery)
	return nil
}

func userAgent() string {
	version := "devel"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		version = info.Main.Version
	}
	return "forged/" + version
}
