// Package pgtest starts throwaway PostgreSQL servers for tests, from the binaries that
// are installed on the machine.
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
//	func TestSomething(t *testing.T) {
//		pool, err := pgxpool.New(t.Context(), pgtest.Shared(t).Database(t))
//		...
//	}
//
// [Shared] is one server for all the tests of a package; [Start] gives a test its own, to
// stop, kill, replicate and restore. A server listens on a port of 127.0.0.1, takes the
// superuser postgres without a password, and keeps fsync on: what a test finds durable is
// so. Its data directory is a copy of a template that initdb makes once per version and
// boot of the machine; that copy takes about 0.1 s. All of them have therefore the same
// system identifier. PostgreSQL refuses to run as root: as root, servers run as the user
// postgres, or nobody where there is no such user.
//
// # Where the binaries come from
//
// [Versions] looks into the directories of OUBLI_POSTGRES_BIN (a list as PATH), into PATH
// and where distributions put them (/usr/lib/postgresql/*/bin). scripts/test installs two
// major versions and pgbouncer. Where they are missing, or OUBLI_TEST_POSTGRES is "none",
// a test that asks for a server is skipped; this package's TestPostgreSQLIsInstalled then
// fails and names the packages of which tests did not run, unless it is "none". If
// OUBLI_TEST_POSTGRES is "required", as scripts/test sets it, such a test fails instead.
//
// # What is left behind
//
// Nothing. A server ends in the cleanup of the test that started it. When the test process
// dies of anything else, the kernel sends its servers SIGQUIT (PR_SET_PDEATHSIG), and a
// shell that waits for the end of the process removes their directories. What even that
// leaves, as after a loss of power, is removed by the next run. The templates stay in the
// temporary directory, 40 MB for each version, until the first run after the next boot.
//
// The servers run on Linux only; elsewhere none is found.
package pgtest
