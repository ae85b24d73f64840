package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/fieldcrypt/pgrows"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
	"github.com/oubli/oubli/keystore/rootfile"
)

// chinook is the Chinook database on a server of its own, with a keystore beside it and a
// folder to work in.
type chinook struct {
	t      *testing.T
	server *pgtest.Server
	dir    string
	env    []string
}

func newChinook(t *testing.T) *chinook {
	c := newShop(t)
	c.load("testdata/chinook/chinook-postgres.sql", c.server.DSN())
	c.useMap("testdata/chinook/oubli.yaml")
	return c
}

// newShop makes a server with a keystore and no other database.
func newShop(t *testing.T) *chinook {
	c := &chinook{t: t, server: pgtest.Start(t, nil), dir: t.TempDir()}
	c.env = append(os.Environ(), "OUBLI_KEYSTORE="+c.server.Database(t))
	c.oubli("init", "--lease", "500ms", "--grace", "1h")
	return c
}

// load runs a script of SQL.
func (c *chinook) load(file, dsn string) {
	c.t.Helper()
	file, err := filepath.Abs(file)
	require.NoError(c.t, err)
	c.program("psql", "-q", "-v", "ON_ERROR_STOP=1", "-o", os.DevNull, "-f", file, dsn)
}

// useMap makes a file the data map.
func (c *chinook) useMap(file string) {
	c.t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(c.t, err)
	require.NoError(c.t, os.WriteFile(filepath.Join(c.dir, "oubli.yaml"), text, 0o600))
}

// dsn is the URL of a database of the server.
func (c *chinook) dsn(database string) string {
	return strings.Replace(c.server.DSN(), "/postgres?", "/"+database+"?", 1)
}

// program runs a program of the server's version and returns what it wrote.
func (c *chinook) program(name string, args ...string) string {
	c.t.Helper()
	out, err := exec.Command(c.server.Bin(name), args...).CombinedOutput()
	require.NoError(c.t, err, "%s %v: %s", name, args, out)
	return string(out)
}

func (c *chinook) command(args ...string) *exec.Cmd {
	cmd := exec.Command("oubli", args...)
	cmd.Dir, cmd.Env = c.dir, c.env
	return cmd
}

// oubli runs the command line and returns what it wrote.
func (c *chinook) oubli(args ...string) string {
	c.t.Helper()
	out, err := c.command(args...).CombinedOutput()
	require.NoError(c.t, err, "oubli %v: %s", args, out)
	return string(out)
}

// fails runs the command line, which must fail.
func (c *chinook) fails(args ...string) string {
	c.t.Helper()
	out, err := c.command(args...).CombinedOutput()
	require.Error(c.t, err, "oubli %v: %s", args, out)
	return string(out)
}

// copy makes a copy of a database from a dump of it.
func (c *chinook) copy(from, to string) string {
	c.t.Helper()
	file := filepath.Join(c.dir, to+".sql")
	c.program("pg_dump", "-f", file, c.dsn(from))
	return c.restore(file, to)
}

func (c *chinook) restore(file, to string) string {
	c.t.Helper()
	c.program("createdb", "-T", "template0", "--maintenance-db="+c.server.DSN(), to)
	c.load(file, c.dsn(to))
	return c.dsn(to)
}

// dump is what pg_dump writes of a database, in an order of its own: rows move when they
// are updated.
func (c *chinook) dump(database string) []string {
	c.t.Helper()
	lines := strings.Split(c.program("pg_dump", c.dsn(database)), "\n")
	lines = slices.DeleteFunc(lines, func(line string) bool {
		return strings.HasPrefix(line, `\restrict `) || strings.HasPrefix(line, `\unrestrict `)
	})
	slices.Sort(lines)
	return lines
}

// turnover is what was sold in each country.
func (c *chinook) turnover(dsn string) string {
	return c.program("psql", "-At", "-c", "select billing_country, sum(total), count(*) from invoice group by 1 order by 1", dsn)
}

// adoptedCustomer is what the application makes of a customer while the adoption goes on.
type adoptedCustomer struct {
	ID        int64   `oubli:",subject=customer" db:"customer_id"`
	FirstName string  `oubli:"first_name,replace=Erased"`
	LastName  string  `oubli:"last_name,replace=Customer {id}"`
	Phone     *string `oubli:"phone"`
	Email     string  `oubli:"email,replace=customer-{id}@erased.invalid"`
	Country   *string
	Privacy   fieldcrypt.Status
}

