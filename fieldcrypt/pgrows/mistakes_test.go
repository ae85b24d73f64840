package pgrows_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/fieldcrypt/pgrows"
	"github.com/oubli/oubli/keystore"
)

// misfit has fields that the table customers does not fit.
type misfit struct {
	ID      int64                      `oubli:",subject=customer"`
	Name    string                     `oubli:"name" db:"first_name"`
	Plan    fieldcrypt.Private[string] `oubli:"plan"`    // generated
	Visits  *string                    `oubli:"visits"`  // an integer
	Country []byte                     `oubli:"country"` // text
	Code    string                     `oubli:"code"`    // char(80)
	Shoe    int                        // no column
	Hat     int                        `db:"Cap"`    // no column
	Abroad  bool                       `db:"ACTIVE"` // fits but for its case
	Twofold int                        // fits two
	Privacy fieldcrypt.Status
}

const misfits = `CREATE TABLE misfits (id bigint PRIMARY KEY, first_name text, plan text GENERATED ALWAYS AS ('x') STORED,
	visits integer, country text, code char(80), active boolean, two_fold integer, twofo_ld integer)`

func TestWhatDoesNotFitIsNamed(t *testing.T) {
	w := newWorld(t)
	ctx := within(t)
	w.exec(misfits)
	codec, err := fieldcrypt.NewCodec[misfit](w.keys, "misfits", nil)
	require.NoError(t, err)
	table, err := pgrows.New[misfit, int64](w.pool, codec, nil)
	require.NoError(t, err)
	err = table.Check(ctx)
	require.ErrorIs(t, err, keystore.ErrInvalid)
	for _, want := range []string{
		"column plan is personal and computed by the database",
		"column visits is of type integer, which cannot hold an envelope",
		"column country is of type text, and a []byte holds a binary envelope",
		"column code is of type character(80), which cannot",
		"field Shoe has no column: add one, or name it with a db tag, as `db:\"shoe\"`",
		"field Hat has no column Cap, which its db tag names",
		"field Twofold fits several columns",
	} {
		require.ErrorContains(t, err, want)
	}
	require.NotContains(t, err.Error(), "Abroad")
	_, err = table.Get(ctx, 1)
	require.ErrorContains(t, err, "field Shoe has no column", "each call says so, too")

	gone, err := pgrows.New[customer, int64](w.pool, w.codec, &pgrows.Options{Name: pgx.Identifier{"nowhere", "customers"}})
	require.NoError(t, err)
	require.ErrorContains(t, gone.Check(ctx), `there is no table "nowhere"."customers"`)
	wrongID, err := pgrows.New[customer, string](w.pool, w.codec, nil)
	require.NoError(t, err)
	require.ErrorContains(t, wrongID.Check(ctx), "ids have type string, field ID has int64")
}

type noColumn struct {
	ID    int64   `oubli:",subject=customer" db:"-"`
	Name  string  `oubli:"name" db:"-"`
	Home  *inside // a pointer that is not embedded is one column
	First string  `oubli:"first" db:"same"`
	Other string  `oubli:"other" db:"same"`
	Inner struct {
		Key string `oubli:",key"`
	}
	Privacy fieldcrypt.Status
}

type inside struct {
	Street string `oubli:"street"`
}

func TestMistakesInTheTags(t *testing.T) {
	w := newWorld(t)
	codec, err := fieldcrypt.NewCodec[noColumn](w.keys, "x", nil)
	require.NoError(t, err)
	_, err = pgrows.New[noColumn, int64](w.pool, codec, nil)
	require.ErrorIs(t, err, keystore.ErrInvalid)
	for _, want := range []string{
		"the subject's id must be a column of its own", "Name is tagged oubli, and by its db tag it is no column",
		"the personal field name is in no column", "First and Other are both column same",
		"Inner holds the subject's id or the row's key",
	} {
		require.ErrorContains(t, err, want)
	}
	_, err = pgrows.New[customer, int64](nil, w.codec, nil)
	require.ErrorIs(t, err, keystore.ErrInvalid)
}

func TestKeysThatAreNotPrimary(t *testing.T) {
	w := newWorld(t)
	ctx := within(t)
	w.exec("CREATE TABLE keyless (id bigint NOT NULL, name text, tag text UNIQUE, code int NOT NULL)",
		"CREATE VIEW seen AS SELECT id, name, tag FROM keyless",
		"CREATE UNIQUE INDEX ON keyless (code) WHERE code > 5")
	codec, err := fieldcrypt.NewCodec[person[int64]](w.keys, "people", nil)
	require.NoError(t, err)
	check := func(table string, key ...string) error {
		p, err := pgrows.New[person[int64], int64](w.pool, codec, &pgrows.Options{Name: pgx.Identifier{table}, Key: key})
		require.NoError(t, err)
		if err = p.Check(ctx); err == nil {
			createAndGet(w, p, person[int64]{ID: 5, Name: "n", Tag: "t"})
			require.Len(t, all(t, p.List(ctx)), 1)
			w.exec("DELETE FROM keyless")
		}
		return err
	}
	w.exec("ALTER TABLE keyless ALTER code SET DEFAULT 1")
	require.ErrorContains(t, check("keyless"), "has no primary key: name the columns of a unique one in Options.Key")
	require.ErrorContains(t, check("keyless", "id"), "no unique index on (id) alone")
	require.ErrorContains(t, check("keyless", "tag"), "no unique index on (tag) alone whose columns are NOT NULL")
	require.ErrorContains(t, check("keyless", "code"), "no unique index")
	require.ErrorContains(t, check("seen"), "has no primary key")
	require.NoError(t, check("seen", "id"))
	w.exec("CREATE UNIQUE INDEX ON keyless (id) INCLUDE (name)")
	require.NoError(t, check("keyless", "id"))
}

