package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"forged.dev/forged/hack/child"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

const (
	flySpeed   = "60" // a minute at Fly takes a second
	flyCluster = "acme-prod"
	flyDomain  = "api.acme.com"
)

// flyPlace is the sandbox, as one at Fly has it.
type flyPlace struct {
	vars map[string]string // of the sandbox's file env
	api  *api.Client
}

// onFKS is the demo of Fly Kubernetes.
func onFKS(ctx context.Context, d *demo, interactive bool) (err error) {
	d.config = filepath.Join(d.dir, "repo", "fks.cue")

	d.title("Nothing but an organization at Fly", "forged-sandbox plays Fly: its APIs, and a control plane that behaves as Fly Kubernetes")
	at, sandbox, err := d.startFly(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sandbox.Stop()) }()

	d.title("forged run", "a cluster, a database, a cache, Temporal, the app, its certificate")
	daemon, err := d.startDaemon(ctx, at.environ()...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, daemon.Stop()) }()
	if err := d.converge(ctx, daemon, 1); err != nil {
		return err
	}
	if err := d.meet(ctx, at); err != nil {
		return err
	}
	if interactive {
		return d.stay(ctx, sandbox, daemon)
	}
	err = d.play(ctx,
		func(ctx context.Context) error { return d.answers(ctx, at) },
		func(ctx context.Context) error { return d.changesNothing(ctx, at) },
		d.deleteService,
		d.scaleDeployment,
		func(ctx context.Context) error { return d.deleteCertificate(ctx, at) },
		func(ctx context.Context) error { return d.changeRedis(ctx, at) },
		func(ctx context.Context) error { return d.outliveToken(ctx, at) },
		func(ctx context.Context) error { return d.changesNothing(ctx, at) },
		d.metrics,
	)
	if err != nil {
		return err
	}
	return d.end(daemon, sandbox)
}

var exported = regexp.MustCompile(`(?m)^export ([A-Z_]+)='([^']*)'$`)

func (d *demo) startFly(ctx context.Context) (*flyPlace, *child.Child, error) {
	home := filepath.Join(d.dir, "sandbox")
	began := time.Now()
	c, err := d.sandbox(ctx, home, "--clusters", "0", "--fks", "1", "--fly-speed", flySpeed)
	if err != nil {
		return nil, nil, err
	}
	at := &flyPlace{vars: map[string]string{}}
	text, err := os.ReadFile(filepath.Join(home, "env"))
	if err != nil {
		return nil, nil, errors.Join(err, c.Stop())
	}
	for _, m := range exported.FindAllStringSubmatch(string(text), -1) {
		at.vars[m[1]] = m[2]
	}
	fly := at.vars["FLY_API_BASE_URL"]
	at.api, err = api.New(api.Options{
		Endpoints: api.Endpoints{Machines: fly, GraphQL: fly, UI: fly}, Token: secret.New([]byte(at.vars["FLY_API_TOKEN"])), UserAgent: "demo",
	})
	if err != nil {
		return nil, nil, errors.Join(err, c.Stop())
	}
	d.say("%s answers after %.1f s", fly, time.Since(began).Seconds())
	return at, c, nil
}

// environ is what a forged is told that is to find this Fly, and the private
// network behind its proxy.
func (at *flyPlace) environ() []string {
	all := []string{
		"NO_PROXY=127.0.0.1,localhost",
		"HTTP_PROXY=" + at.vars["FORGED_SANDBOX_PROXY"], "HTTPS_PROXY=" + at.vars["FORGED_SANDBOX_PROXY"],
		"SSL_CERT_FILE=" + at.vars["FORGED_SANDBOX_CA"],
	}
	for _, name := range []string{"FLY_FLAPS_BASE_URL", "FLY_API_BASE_URL", "FLY_UIEX_BASE_URL", "FLY_API_TOKEN"} {
		all = append(all, name+"="+at.vars[name])
	}
	return all
}

// meet lets people into the cluster, as kubectl would with what Fly gives out.
func (d *demo) meet(ctx context.Context, at *flyPlace) error {
	addOn, err := at.api.AddOn(ctx, flyCluster, "kubernetes")
	if err != nil {
		return err
	}
	org, err := at.api.Organization(ctx, addOn.Org)
	if err != nil {
		return err
	}
	token, err := at.api.CreateLimitedToken(ctx, api.CreateLimitedToken{Name: person, OrgID: org.ID, Profile: api.TokenOfOrg, Expiry: 100 * time.Hour})
	if err != nil {
		return err
	}
	cfg, err := clientcmd.RESTConfigFromKubeConfig(addOn.Kubeconfig.Reveal())
	if err != nil {
		return err
	}
	cfg.ExecProvider = nil
	cfg.BearerToken = strings.TrimPrefix(string(token.Header.Reveal()), "FlyV1 ")
	d.environment, d.namespace = "prod", "shop-prod"
	d.client, err = kubernetes.NewForConfig(cfg)
	return err
}