// application is a program that works on the customers through a codec.
type adoptingApplication struct {
	customers *pgrows.Table[adoptedCustomer, int64]
	codec     *fieldcrypt.Codec[adoptedCustomer]
}

func (c *chinook) application(adopting ...string) *adoptingApplication {
	ctx := context.Background()
	keysDSN := strings.TrimPrefix(c.env[len(c.env)-1], "OUBLI_KEYSTORE=")
	b, err := pgstore.Open(ctx, keysDSN, nil)
	require.NoError(c.t, err)
	roots, err := rootfile.New([]string{filepath.Join(c.dir, "oubli.root")}, nil)
	require.NoError(c.t, err)
	keys, err := keystore.Open(ctx, b, roots, nil)
	require.NoError(c.t, err)
	c.t.Cleanup(func() { keys.Close() })
	pool, err := pgxpool.New(ctx, c.dsn("chinook"))
	require.NoError(c.t, err)
	c.t.Cleanup(pool.Close)
	codec, err := fieldcrypt.NewCodec[adoptedCustomer](keys, "customer", &fieldcrypt.Options{Adopting: adopting})
	require.NoError(c.t, err)
	customers, err := pgrows.New[adoptedCustomer, int64](pool, codec, nil)
	require.NoError(c.t, err)
	return &adoptingApplication{customers, codec}
}

// work writes and reads until stop is closed: it changes some customers, makes new ones,
// and reads all. In the end it puts everything back.
func (a *adoptingApplication) work(stop <-chan struct{}) (rounds int, err error) {
	ctx := context.Background()
	before := map[int64]adoptedCustomer{}
	for row, err := range a.customers.List(ctx) {
		if err != nil {
			return 0, err
		}
		before[row.ID] = row
	}
	const changed, first = 12, 1000
	for stopped := false; !stopped; rounds++ {
		select {
		case <-stop:
			stopped = true
		default:
		}
		id := int64(1 + rounds%changed)
		phone := fmt.Sprint("+00 ", rounds)
		if _, err := a.customers.UpdateFields(ctx, id, adoptedCustomer{Phone: &phone, Email: fmt.Sprint("round-", rounds)}, "phone", "email"); err != nil {
			return rounds, fmt.Errorf("update: %w", err)
		}
		row, err := a.customers.Get(ctx, id)
		if err != nil || *row.Phone != phone || row.FirstName != before[id].FirstName {
			return rounds, fmt.Errorf("customer %d reads phone %v, first name %q: %w", id, row.Phone, row.FirstName, err)
		}
		if _, err := a.customers.Create(ctx, adoptedCustomer{ID: int64(first + rounds), FirstName: "New", Email: phone}); err != nil {
			return rounds, fmt.Errorf("create: %w", err)
		}
		if rounds%10 != 0 {
			continue
		}
		for row, err := range a.customers.List(ctx) {
			if err != nil || row.ID < first && row.ID > changed && row.Email != before[row.ID].Email {
				return rounds, fmt.Errorf("customer %d reads email %q: %w", row.ID, row.Email, err)
			}
		}
	}
	for id := range rounds {
		if err := a.customers.Delete(ctx, int64(first+id)); err != nil {
			return rounds, err
		}
	}
	for id := range int64(changed) {
		row := before[id+1]
		if _, err := a.customers.UpdateFields(ctx, row.ID, row, "phone", "email"); err != nil {
			return rounds, err
		}
	}
	return rounds, nil
}

