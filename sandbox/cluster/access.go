package cluster

import (
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Access is what a client needs to reach a cluster as its administrator.
type Access struct {
	Server                  string
	CA, Certificate, KeyPEM []byte
}

// AddTo adds the cluster to a kubeconfig, as the context of the given name.
// The credentials stand in the file itself, so that it works from anywhere.
func (a Access) AddTo(config *clientcmdapi.Config, name string) {
	config.Clusters[name] = &clientcmdapi.Cluster{
		Server:                   a.Server,
		CertificateAuthorityData: a.CA,
	}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{
		ClientCertificateData: a.Certificate,
		ClientKeyData:         a.KeyPEM,
	}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name, Namespace: "default"}
}

// rest returns a client configuration. The API server does its own fairness, so
// the client does not hold itself back.
func (a Access) rest() *rest.Config {
	return &rest.Config{
		Host:      a.Server,
		QPS:       -1,
		UserAgent: "forged-sandbox",
		TLSClientConfig: rest.TLSClientConfig{
			CAData:   a.CA,
			CertData: a.Certificate,
			KeyData:  a.KeyPEM,
		},
	}
}

// write stores the access as a kubeconfig of its own, for one component.
func (a Access) write(path, name string) error {
	config := clientcmdapi.NewConfig()
	a.AddTo(config, name)
	config.CurrentContext = name
	return clientcmd.WriteToFile(*config, path)
}
