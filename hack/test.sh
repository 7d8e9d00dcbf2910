#!/usr/bin/env bash
# Runs the tests of all modules; fails when any of them fails, but runs all.
# FORGED_SANDBOX_DIR must name a sandbox that is up: see with-sandbox.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

race=(-race)
if ! command -v "$(go env CC)" >/dev/null 2>&1; then
	echo "test: no C compiler, so the race detector is off" >&2
	race=()
fi

status=0
echo "== forged"
go test ${race[@]+"${race[@]}"} -timeout 60m ./... || status=1
echo "== sandbox"
(cd sandbox && go test ${race[@]+"${race[@]}"} -timeout 60m ./...) || status=1
exit $status
