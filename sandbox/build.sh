#!/bin/sh
# Builds forged-sandbox.
#
#   sandbox/build.sh [OUTPUT]      OUTPUT: bin/forged-sandbox in the repository
#
# The version must be stamped in by hand: without it the API server calls itself
# v0.0.0 and Helm, among others, refuses to work with it. It is the version of
# the module k8s.io/kubernetes, so that go.mod alone decides it.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
output=${1:-$here/../bin/forged-sandbox}
case $output in
/*) ;;
*) output=$PWD/$output ;;
esac

cd "$here"
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes) # v1.36.3
major=${version#v}
major=${major%%.*}
minor=${version#*.}
minor=${minor%%.*}
package=k8s.io/component-base/version

exec go build -trimpath -o "$output" -ldflags "-s -w \
	-X $package.gitVersion=$version \
	-X $package.gitMajor=$major \
	-X $package.gitMinor=$minor" .