func TestErrorsHoldNoValues(t *testing.T) {
	for name, m := range modes {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, mode(m))
			ctx := within(t)
			w.exec("ALTER TABLE customers ADD UNIQUE (country, plan)", "ALTER TABLE customers ADD CHECK (visits < 1000)",
				`ALTER TABLE `+w.invoiceTable().Sanitize()+` ALTER "Billing Text" TYPE varchar(50)`)
			const secret = "Lovelace"
			c := ada()
			c.Country, c.Plan, c.FirstName = secret, secret, secret
			c = w.create(c)
			check := func(err error, code, want string) {
				t.Helper()
				require.ErrorContains(t, err, want)
				require.NotContains(t, err.Error(), secret)
				if code != "" {
					var pg *pgconn.PgError
					require.ErrorAs(t, err, &pg)
					require.Equal(t, code, pg.Code)
				}
			}
			double := ada()
			double.Country, double.Plan = secret, secret
			_, err := w.customers.Create(ctx, double)
			check(err, "23505", `create "customers": ERROR: duplicate key value violates unique constraint "customers_country_plan_key"`)
			var pg *pgconn.PgError
			require.ErrorAs(t, err, &pg)
			require.Contains(t, pg.Detail, secret, "PostgreSQL says it there, which is why")
			double.Plan, double.Visits = "x", 5000
			_, err = w.customers.Create(ctx, double)
			check(err, "23514", "customers_visits_check")
			_, err = w.invoices.Create(ctx, invoice{Customer: 1, Text: secret})
			check(err, "22001", "make personal columns text or bytea")

			for _, err := range w.customers.Find(ctx, map[string]any{"visits": secret}) {
				check(err, "22P02", "invalid input syntax for type integer")
			}
			for _, err := range w.customers.Find(ctx, map[string]any{"visits": struct{ Name string }{secret}}) {
				check(err, "", `find "customers": `)
			}
			for _, err := range w.customers.Find(ctx, map[string]any{"visits": [][]string{{secret}}}) {
				check(err, "", `find "customers": `)
			}
		})
	}
}

func TestNamesAreNeverSQL(t *testing.T) {
	w := newWorld(t)
	ctx := within(t)
	evil := `x"; DROP TABLE customers; --`
	for _, err := range w.customers.Find(ctx, map[string]any{evil: 1}) {
		require.ErrorIs(t, err, keystore.ErrInvalid)
	}
	_, err := w.customers.UpdateFields(ctx, 1, ada(), evil)
	require.ErrorIs(t, err, keystore.ErrInvalid)
	require.ErrorIs(t, w.customers.SaveFields(ctx, ada(), []string{evil}), keystore.ErrInvalid)
	for _, o := range []pgrows.Options{{Name: pgx.Identifier{evil}}, {Name: pgx.Identifier{evil, "t'; --"}}, {Key: []string{evil}}} {
		table, err := pgrows.New[customer, int64](w.pool, w.codec, &o)
		require.NoError(t, err)
		require.ErrorIs(t, table.Check(ctx), keystore.ErrInvalid)
	}
	// Such a table can exist, and works.
	w.exec(`CREATE TABLE "x""; DROP TABLE customers; --'\" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "tag""'\; --" text, "na;me" text)`)
	type strange struct {
		ID      int64  `oubli:",subject=person"`
		Name    string `oubli:"name" db:"na;me"`
		Tag     string `db:"tag\"'\\; --"`
		Privacy fieldcrypt.Status
	}
	codec, err := fieldcrypt.NewCodec[strange](w.keys, "strange", nil)
	require.NoError(t, err)
	table, err := pgrows.New[strange, int64](w.pool, codec, &pgrows.Options{Name: pgx.Identifier{evil + `'\`}})
	require.NoError(t, err)
	s, err := table.Create(ctx, strange{Name: "n", Tag: evil})
	require.NoError(t, err)
	require.Equal(t, []strange{s}, all(t, table.Find(ctx, map[string]any{"Tag": evil, `tag"'\; --`: evil, "ID": s.ID})))
	require.NoError(t, w.customers.Check(ctx))
}

func TestATableThatWasAltered(t *testing.T) {
	w := newWorld(t, func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec })
	ctx := within(t)
	people := people[int64](w, "bigint")
	require.NoError(t, people.Check(ctx))
	name := fmt.Sprintf("people%d", worlds.Load())
	w.exec("ALTER TABLE " + name + ` RENAME tag TO "TAG"`)
	_, err := people.Get(ctx, 1)
	require.ErrorContains(t, err, "42703")
	_, err = people.Get(ctx, 1)
	require.ErrorIs(t, err, pgx.ErrNoRows, "it was looked at again")
}
