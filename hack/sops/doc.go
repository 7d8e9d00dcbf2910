// Package sopscheck holds internal/secret/sops to the library of SOPS: files
// are encrypted by the one and read by the other. It is a module of its own so
// that the clients of five clouds, which the library needs, do not choose the
// versions that forged is built with.
package sopscheck
