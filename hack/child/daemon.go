package child

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"forged.dev/forged/internal/reconcile"
)

// Daemon is a forged that runs.
type Daemon struct {
	*Child
	Address string // of its server
}

// StartDaemon starts forged run on a config, with a server on a free port.
func (p Place) StartDaemon(ctx context.Context, name string, env []string, config string, flags ...string) (*Daemon, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &Daemon{Address: l.Addr().String()}
	if err := l.Close(); err != nil {
		return nil, err
	}
	d.Child, err = p.Start(name, env, append([]string{"forged", "run", "--config", config, "--listen", d.Address}, flags...)...)
	return d, err
}

// Get asks the server for a page.
func (d *Daemon) Get(ctx context.Context, path string) (io.ReadCloser, error) {
	return d.ask(ctx, http.MethodGet, path)
}

func (d *Daemon) ask(ctx context.Context, method, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+d.Address+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		return nil, fmt.Errorf("%s: %s: %s", path, resp.Status, text)
	}
	return resp.Body, nil
}

// Status is what it says of its environments.
func (d *Daemon) Status(ctx context.Context) (status reconcile.Status, err error) {
	body, err := d.Get(ctx, "/status")
	if err != nil {
		return status, err
	}
	defer body.Close()
	return status, json.NewDecoder(body).Decode(&status)
}

// Reload asks for everything to be looked at again.
func (d *Daemon) Reload(ctx context.Context) error {
	body, err := d.ask(ctx, http.MethodPost, "/-/reload")
	if err != nil {
		return err
	}
	return body.Close()
}

// Metric is the sum of all samples of a metric; missing says what it is if
// there are none, and is an error if it is negative.
func (d *Daemon) Metric(ctx context.Context, name string, missing float64) (sum float64, err error) {
	body, err := d.Get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	defer body.Close()
	found := false
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, name+"{") && !strings.HasPrefix(line, name+" ") {
			continue
		}
		var value float64
		if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &value); err != nil {
			return 0, fmt.Errorf("metric %s: %w", name, err)
		}
		sum, found = sum+value, true
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	if !found {
		if missing < 0 {
			return 0, fmt.Errorf("no metric %s", name)
		}
		return missing, nil
	}
	return sum, nil
}
