// Package kmstest is for those who write and test drivers of package rootkms: the suite
// that every [rootkms.Keys] passes, the one for every [rootkms.Shelf], and a key management
// service in memory to test against.
package kmstest
