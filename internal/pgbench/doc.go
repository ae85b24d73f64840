// Package pgbench measures reading and writing rows in PostgreSQL, with the keystore in
// PostgreSQL too, against the same statements on a table of plaintext. Each figure is a
// ratio of two measurements that alternate in one run, since machines are noisy.
//
//	go test ./internal/pgbench -bench . -run '^$' -subjects 1000000
package pgbench