// The whole way on real data: adopted under a working application, enforced, two people
// erased, dumped and restored, reconciled, and left again.
func TestAdoptChinook(t *testing.T) {
	c := newChinook(t)
	db := c.dsn("chinook")
	c.env = append([]string{"OUBLI_DB=" + db}, c.env...)
	original, turnover := c.dump("chinook"), c.turnover(db)
	require.Contains(t, strings.Join(original, "\n"), "luisg@embraer.com.br")

	// A proposal that can be used as it is.
	c.oubli("adopt", "plan", "--write-map", "proposed.yaml")
	c.fails("adopt", "plan", "--write-map", "proposed.yaml")
	c.oubli("adopt", "plan", "--map", "proposed.yaml")
	plan := c.oubli("adopt", "plan")
	require.Contains(t, plan, "birth_date")
	require.Equal(t, original, c.dump("chinook"), "a plan changed something")
	require.Contains(t, c.fails("adopt", "enforce", "--yes"), "customer")

	c.oubli("adopt", "run", "--only-widen")
	app := c.application("first_name", "last_name", "phone", "email")
	stop, done := make(chan struct{}), make(chan error, 1)
	rounds := 0
	go func() {
		var err error
		rounds, err = app.work(stop)
		done <- err
	}()
	time.Sleep(200 * time.Millisecond) // it has read and written among plaintext
	c.oubli("adopt", "run")
	c.oubli("adopt", "verify")
	c.oubli("adopt", "run") // once more is nothing more
	report := c.oubli("adopt", "enforce", "--yes")
	require.Contains(t, report, "WAL")
	time.Sleep(100 * time.Millisecond)
	close(stop)
	require.NoError(t, <-done)
	t.Logf("%d rounds of the application; read as plaintext: %v", rounds, app.codec.Plaintext())
	require.Greater(t, rounds, 10)
	require.Contains(t, c.oubli("status"), "table customer: enforced at 20")
	require.NotContains(t, strings.Join(c.dump("chinook"), "\n"), "embraer")
	app = c.application() // from now on plaintext would be refused
	row, err := app.customers.Get(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, "luisg@embraer.com.br", row.Email)

	c.refusesPlaintext()

	// Two people.
	c.copy("chinook", "before")
	require.Contains(t, c.oubli("export", "customer/2"), "Köhler")
	c.oubli("anonymize", "customer/1", "customer/2", "--yes", "--actor", "officer")
	require.Equal(t, turnover, c.turnover(db))
	require.Contains(t, c.oubli("status", "customer/2"), "customer/2: erased")
	out := c.oubli("open", "customer")
	require.NotContains(t, out, "Köhler")
	require.Contains(t, out, "customer-2@erased.invalid")
	require.Contains(t, out, "Tremblay")
	require.Contains(t, c.program("psql", "-At", "-c", "select postal_code from customer where customer_id = 2", db), "~70", "what a statistic may keep")
	require.NotContains(t, c.oubli("export", "customer/2"), "Köhler")
	c.oubli("verify")

	// A dump of all that, in a database of its own.
	after := c.copy("chinook", "after")
	c.oubli("adopt", "verify", "--db", after)
	require.Contains(t, c.oubli("status", "--db", after), "table customer: enforced at 20")
	require.Equal(t, turnover, c.turnover(after))

	// The database came back from a backup of before.
	c.reconciles()
}

// refusesPlaintext writes plaintext in every usual way.
func (c *chinook) refusesPlaintext() {
	const secret = "mallory@example.org"
	log := filepath.Join(filepath.Dir(c.server.Dir()), "log")
	before, err := os.ReadFile(log)
	require.NoError(c.t, err)
	pool, err := pgxpool.New(c.t.Context(), c.dsn("chinook"))
	require.NoError(c.t, err)
	defer pool.Close()
	for sql, args := range map[string][]any{
		"update customer set email = $1 where customer_id = $2":                                                          {secret, 3},
		"update customer set last_name = $1, email = $1 where customer_id = $2":                                          {secret, 3},
		"insert into customer (customer_id, first_name, last_name, email) values ($2, $1, $1, $1)":                       {secret, 7777},
		"insert into employee (employee_id, first_name, last_name, birth_date) values ($2, null, null, $1)":              {secret, 7777},
		"update customer c set (phone, fax) = (select $1::text, e.phone from employee e limit 1) where customer_id = $2": {secret, 3},
	} {
		_, err := pool.Exec(c.t.Context(), sql, args...)
		require.Error(c.t, err, sql)
		require.NotContains(c.t, fmt.Sprintf("%+v", err), secret)
	}
	after, err := os.ReadFile(log)
	require.NoError(c.t, err)
	require.Contains(c.t, string(after[len(before):]), "sealed_text", "the server logs that it refused")
	require.NotContains(c.t, string(after[len(before):]), secret)
	_, err = pool.Exec(c.t.Context(), "update customer set email = '' where customer_id = 3")
	require.Error(c.t, err)
	_, err = pool.Exec(c.t.Context(), "update customer set phone = null where customer_id = 3")
	require.NoError(c.t, err)
}

