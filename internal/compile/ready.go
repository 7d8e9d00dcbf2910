package compile

import (
	"slices"

	"forged.dev/forged/internal/forge"
)

// Fly Kubernetes asks no probes, so that a pod that runs counts as ready. What
// fails at once without a server, such as a migration, waits for a process that
// has reached it.

const componentReady = "ready"

// The processes take the host of the server first.
const (
	postgresAsk = `
ask() { PGPASSWORD=$password PGCONNECT_TIMEOUT=5 psql -XqtA -h "$1" -U "$2" -d "$3" -c 'SELECT 1' > /dev/null; }`

	redisAsk = `
ask() { [ "$(REDISCLI_AUTH=$password redis-cli -h "$1" ping)" = PONG ]; }`

	untilAnswered = `
n=0
until ask "$@"; do
  n=$((n + 1))
  [ $n -lt 250 ] || { echo "$1 does not answer" >&2; exit 1; }
  sleep 2
done
`

	// The server of Temporal runs long before it does what is asked of it.
	temporalAsk = `
ask() { temporal operator cluster health; }`
)

// answers adds a process that ends when a server of ours does what its clients
// want of it.
func (c *clusterBuilder) answers(part, chart, name, image, ask string, args ...string) {
	if !c.onFKS() {
		return
	}
	entrypoint, arguments := shell(ask+untilAnswered, append([]string{name}, args...)...)
	c.add(part, c.resource(forge.KindJob, part+"-"+componentReady, forge.JobSpec{
		Process:   forge.Process{Image: image, Entrypoint: entrypoint, Args: arguments},
		Namespace: c.at.namespace, Name: name + "-" + componentReady,
		Labels:     mergeLabels(c.labels(), c.selector(chart, name, componentReady)),
		PullPolicy: "IfNotPresent", SecretNames: []string{name}, Resources: c.sizes.tools, Timeout: temporalJobTimeout, Rules: c.rules(), Pod: true,
	}, slices.Concat([]forge.ID{c.namespace, c.secrets}, c.ready[part])...))
}

// namespaceScript is what makes Temporal's namespace.
func (b builder) namespaceScript() string {
	if b.onFKS() {
		return temporalAsk + untilAnswered + temporalNamespaceScript
	}
	return temporalNamespaceScript
}
