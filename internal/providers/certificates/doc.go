// Package certificates looks after what encrypts the way in, and after what
// leads to it: certificates that forged signs, those of cert-manager and of
// Google, Secrets that somebody else fills, issuers, and the names in DNS.
//
// What is made here is made by need: a certificate that is good is kept. What
// others make is read from the status they write, watched and never polled
// for. A private key goes nowhere but into its Secret.
package certificates
