package cluster

import (
	"net"
	"os"
	"path/filepath"

	"forged.dev/forged/sandbox/pki"
)

// credentials are the files the components read.
type credentials struct {
	caCert, caKey         string
	serverCert, serverKey string
	accountKey            string
	tokens                string            // leads to who knows bearer tokens; empty: nobody does
	kubeconfig            map[string]string // by component
}

func (c *Cluster) writeCredentials(dir string, addr *net.TCPAddr) (*credentials, error) {
	ca, err := pki.Load(dir)
	if err != nil {
		return nil, err
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	files := &credentials{
		caCert:     path("ca.crt"),
		caKey:      path("ca.key"),
		serverCert: path("kube-apiserver.crt"),
		serverKey:  path("kube-apiserver.key"),
		accountKey: path("service-accounts.key"),
		kubeconfig: map[string]string{},
	}
	if err := pki.LoadKey(files.accountKey); err != nil {
		return nil, err
	}
	cert, key, err := ca.Server(append([]string{
		"127.0.0.1", "localhost", c.cfg.Kind.serviceIP(), "kubernetes",
		"kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
	}, c.cfg.Kind.Hosts...)...)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(files.serverCert, cert, 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(files.serverKey, key, 0o600); err != nil {
		return nil, err
	}

	access := func(user string, groups ...string) (Access, error) {
		cert, key, err := ca.Client(user, groups...)
		return Access{
			Server:      "https://" + addr.String(),
			CA:          ca.CertPEM,
			Certificate: cert,
			KeyPEM:      key,
		}, err
	}
	if c.access, err = access("sandbox-admin", "system:masters"); err != nil {
		return nil, err
	}
	for _, component := range []struct {
		name, user string
		groups     []string
	}{
		// The controllers share one powerful identity: an account for each of
		// them would cost some forty token requests at every start.
		{"kube-controller-manager", "system:kube-controller-manager", []string{"system:masters"}},
		{"kube-scheduler", "system:kube-scheduler", nil},
		{"kwok", "sandbox-nodes", []string{"system:masters"}},
	} {
		a, err := access(component.user, component.groups...)
		if err != nil {
			return nil, err
		}
		file := path(component.name + ".kubeconfig")
		if err := a.write(file, c.cfg.Name); err != nil {
			return nil, err
		}
		files.kubeconfig[component.name] = file
	}
	if url := c.cfg.Kind.Tokens; url != "" {
		files.tokens = path("tokens.kubeconfig")
		if err := (Access{Server: url}).write(files.tokens, "tokens"); err != nil {
			return nil, err
		}
	}
	return files, nil
}