// reconciles brings back a database from before two people were erased.
func (c *chinook) reconciles() {
	old := c.dsn("before")
	was := c.dump("before")
	require.Contains(c.t, c.oubli("reconcile", "--db", old, "--dry-run"), "to be blanked again")
	require.Equal(c.t, was, c.dump("before"))
	require.Contains(c.t, c.oubli("reconcile", "--db", old), "blanked again")
	require.NotContains(c.t, c.oubli("reconcile", "--db", old), "blanked again", "twice is once")
	require.NotContains(c.t, c.program("psql", "-At", "-c", "select email from customer where customer_id in (1, 2)", old), "oubli1.")
	require.Contains(c.t, c.oubli("open", "customer", "--db", old), "Tremblay")

	// With a keystore that knows nobody, nothing is blanked.
	was = c.dump("before")
	other := c.server.Database(c.t)
	c.oubli("init", "--keystore", other, "--root", "file:other.root", "--lease", "500ms")
	out := c.fails("reconcile", "--db", old, "--keystore", other, "--root", "file:other.root")
	require.Contains(c.t, out, "alarm: customer.")
	require.Equal(c.t, was, c.dump("before"))
	c.fails("reconcile", "--db", old, "--keystore", "postgres://postgres@127.0.0.1:1/none?connect_timeout=1")
	require.Equal(c.t, was, c.dump("before"))
}

// Nobody adopts what they cannot leave.
func TestUndoGivesBackChinook(t *testing.T) {
	c := newChinook(t)
	db := c.dsn("chinook")
	original := c.dump("chinook")
	c.oubli("adopt", "run", "--db", db)
	c.oubli("adopt", "enforce", "--db", db, "--yes")
	enforced := c.copy("chinook", "enforced")
	for _, database := range []string{db, enforced} {
		c.oubli("adopt", "undo", "--db", database, "--yes")
	}
	require.Equal(t, original, c.dump("chinook"))
	require.Equal(t, original, c.dump("enforced"))
	c.oubli("adopt", "undo", "--db", db, "--yes") // there is nothing to undo

	// From a run that ended early, too.
	cmd := c.command("adopt", "run", "--db", db)
	require.NoError(t, cmd.Start())
	time.Sleep(150 * time.Millisecond)
	cmd.Process.Kill()
	cmd.Wait()
	c.oubli("adopt", "undo", "--db", db, "--yes")
	require.Equal(t, original, c.dump("chinook"))
}

// Views, partitions, odd names and types: what the plan lets through goes all the way and
// comes back; what it does not is named before anything changed.
func TestAdoptASchemaThatFightsBack(t *testing.T) {
	const testdata = "internal/pgadopt/testdata/"
	c := newShop(t)
	c.program("createdb", "-T", "template0", "--maintenance-db="+c.server.DSN(), "shop")
	db := c.dsn("shop")
	c.load(testdata+"fights-back.sql", db)
	c.env = append([]string{"OUBLI_DB=" + db}, c.env...)
	original := c.dump("shop")

	c.useMap(testdata + "refused.yaml")
	for _, command := range [][]string{{"plan"}, {"run"}, {"enforce", "--yes"}} {
		out := c.fails(append([]string{"adopt"}, command...)...)
		if command[0] != "enforce" {
			require.Contains(t, out, "nothing was changed: ")
			require.Contains(t, out, "newsletter")
		}
	}
	require.Equal(t, original, c.dump("shop"))

	c.useMap(testdata + "fights-back.yaml")
	c.oubli("adopt", "plan")
	turnover := c.program("psql", "-At", "-c", `select * from "Shop".countries order by 1`, db)
	names := c.program("psql", "-At", "-c", `select "Id", born from "Shop"."Customer names" order by 1`, db)
	c.oubli("adopt", "run")
	c.oubli("adopt", "verify")
	c.oubli("adopt", "enforce", "--yes")
	require.Equal(t, turnover, c.program("psql", "-At", "-c", `select * from "Shop".countries order by 1`, db))
	require.NotEqual(t, names, c.program("psql", "-At", "-c", `select "Id", born from "Shop"."Customer names" order by 1`, db))
	c.oubli("adopt", "verify")
	copied := c.copy("shop", "copied")
	c.oubli("adopt", "undo", "--yes", "--db", copied)
	c.oubli("adopt", "undo", "--yes")
	audited := func(line string) bool {
		return strings.Contains(line, "\toubli1.") || strings.Contains(line, "audited.")
	}
	want := slices.DeleteFunc(original, audited) // the trigger that the map accepts copied what it saw
	require.Equal(t, want, slices.DeleteFunc(c.dump("shop"), audited))
	require.Equal(t, want, slices.DeleteFunc(c.dump("copied"), audited))
}
