package pgtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
)

// places is where distributions install PostgreSQL outside of PATH, and pgbouncer.
var places = []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin", "/usr/sbin"}

// install is one PostgreSQL that was found.
type install struct {
	major   int
	version string // as "postgres --version" prints it
	bin     string // the directory of its binaries
}

// Versions returns the major versions that are installed, ascending; none where the tests
// are to run without PostgreSQL.
func Versions() []int {
	var majors []int
	for _, in := range installs() {
		majors = append(majors, in.major)
	}
	return majors
}

// installs finds each major version once, ascending. It starts each "postgres --version"
// that there is, so it does so once in a process.
var installs = sync.OnceValue(func() []install {
	var found []install
	if !supported || os.Getenv("OUBLI_TEST_POSTGRES") == "none" {
		return nil
	}
	for _, dir := range binDirs() {
		in, ok := inspect(dir)
		known := func(other install) bool { return other.major == in.major }
		if ok && !slices.ContainsFunc(found, known) {
			found = append(found, in)
		}
	}
	slices.SortFunc(found, func(a, b install) int { return a.major - b.major })
	return found
})

// binDirs returns the directories in which binaries may be, the preferred first.
func binDirs() []string {
	dirs := filepath.SplitList(os.Getenv("OUBLI_POSTGRES_BIN"))
	dirs = append(dirs, filepath.SplitList(os.Getenv("PATH"))...)
	for _, pattern := range places {
		more, _ := filepath.Glob(pattern)
		dirs = append(dirs, more...)
	}
	return dirs
}

// inspect says which PostgreSQL the directory holds, if it holds a server.
func inspect(dir string) (install, bool) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return install{}, false
	}
	// A directory of PATH may hold links to some of the programs.
	postgres, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
	in := install{bin: filepath.Dir(postgres)}
	if err != nil || !executable(postgres) || !executable(filepath.Join(in.bin, "initdb")) {
		return install{}, false
	}
	out, err := exec.Command(postgres, "--version").Output()
	match := regexp.MustCompile(`\(PostgreSQL\) (\d+)`).FindSubmatch(out)
	if err != nil || match == nil {
		return install{}, false
	}
	in.version = string(out)
	in.major, err = strconv.Atoi(string(match[1]))
	return in, err == nil
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// pgbouncer returns the path of pgbouncer, or "".
func pgbouncer() string {
	if os.Getenv("OUBLI_TEST_POSTGRES") == "none" {
		return ""
	}
	for _, dir := range binDirs() {
		if path := filepath.Join(dir, "pgbouncer"); executable(path) {
			return path
		}
	}
	return ""
}

// EachVersion runs a test once for each of [Versions], as a subtest. Where there is none,
// the test ends as one that asks for a server.
func EachVersion(t *testing.T, test func(t *testing.T, version int)) {
	t.Helper()
	choose(t, 0)
	for _, version := range Versions() {
		t.Run("PostgreSQL"+strconv.Itoa(version), func(t *testing.T) { test(t, version) })
	}
}

// choose returns the install of a major version, 0 for the first; without it, the test
// ends here.
func choose(t testing.TB, major int) install {
	t.Helper()
	for _, in := range installs() {
		if major == 0 || in.major == major {
			return in
		}
	}
	name := "PostgreSQL"
	if major != 0 {
		name += " " + strconv.Itoa(major)
	}
	missing(t, name)
	return install{}
}

// missing ends a test for which a program is not installed.
func missing(t testing.TB, program string) {
	t.Helper()
	if os.Getenv("OUBLI_TEST_POSTGRES") == "required" {
		t.Fatalf("%s is not installed; scripts/test installs what the tests need", program)
	}
	t.Skipf("NOT TESTED: %s is not installed; scripts/test installs what the tests need", program)
}
