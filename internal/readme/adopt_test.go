package readme

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/fieldcrypt/pgrows"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
	"github.com/oubli/oubli/keystore/rootfile"
)

// adopter follows docs/adopt.md in a directory, on a database with customers in the clear.
type adopter struct {
	*testing.T
	dir  string
	text string
	pool *pgxpool.Pool
	keys *keystore.Store
}

// customer is what the document's data map and codec are about.
type customer struct {
	ID      int64   `oubli:",subject=customer"`
	Name    string  `oubli:"name,replace=Erased"`
	Email   *string `oubli:"email"`
	Country string
	Privacy fieldcrypt.Status
}

func newAdopter(t *testing.T) *adopter {
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	raw, err := os.ReadFile(filepath.Join(root, "docs", "adopt.md"))
	require.NoError(t, err)
	a := &adopter{T: t, dir: t.TempDir(), text: string(raw)}
	run(t, root, "go", "build", "-C", "cmd/oubli", "-o", filepath.Join(a.dir, "oubli"), ".")

	server := pgtest.Shared(t)
	settings := map[string]string{"OUBLI_DB": server.Database(t), "OUBLI_KEYSTORE": server.Database(t), "OUBLI_ROOT": "file:" + filepath.Join(a.dir, "oubli.root")}
	for name, value := range settings {
		require.Contains(t, block(t, a.text, "## The way in", "sh"), "export "+name+"=")
		t.Setenv(name, value)
	}
	a.pool, err = pgxpool.New(t.Context(), settings["OUBLI_DB"])
	require.NoError(t, err)
	t.Cleanup(a.pool.Close)
	a.exec(`CREATE TABLE customers (id bigint PRIMARY KEY, name varchar(40) NOT NULL, email varchar(60), country text);
INSERT INTO customers SELECT i, 'Ada ' || i, 'ada' || i || '@example.org', 'GB' FROM generate_series(1, 500) i`)
	return a
}

func (a *adopter) exec(sql string) {
	a.Helper()
	_, err := a.pool.Exec(a.Context(), sql)
	require.NoError(a, err)
}

// commands are those of the block behind a sentence, without their comments.
func (a *adopter) commands(behind string) (list []string) {
	a.Helper()
	for line := range strings.Lines(block(a.T, a.text, behind, "sh")) {
		command, _, _ := strings.Cut(line, "#")
		if command = strings.TrimSpace(command); command != "" && !strings.HasPrefix(command, "export ") {
			list = append(list, command)
		}
	}
	return list
}

// oubli runs a command as it stands in the document. There is no terminal to ask on.
func (a *adopter) oubli(command string) string {
	a.Helper()
	words := strings.Fields(command)
	require.Equal(a, "oubli", words[0])
	if strings.HasSuffix(command, "enforce") || strings.HasSuffix(command, "undo") || strings.HasSuffix(command, "--plaintext") {
		words = append(words, "--yes")
	}
	return run(a.T, a.dir, filepath.Join(a.dir, "oubli"), words[1:]...)
}

// open opens the keystore as an application does.
func (a *adopter) open() {
	a.Helper()
	db, err := pgstore.Open(a.Context(), os.Getenv("OUBLI_KEYSTORE"), nil)
	require.NoError(a, err)
	root, err := rootfile.New([]string{filepath.Join(a.dir, "oubli.root")}, nil)
	require.NoError(a, err)
	a.keys, err = keystore.Open(a.Context(), db, root, nil)
	require.NoError(a, err)
	a.Cleanup(func() { _ = a.keys.Close() })
}

// customers are the table in the eyes of an application.
func (a *adopter) customers(o *fieldcrypt.Options) (*pgrows.Table[customer, int64], *fieldcrypt.Codec[customer]) {
	a.Helper()
	codec, err := fieldcrypt.NewCodec[customer](a.keys, "customers", o)
	require.NoError(a, err)
	table, err := pgrows.New[customer, int64](a.pool, codec, nil)
	require.NoError(a, err)
	return table, codec
}

// sealed counts the rows with an envelope, looking past every codec.
func (a *adopter) sealed(column string) (n int) {
	a.Helper()
	require.NoError(a, a.pool.QueryRow(a.Context(), "SELECT count(*) FROM customers WHERE "+column+" LIKE 'oubli1.%'").Scan(&n))
	return n
}

