package fks

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
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
	askPause    = 5 * time.Second // after there was no answer
	askWrong    = time.Minute     // after one that has it another cluster
	mostClasses = 1 << 20         // bytes of an answer
)

// verdict is what is known of where a kubeconfig leads.
type verdict struct {
	of   [sha256.Size]byte // the kubeconfig, and what it is for
	turn chan struct{}     // lock around asking

	mu      sync.Mutex
	settled bool  // there are no signs of another cluster
	err     error // there are, or there was no answer
	until   time.Time
}

func newVerdict(of [sha256.Size]byte) *verdict {
	return &verdict{of: of, turn: make(chan struct{}, 1)}
}

// known tells whether nobody is to be asked now.
func (v *verdict) known() (bool, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.settled {
		return true, nil
	}
	return v.err != nil && time.Now().Before(v.until), v.err
}

func (v *verdict) settle() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.settled = true
}

// not says for how long there is no need to ask again.
func (v *verdict) not(err error, pause time.Duration) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.err, v.until = err, time.Now().Add(pause)
	return err
}

// unsure lets requests through to a cluster once that has no signs of being
// another one.
type unsure struct {
	next http.RoundTripper
	base string // URL of the server
	spec forge.FlyClusterSpec
	*verdict
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

// ask asks the cluster as who sends a request, unless it has answered before. One
// asks at a time, and for all who wait.
func (u *unsure) ask(r *http.Request) error {
	if known, err := u.known(); known {
		return err
	}
	select {
	case u.turn <- struct{}{}:
	case <-r.Context().Done():
		return r.Context().Err()
	}
	defer func() { <-u.turn }()
	if known, err := u.known(); known {
		return err
	}
	status, text, err := u.classes(r)
	switch {
	case err != nil && r.Context().Err() != nil:
		return err // it says nothing about the cluster
	case err != nil:
		return u.not(err, askPause)
	case status == http.StatusUnauthorized:
		return nil // so is what follows
	case status == http.StatusTooManyRequests, status >= http.StatusInternalServerError:
		return u.not(&reconcile.Error{
			Kind: reconcile.Unavailable, Op: "look at", Object: "cluster " + u.spec.Name,
			Err: fmt.Errorf("whether platform.kubeconfig leads there cannot be told: the server answers %d %s", status, http.StatusText(status)),
		}, askPause)
	case status == http.StatusOK:
		if why := strange(text); why != "" {
			return u.not(another(u.spec, why), askWrong)
		}
	}
	u.settle()
	return nil
}

// classes reads the storage classes.
func (u *unsure) classes(r *http.Request) (status int, text []byte, err error) {
	at, err := url.JoinPath(u.base, "apis/storage.k8s.io/v1/storageclasses")
	if err != nil {
		return 0, nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), askLimit)
	defer cancel()
	question, err := http.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	for name, values := range r.Header {
		if name == "Authorization" || name == "User-Agent" || strings.HasPrefix(name, "Impersonate-") {
			question.Header[name] = values
		}
	}
	question.Header.Set("Accept", "application/json")
	resp, err := u.next.RoundTrip(question)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(io.LimitReader(resp.Body, mostClasses))
	return resp.StatusCode, text, err
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
