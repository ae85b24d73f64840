// Package pgoracle holds the tests that ask package oracle what an attacker learns who has
// every byte that real PostgreSQL servers ever wrote for a keystore: the data directory of
// the running and of the stopped server, base backups, the archived write-ahead log, a
// standby, a dump, and servers that were recovered to a point in the past.
package pgoracle
