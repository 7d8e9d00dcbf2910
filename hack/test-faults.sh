#!/usr/bin/env bash
# The long tests: a kill after each single request where `make test` takes
# samples, bounds of memory as they are without the race detector, and short
# soaks. FORGED_SANDBOX_DIR must name a sandbox that is up: see with-sandbox.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

status=0
echo "== a kill after every request to a release"
go test -timeout 60m ./internal/providers/helm -run TestKilledAfterEveryRequest -every-kill || status=1
echo "== a kill of the daemon after every request"
go test -timeout 60m ./cmd/forged -run TestKilledProcess -every-kill || status=1
echo "== a kill after every request to Fly"
go test -timeout 30m ./cmd/forged -run TestKilledOnFly -every-kill || status=1
echo "== a kill after every request of forged apply on Fly Kubernetes"
go test -timeout 30m ./cmd/forged -run TestKilledOnFKS -every-kill || status=1
echo "== bounds of time and memory"
go test -timeout 30m ./cmd/forged -run TestHostile || status=1
echo "== soak"
go run ./hack/soak -for "${FORGED_SOAK:-2m}" || status=1
echo "== soak on Fly"
go run ./hack/soak/fly -for "${FORGED_SOAK:-2m}" || status=1
echo "== soak on Fly Kubernetes"
go run ./hack/soak/fks -for "${FORGED_SOAK:-2m}" || status=1
exit $status
