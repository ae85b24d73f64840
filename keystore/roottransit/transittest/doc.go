// Package transittest has only tests: they run roottransit against the last transit engine
// of Vault under the MPL, v1.14.8, alone behind a small HTTP server. The core of that Vault
// does not compile with any published sdk, so policies, tokens and the seal are tested with
// the core of v1.14.2, in enginetest.
//
// It is a module of its own: a build takes one version of Vault.
package transittest
