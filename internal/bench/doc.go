// Package bench measures the keystore on bbolt against hand-written floors, at any size.
// The floors do by hand what the keystore must do at least: the same gets, unwraps,
// ciphers, puts and commits, on a file of the same shape, without states, checks or
// crash safety across steps. Each figure is a ratio of two measurements that alternate
// in one run, since machines are noisy.
//
//	go test ./internal/bench -bench . -run '^$' -subjects 1000000
package bench
