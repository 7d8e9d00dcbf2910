package fks

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// A kubeconfig of a person may lead anywhere. Whether it leads to the cluster that
// Fly knows is told by the certificate authority, which is each cluster's own, or
// else by the server's name. Where neither can be compared (Fly gives no
// kubeconfig out, or a proxy with a public certificate stands in front), the
// cluster is asked for its storage classes: those of Fly are documented, and
// classes of others alone are a sign of another cluster. Who has none, or does not
// tell, is believed.

// another says that a kubeconfig leads to another cluster than it should.
func another(spec forge.FlyClusterSpec, why string) error {
	return &reconcile.Error{
		Kind: reconcile.Invalid, Op: "use", Object: "platform.kubeconfig " + spec.Kubeconfig,
		Err: fmt.Errorf("it does not lead to cluster %s of organization %s: %s", spec.Name, spec.Account.Org, why),
		Hint: "leave platform.kubeconfig out, or write what \"fly ext kubernetes save-kubeconfig " + spec.Name +
			"\" gives out; for a proxy with a certificate of its own, write both authorities",
	}
}

// compared tells whether a kubeconfig of a person leads to the cluster that Fly
// gives another one out for. sure is false where that cannot be told; why it does
// not is empty where it does, or may.
func compared(given *rest.Config, fly secret.Value) (sure bool, why string) {
	theirs, _, err := fromFly(fly)
	if err != nil {
		return false, ""
	}
	mine, flys := authorities(given), authorities(theirs)
	switch {
	case len(mine) > 0 && len(flys) > 0:
		if slices.ContainsFunc(mine, func(c []byte) bool {
			return slices.ContainsFunc(flys, func(f []byte) bool { return bytes.Equal(c, f) })
		}) {
			return true, ""
		}
		return true, "it has another certificate authority, and its server is " + hostOf(given.Host) + " instead of " + hostOf(theirs.Host)
	case hostOf(given.Host) == hostOf(theirs.Host):
		return true, ""
	}
	return false, ""
}

// authorities are the certificates that a server is known by.
func authorities(cfg *rest.Config) (all [][]byte) {
	text := cfg.CAData
	if len(text) == 0 && cfg.CAFile != "" {
		text, _ = os.ReadFile(cfg.CAFile) // what cannot be read is told by who connects
	}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return all
		}
		if _, err := x509.ParseCertificate(block.Bytes); block.Type == "CERTIFICATE" && err == nil {
			all = append(all, block.Bytes)
		}
	}
}

// Of Fly's storage: Fly docs, Using volumes with FKS.
const (
	flyClasses     = "flyio-volume"
	flyProvisioner = "volume.csi.fly.io"
)

const (
	askLimit    = 10 * time.Second
	mostClasses = 1 << 20 // bytes of an answer
)

// unsure lets requests through to a cluster once that has no signs of being
// another one.
type unsure struct {
	next http.RoundTripper
	base string // URL of the server
	spec forge.FlyClusterSpec

	mu      sync.Mutex
	settled bool
	wrong   error
}

// RoundTrip implements http.RoundTripper.
func (u *unsure) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := u.ask(r); err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	return u.next.RoundTrip(r)
}

// ask asks the cluster as who sends a request, unless it has answered before.
func (u *unsure) ask(r *http.Request) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.settled {
		return u.wrong
	}
	at, err := url.JoinPath(u.base, "apis/storage.k8s.io/v1/storageclasses")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), askLimit)
	defer cancel()
	question, err := http.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody)
	if err != nil {
		return err
	}
	for name, values := range r.Header {
		if name == "Authorization" || name == "User-Agent" || strings.HasPrefix(name, "Impersonate-") {
			question.Header[name] = values
		}
	}
	question.Header.Set("Accept", "application/json")
	resp, err := u.next.RoundTrip(question)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, mostClasses))
	switch {
	case err != nil:
		return err
	case resp.StatusCode == http.StatusUnauthorized:
		return nil // so is what follows
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode >= http.StatusInternalServerError:
		return &reconcile.Error{
			Kind: reconcile.Unavailable, Op: "look at", Object: "cluster " + u.spec.Name,
			Err: errors.New("whether platform.kubeconfig leads there cannot be told: the server answers " + resp.Status),
		}
	case resp.StatusCode == http.StatusOK:
		if why := strange(text); why != "" {
			u.wrong = another(u.spec, why)
		}
	}
	u.settled = true
	return u.wrong
}

// WrappedRoundTripper lets client-go find the transport below.
func (u *unsure) WrappedRoundTripper() http.RoundTripper { return u.next }

// strange says why a cluster with these storage classes is not of Fly
// Kubernetes; empty: it is, or that cannot be told.
func strange(text []byte) string {
	var list struct {
		Items []struct {
			Metadata    struct{ Name string }
			Provisioner string
		}
	}
	if json.Unmarshal(text, &list) != nil || len(list.Items) == 0 {
		return ""
	}
	var others []string
	for _, class := range list.Items {
		if class.Provisioner == flyProvisioner || strings.HasPrefix(class.Metadata.Name, flyClasses) {
			return ""
		}
		others = append(others, class.Metadata.Name+" ("+class.Provisioner+")")
	}
	slices.Sort(others)
	return "what is there has none of Fly's storage classes, and others: " + strings.Join(others[:min(len(others), 3)], ", ")
}
