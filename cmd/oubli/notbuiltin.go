//go:build !awskms || !gcpkms || !pkcs11

package main

// notBuiltIn refuses a root store whose driver this program was built without.
func notBuiltIn(tag string) error {
	return withHint(usagef("root store %s: this oubli was built without it", tag), "go build -tags %s builds it in", tag)
}