// answers asks the app as the world does.
func (d *demo) answers(ctx context.Context, at *flyPlace) error {
	d.title("The app answers at Fly's edge", "and forged status says where")
	service, err := d.client.CoreV1().Services(d.namespace).Get(ctx, release, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		d.say("load balancer: %s%s", ingress.Hostname, ingress.IP)
	}
	proxy, err := url.Parse(at.vars["FORGED_SANDBOX_PROXY"])
	if err != nil {
		return err
	}
	client, err := trusting(at.vars["FORGED_SANDBOX_CA"], proxy)
	if err != nil {
		return err
	}
	host := service.Status.LoadBalancer.Ingress[0].Hostname
	if err := ask(ctx, client, host); err != nil {
		return err
	}
	d.say("GET https://%s/health/ready: 200", host)
	if err := d.forged(ctx, at, "status", "--address", d.daemon.Address); err != nil {
		return err
	}
	d.title("Its domain is led there", "somebody sets the record that forged status shows")
	if err := at.meddles(ctx, http.MethodPost, "/_emulator/dns", fmt.Sprintf(`{%q: {"cname": %q}}`, flyDomain, host)); err != nil {
		return err
	}
	began := time.Now()
	err = child.Until(ctx, d.daemon.Child, 5*time.Minute, "an answer of "+flyDomain, func() (bool, error) {
		err := ask(ctx, client, flyDomain)
		return err == nil, err
	})
	if err != nil {
		return err
	}
	d.say("GET https://%s/health/ready: 200, after %.1f s", flyDomain, time.Since(began).Seconds())
	return d.ready(ctx)
}

// ask has no answer but that the app is well.
func ask(ctx context.Context, client *http.Client, host string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/health/ready", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers with %s", host, resp.Status)
	}
	return nil
}

// forged runs it as a person would, and shows what it prints. What the daemon has
// healed it writes down within some seconds: until then another forged may see
// that as undone.
func (d *demo) forged(ctx context.Context, at *flyPlace, args ...string) error {
	d.say("$ forged %s", strings.Join(args, " "))
	var text []byte
	err := child.Until(ctx, d.daemon.Child, 30*time.Second, "success of forged "+args[0], func() (bool, error) {
		cmd := exec.CommandContext(ctx, filepath.Join(d.bin, "forged"), args...)
		cmd.Env = append(os.Environ(), at.environ()...)
		var err error
		text, err = cmd.CombinedOutput()
		return err == nil, err
	})
	for line := range strings.Lines(string(bytes.TrimSpace(text))) {
		d.say("  %s", strings.TrimRight(line, "\n"))
	}
	return err
}

// changesNothing has a second forged look at all of it.
func (d *demo) changesNothing(ctx context.Context, at *flyPlace) error {
	d.title("A second look changes nothing", "forged plan ends with 0 when there is nothing to do")
	if err := d.ready(ctx); err != nil {
		return err
	}
	return d.forged(ctx, at, "plan", "--config", d.config)
}

// onFly makes a change at Fly, and waits until it is healed.
func (d *demo) onFly(ctx context.Context, what string, change func() error, kind string) error {
	began := time.Now()
	if err := change(); err != nil {
		return err
	}
	var healed reconcile.ActionStatus
	err := child.Until(ctx, d.daemon.Child, 5*time.Minute, what, func() (bool, error) {
		s, err := d.daemon.Status(ctx)
		if err != nil {
			return false, err
		}
		for _, a := range s.History {
			if a.ID.Kind == kind && a.Action == reconcile.ActionHeal && a.Error == "" && !a.At.Before(began.Truncate(time.Second)) {
				healed = a
				return true, nil
			}
		}
		return false, errors.New("not in the history")
	})
	if err != nil {
		return err
	}
	d.record(what, time.Since(began), healed.Reason)
	return d.ready(ctx)
}

// meddles is a request at Fly of somebody else.
func (at *flyPlace) meddles(ctx context.Context, method, path, body string) error {
	req, err := http.NewRequestWithContext(ctx, method, at.vars["FLY_API_BASE_URL"]+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+at.vars["FLY_API_TOKEN"])
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	return nil
}

// deleteCertificate is drift at Fly: in the app that is behind the cluster.
func (d *demo) deleteCertificate(ctx context.Context, at *flyPlace) error {
	d.title("Somebody deletes a certificate at Fly", "fly certs remove "+flyDomain)
	apps, err := at.api.Apps(ctx, "acme", "")
	if err != nil {
		return err
	}
	for _, app := range apps {
		if strings.HasPrefix(app.Name, "fks-") {
			return d.onFly(ctx, "certificate deleted", func() error { return at.api.DeleteCertificate(ctx, app.Name, flyDomain) }, forge.KindFlyCertificate)
		}
	}
	return errors.New("there is no app behind the cluster")
}

// changeRedis is drift of what a cluster uses.
func (d *demo) changeRedis(ctx context.Context, at *flyPlace) error {
	const name = "shop-prod-redis"
	d.title("Somebody switches off eviction of Redis", "fly redis update "+name)
	redis, err := at.api.AddOn(ctx, name, "upstash_redis")
	if err != nil {
		return err
	}
	return d.onFly(ctx, "eviction of Redis switched off", func() error {
		options := maps.Clone(redis.Options)
		options["eviction"] = false
		_, err := at.api.UpdateAddOn(ctx, api.UpdateAddOn{ID: redis.ID, Options: options})
		return err
	}, forge.KindUpstashRedis)
}

// outliveToken lets the hour pass for which a token opens the cluster.
func (d *demo) outliveToken(ctx context.Context, at *flyPlace) error {
	d.title("Every token expires", "two hours pass at Fly; then somebody scales the app")
	if err := at.meddles(ctx, http.MethodPost, "/_emulator/advance", `{"by":"2h"}`); err != nil {
		return err
	}
	return d.scaleDeployment(ctx)
}

// trusting is a client behind a proxy that trusts an authority.
func trusting(file string, proxy *url.URL) (*http.Client, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}}, nil
}
