#!/usr/bin/env bash
# Runs a command beside a sandbox of its own, and stops the sandbox with it:
#
#   hack/with-sandbox.sh COMMAND [ARG...]
#
# The command finds the sandbox through FORGED_SANDBOX_DIR, and through
# KUBECONFIG. Where FORGED_SANDBOX_DIR already names a sandbox that is up, that
# one is used and left alone. FORGED_SANDBOX_CLUSTERS says how many clusters it
# has (default 2), FORGED_SANDBOX_FKS how many of Fly Kubernetes there may be
# (default 4; one starts when a test asks for it), with a Fly that works fast.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
[ $# -gt 0 ] || { echo "usage: $0 COMMAND [ARG...]" >&2; exit 2; }

if [ -n "${FORGED_SANDBOX_DIR:-}" ] && [ -e "$FORGED_SANDBOX_DIR/ready" ]; then
	export KUBECONFIG=$FORGED_SANDBOX_DIR/kubeconfig
	exec "$@"
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/forged-sandbox.XXXXXX")
sandbox=
finish() {
	status=$?
	trap - EXIT
	if [ -n "$sandbox" ]; then
		kill "$sandbox" 2>/dev/null || true
		wait "$sandbox" 2>/dev/null || true
	fi
	if [ $status -eq 0 ]; then
		rm -rf "$dir"
	else
		echo "with-sandbox: the sandbox's logs are in $dir/logs" >&2
	fi
	exit $status
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

"$root/bin/forged-sandbox" up --dir "$dir" --clusters "${FORGED_SANDBOX_CLUSTERS:-2}" \
	--fks "${FORGED_SANDBOX_FKS:-4}" --fly-speed 60 --quiet --exit-with-parent &
sandbox=$!
limit=$((SECONDS + 180))
until [ -e "$dir/ready" ]; do
	kill -0 "$sandbox" 2>/dev/null || { echo "with-sandbox: the sandbox ended before it was up" >&2; exit 1; }
	[ $SECONDS -lt $limit ] || { echo "with-sandbox: the sandbox was not up within 3 minutes" >&2; exit 1; }
	sleep 0.1
done

export FORGED_SANDBOX_DIR=$dir KUBECONFIG=$dir/kubeconfig
"$@"
