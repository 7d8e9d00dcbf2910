//go:build !race

package component

import (
	"errors"
	"flag"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/server/v3/embed"

	"forged.dev/forged/sandbox/process"
)

// etcd serves the data directory on a Unix socket in the working directory.
// A socket needs no free port, and file permissions guard what would be an open
// door to every secret of the cluster on a port. The name is relative because a
// socket's path may have no more than about a hundred bytes.
func etcd(child *process.Child, args []string) error {
	flags := flag.NewFlagSet("etcd", flag.ContinueOnError)
	dataDir := flags.String("data-dir", "", "data directory")
	socket := flags.String("socket", "", "socket for clients, relative to the working directory")
	if err := flags.Parse(args); err != nil {
		return err
	}

	cfg := embed.NewConfig()
	cfg.Dir = *dataDir
	cfg.Name = "sandbox"
	cfg.LogLevel = "warn"
	// The zero value that the library leaves would log every single request.
	cfg.WarningUnaryRequestDuration = embed.DefaultWarningUnaryRequestDuration
	// The data need to survive the processes, not a power cut.
	cfg.UnsafeNoFsync = true
	cfg.EnableGRPCGateway = false
	cfg.ListenClientUrls = []url.URL{{Scheme: "unix", Host: *socket}}
	// The only member has no peers: this socket is there because etcd insists.
	cfg.ListenPeerUrls = []url.URL{{Scheme: "unix", Host: "peer-" + *socket}}
	// A single member advertises to nobody, but the URLs must be TCP ones.
	nowhere := url.URL{Scheme: "http", Host: "127.0.0.1:1"}
	cfg.AdvertiseClientUrls = []url.URL{nowhere}
	cfg.AdvertisePeerUrls = []url.URL{nowhere}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)

	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	defer server.Close()
	select {
	case <-server.Server.ReadyNotify():
		child.Ready()
	case <-server.Server.StopNotify():
		return errors.New("stopped before it was ready")
	case err := <-server.Err():
		return err
	case <-stop:
		return nil
	}
	select {
	case <-server.Server.StopNotify():
		return errors.New("stopped")
	case err := <-server.Err():
		return err
	case <-stop:
		return nil
	}
}