func TestAdoptDocument(t *testing.T) {
	a := newAdopter(t)
	ctx := t.Context()
	for _, command := range a.commands("## The way in") {
		a.oubli(command)
	}
	a.open()
	adopting := &fieldcrypt.Options{Adopting: []string{"name", "email"}}
	require.Contains(t, block(t, a.text, "In Go the declaration", "go"), `Adopting: []string{"name", "email"}`)

	way := a.commands("not to a pooler")
	for i, command := range way {
		a.oubli(command)
		switch {
		case strings.Contains(command, "--write-map"):
			require.FileExists(t, filepath.Join(a.dir, "oubli.yaml"))
			corrected := block(t, a.text, "must be those of your structs", "yaml")
			require.NoError(t, os.WriteFile(filepath.Join(a.dir, "oubli.yaml"), []byte(corrected), 0o600))
		case strings.Contains(command, "--only-widen"):
			require.Zero(t, a.sealed("name"))
			a.firstRow(ctx, adopting)
		case strings.HasSuffix(command, "adopt run"):
			require.Equal(t, 501, a.sealed("name"))
			require.Equal(t, 501, a.sealed("email"))
		}
		require.Less(t, i, 6)
	}
	require.Len(t, way, 6)

	_, err := a.pool.Exec(ctx, "UPDATE customers SET name = 'Eve' WHERE id = 7")
	require.ErrorContains(t, err, "sealed_text", "the columns take nothing else any more")
	customers, _ := a.customers(nil)
	ada, err := customers.Get(ctx, 7)
	require.NoError(t, err, "the declaration is taken away")
	require.Equal(t, "Ada 7", ada.Name)

	a.oubli("oubli anonymize customer/7 customer/8 --yes")
	require.Contains(t, a.oubli("oubli export customer/9"), "ada9@example.org")
	require.NotContains(t, a.oubli("oubli open customers"), "ada7@")
	a.oubli("oubli reconcile")
	a.oubli("oubli adopt undo")
	var erased, names int
	require.NoError(t, a.pool.QueryRow(ctx, `SELECT count(*) FILTER (WHERE name = 'Erased' AND email IS NULL), count(*) FILTER (WHERE name = 'Ada ' || id AND email = 'ada' || id || '@example.org')
FROM customers`).Scan(&erased, &names))
	require.Equal(t, 2, erased)
	require.Equal(t, 499, names)

	a.oldBackup()
}

// firstRow is the new application's first: what it wrote must open by the map.
func (a *adopter) firstRow(ctx context.Context, o *fieldcrypt.Options) {
	a.Helper()
	customers, codec := a.customers(o)
	ada, err := customers.Get(ctx, 7)
	require.NoError(a, err)
	require.Equal(a, "Ada 7", ada.Name)
	require.Equal(a, map[string]int64{"name": 1, "email": 1}, codec.Plaintext())
	email := "ada501@example.org"
	_, err = customers.Create(ctx, customer{ID: 501, Name: "Ada 501", Email: &email})
	require.NoError(a, err)

	verify := exec.CommandContext(ctx, filepath.Join(a.dir, "oubli"), "adopt", "verify")
	verify.Dir = a.dir
	out, err := verify.Output()
	require.Error(a, err, "there is plaintext")
	require.Contains(a, string(out), "name: 1 sealed, 500 PLAINTEXT\n")
	require.NotContains(a, string(out), "NOT AUTHENTIC")
}

// oldBackup brings a table from before the adoption back, as a backup would, and follows
// what the document says of that.
func (a *adopter) oldBackup() {
	a.Helper()
	a.exec(`DROP TABLE customers; CREATE TABLE customers (id bigint PRIMARY KEY, name varchar(10) NOT NULL, email varchar(60), country text);
INSERT INTO customers SELECT i, 'Ada ' || i, 'ada' || i || '@example.org', 'GB' FROM generate_series(1, 500) i`)
	for _, command := range a.commands("**A backup from before the adoption**") {
		a.oubli(command)
	}
	var left int
	require.NoError(a, a.pool.QueryRow(a.Context(), "SELECT count(*) FROM customers WHERE id IN (7, 8) AND (name LIKE 'Ada%' OR email IS NOT NULL)").Scan(&left))
	require.Zero(a, left)
	a.oubli("oubli adopt run")
	require.Equal(a, 498, a.sealed("name"))
}
