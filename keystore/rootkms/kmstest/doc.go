// Package kmstest is for those who write and test drivers of package rootkms: the suite
// that every [rootkms.Keys] passes, the one for every [rootkms.Shelf], a key management
// service in memory to test against, and short ways to call a driver and to lead a keystore's
// life on it.
package kmstest
