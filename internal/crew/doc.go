// Package crew runs several real processes on one keystore in PostgreSQL, for tests that
// kill them, cut them off and restart what they use. It is Linux's alone.
//
//	func TestMain(m *testing.M) { crew.Main(m, openRoots) }
//
// The processes are the test binary itself, started again. Each reads, writes, rotates,
// erases and advances, and appends what happened to it to a journal of its own, with the
// machine's boot time, which all of them share. What a process wrote to its journal
// outlives its SIGKILL. When all is over the journals are judged together:
//
//   - Nobody opens a subject, or gets a key to write for it, once its erasure returned.
//   - Nobody else loses a byte: each row of a living subject opens and holds what was
//     written, where the database said that it was.
//   - Nothing reads as erased that nobody asked to erase; an outage reads as an outage.
//   - At rest the keystore verifies, one root lives, and every erasure is final.
package crew
