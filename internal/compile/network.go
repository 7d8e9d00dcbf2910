package compile

import (
	"fmt"
	"net"
	"slices"
	"strconv"

	"forged.dev/forged/internal/forge"
)

// Levels of network policy.
const (
	networkBaseline = "baseline"
	networkStrict   = "strict"
)

const componentMigration = "migration"

func (b builder) restrictsNetwork() bool {
	return b.env.NetworkPolicy == networkBaseline || b.env.NetworkPolicy == networkStrict
}

// networkValues are what every chart is told. A key for the strict level is
// written only there: see addOptional.
func (b builder) networkValues() map[string]any {
	values := map[string]any{"enabled": b.restrictsNetwork()}
	if b.strictNetwork() {
		values["strict"] = true
	}
	return values
}

func (b builder) strictNetwork() bool { return b.env.NetworkPolicy == networkStrict }

func (b builder) clientsValues(service string) map[string]any {
	values := b.networkValues()
	values["clients"] = b.clients(service)
	return values
}

// clients are the labels of the workloads that are given the address of a
// backing service: the app, every worker, and what else is. Network policies
// let in these and nobody else. The charts' tests hold them against the pods
// as rendered.
func (b builder) clients(service string) []any {
	app := b.env.App.Name
	all := []map[string]string{b.selector(chartApp, app, "application")}
	var more []string
	for _, worker := range b.env.Workers {
		more = append(more, "worker-"+worker.Name)
	}
	if b.migrates() {
		more = append(more, componentMigration)
	}
	slices.Sort(more)
	for _, component := range more {
		all = append(all, b.selector(chartApp, app, component))
	}
	if b.onFKS() {
		switch service {
		case partPostgres:
			all = append(all, b.selector(chartPostgres, b.postgresName(), componentReady))
		case partRedis:
			all = append(all, b.selector(chartRedis, b.redisName(), componentReady))
		}
	}
	if b.hasTemporal() {
		switch service {
		case partPostgres:
			all = append(all, b.selector(chartTemporal, b.temporalName(), componentServer), b.selector(chartTemporal, b.temporalName(), componentSchema))
		case partTemporal:
			all = append(all, b.selector(chartTemporal, b.temporalName(), componentNamespace))
			if b.env.Services.Temporal.Web {
				all = append(all, b.selector(chartTemporal, b.temporalName(), componentWeb))
			}
		}
	}
	clients := make([]any, 0, len(all))
	for _, labels := range all {
		clients = append(clients, textMap(labels))
	}
	return clients
}

// egress is what a strict policy lets pods that use the services reach besides
// DNS: pods by their labels, or a port anywhere. The port of a service that
// only a secret names is the service's own.
func (b builder) egress(of ...string) []any {
	rules := []any{}
	to := func(labels map[string]string, port int) {
		rules = append(rules, map[string]any{"to": textMap(labels), "port": int64(port)})
	}
	services := b.env.Services
	for _, service := range []struct {
		mode, chart, name, component string
		port                         int
	}{
		{services.Postgres.Mode, chartPostgres, b.postgresName(), "database", portPostgres},
		{services.Redis.Mode, chartRedis, b.redisName(), "cache", portRedis},
		{services.Temporal.Mode, chartTemporal, b.temporalName(), componentServer, portTemporal},
	} {
		if !slices.Contains(of, service.chart) {
			continue
		}
		switch {
		case service.mode == forge.ModeInCluster:
			to(b.selector(service.chart, service.name, service.component), service.port)
		case service.mode != forge.ModeOff && service.mode != "":
			to(nil, portOf(services.Temporal.Address, service.chart, service.port))
		}
	}
	return rules
}

// portOf is the port of Temporal's address, or the usual one.
func portOf(address, chart string, usual int) int {
	if chart != chartTemporal {
		return usual
	}
	if _, port, err := net.SplitHostPort(address); err == nil {
		if n, err := strconv.Atoi(port); err == nil {
			return n
		}
	}
	return usual
}

func address(host string, port int) string { return fmt.Sprintf("%s:%d", host, port) }
