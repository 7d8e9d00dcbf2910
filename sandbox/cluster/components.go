package cluster

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"forged.dev/forged/sandbox/process"
)

func (c *Cluster) startEtcd(ctx context.Context) error {
	began := time.Now()
	p, err := c.launch("etcd", nil, "--data-dir=etcd", "--socket=etcd.sock")
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.etcd = p
	c.mu.Unlock()
	return c.awaitReady(ctx, p, began)
}

func (c *Cluster) startServer(ctx context.Context) error {
	began, files := time.Now(), c.files
	inherited, err := c.listener.File()
	if err != nil {
		return err
	}
	defer inherited.Close()
	args := []string{
		"--etcd-servers=unix://etcd.sock", // relative to the working directory, as etcd's own
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(c.listener.Addr().(*net.TCPAddr).Port),
		"--advertise-address=" + c.cfg.Kind.advertised(),
		"--tls-cert-file=" + files.serverCert,
		"--tls-private-key-file=" + files.serverKey,
		"--client-ca-file=" + files.caCert,
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + files.accountKey,
		"--service-account-signing-key-file=" + files.accountKey,
		"--service-cluster-ip-range=" + c.cfg.Kind.Services,
		"--allow-privileged=true",
		"--profiling=false",
	}
	if files.tokens != "" {
		args = append(args, "--authentication-token-webhook-config-file="+files.tokens,
			"--authentication-token-webhook-version=v1", "--authentication-token-webhook-cache-ttl="+tokenCache.String())
	}
	p, err := c.launch("kube-apiserver", []*os.File{inherited}, args...)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.server = p
	c.mu.Unlock()
	err = wait.PollUntilContextCancel(ctx, bootPoll, true, func(ctx context.Context) (bool, error) {
		var status int
		// Until it answers there is nothing to watch, and no error worth telling:
		// a server that gives up ends ctx.
		c.client.CoreV1().RESTClient().Get().AbsPath("/readyz").Do(ctx).StatusCode(&status)
		return status == http.StatusOK, nil
	})
	if err != nil {
		return fmt.Errorf("kube-apiserver not ready: %w", err)
	}
	c.report("kube-apiserver", began)
	return nil
}

func (c *Cluster) startControllerManager(ctx context.Context, files *credentials, client kubernetes.Interface) error {
	began := time.Now()
	if err := removeRootCA(ctx, client); err != nil {
		return err
	}
	_, err := c.launchAsClient("kube-controller-manager", append([]string{
		"--kubeconfig=" + files.kubeconfig["kube-controller-manager"],
		"--service-account-private-key-file=" + files.accountKey,
		"--root-ca-file=" + files.caCert,
		"--cluster-signing-cert-file=" + files.caCert,
		"--cluster-signing-key-file=" + files.caKey,
		"--leader-elect=false",
		"--secure-port=0",
		"--profiling=false",
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
		// A machine under load may starve kwok for a while. Pods that are marked
		// unready for that reason would be a lie about the configuration.
		"--node-monitor-grace-period=10m",
		"--horizontal-pod-autoscaler-sync-period=5s",
	}, c.cfg.Kind.ControllerArgs...)...)
	if err != nil {
		return err
	}
	if err := awaitControllers(ctx, client); err != nil {
		return fmt.Errorf("kube-controller-manager not ready: %w", err)
	}
	c.report("kube-controller-manager", began)
	return nil
}

func (c *Cluster) startScheduler(ctx context.Context, files *credentials) error {
	return c.launchClientAndWait(ctx, "kube-scheduler",
		"--kubeconfig="+files.kubeconfig["kube-scheduler"],
		"--leader-elect=false",
		"--secure-port=0",
		"--profiling=false",
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
	)
}

// launch starts a component and ends the cluster if it ends by itself.
func (c *Cluster) launch(name string, files []*os.File, args ...string) (*process.Process, error) {
	p, err := process.Start(process.Spec{
		Name:  name,
		Exe:   c.cfg.Command[0],
		Args:  append(append(append([]string{}, c.cfg.Command[1:]...), name), args...),
		Dir:   c.cfg.DataDir,
		Log:   filepath.Join(c.cfg.LogDir, name+".log"),
		Files: files,
	})
	if err != nil {
		return nil, err
	}
	c.tasks.Go(func() {
		select {
		case <-p.Done():
			if err := p.Err(); err != nil { // nobody has asked it to
				c.cancel(err)
			}
		case <-c.ctx.Done():
		}
	})
	return p, nil
}

func (c *Cluster) launchClientAndWait(ctx context.Context, name string, args ...string) error {
	began := time.Now()
	p, err := c.launchAsClient(name, args...)
	if err != nil {
		return err
	}
	return c.awaitReady(ctx, p, began)
}

// launchAsClient launches a component that needs the API server, and therefore
// stops before it.
func (c *Cluster) launchAsClient(name string, args ...string) (*process.Process, error) {
	p, err := c.launch(name, nil, args...)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clients = append(c.clients, p)
	return p, nil
}

func (c *Cluster) awaitReady(ctx context.Context, p *process.Process, began time.Time) error {
	select {
	case <-p.Ready():
		c.report(p.Name(), began)
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s not ready: %w", p.Name(), context.Cause(ctx))
	}
}
