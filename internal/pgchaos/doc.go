// Package pgchaos holds no code, only tests: several real processes on one keystore in
// PostgreSQL, while processes are stopped and killed and the database is restarted and
// fails over. The processes are a crew; package crew says what is required of them.
//
// The processes run for a quarter of a minute, or for as long as -minutes says:
//
//	go test ./internal/pgchaos -run Processes -timeout 30m -args -minutes 10
package pgchaos
