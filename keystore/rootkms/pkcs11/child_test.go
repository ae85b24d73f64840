//go:build cgo

package pkcs11

var childRoles = map[string]func(){}
