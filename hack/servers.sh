#!/usr/bin/env bash
# Installs the real servers that the charts' scripts are tested with: PostgreSQL
# and Redis, of the Debian they are run on. Does nothing where they are there.
set -euo pipefail

missing=()
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null 2>&1 || missing+=(postgresql)
command -v redis-server >/dev/null 2>&1 || missing+=(redis-server)
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
	echo "servers: install ${missing[*]} with the package manager of this machine" >&2
	exit 1
fi
run=()
[ "$(id -u)" -eq 0 ] || run=(sudo)
export DEBIAN_FRONTEND=noninteractive
${run[@]+"${run[@]}"} apt-get update -qq
${run[@]+"${run[@]}"} apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
echo "servers: installed ${missing[*]}"
