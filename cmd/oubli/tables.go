package main

import (
	"context"
	"errors"
	"io/fs"
	"runtime/debug"

	"github.com/oubli/oubli/cmd/oubli/internal/datamap"
	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/keystore"
)

// tables are those of the data map, in the application's database.
type tables struct {
	db      *pgmap.Pool
	m       *datamap.Map
	list    []*pgmap.Table
	records map[string]*pgadopt.Record // of adoptions, by logical name
}

// withTables connects to the database, finds the tables there and calls f.
func (a *app) withTables(ctx context.Context, f func(*tables) error) error {
	m, err := datamap.Load(a.mapFile)
	if errors.Is(err, fs.ErrNotExist) {
		return withHint(err, "--map names another; oubli adopt plan --write-map %s proposes one", a.mapFile)
	}
	if err != nil {
		return err
	}
	return a.withDB(ctx, func(db *pgmap.Pool) error {
		if a.allowAt {
			m.AllowAt()
		}
		t, err := lookFor(ctx, db, m)
		if err != nil {
			return err
		}
		return f(t)
	})
}

// lookFor finds the tables of a data map.
func lookFor(ctx context.Context, db *pgmap.Pool, m *datamap.Map) (t *tables, err error) {
	t = &tables{db: db, m: m}
	if t.list, err = pgmap.Load(ctx, db, m); err != nil {
		return nil, err
	}
	if t.records, err = pgadopt.Records(ctx, db); err != nil {
		return nil, err
	}
	return t, nil
}

// withTablesToo is withTables for commands that look at a keystore, and at tables if a
// database is named: somebody may not think of what the environment names.
func (a *app) withTablesToo(ctx context.Context, f func(*tables) error) error {
	found := false
	err := a.withTables(ctx, func(t *tables) error { found = true; return f(t) })
	if err != nil && !found && a.given("db") == "" {
		return withHint(err, "OUBLI_DB names a database; with --db= the keystore alone is looked at")
	}
	return err
}

// withDB connects to the application's database and calls f.
func (a *app) withDB(ctx context.Context, f func(*pgmap.Pool) error) error {
	if a.db == "" {
		return withHint(usagef("which database? write --db postgres://USER@HOST/DATABASE, or OUBLI_DB"), "the password stands in PGPASSWORD or ~/.pgpass")
	}
	if err := checkURL("database", a.db); err != nil {
		return err
	}
	db, err := pgmap.Connect(ctx, a.db)
	if err != nil {
		return asUsage(err)
	}
	defer db.Close()
	return f(db)
}

// walks prepares for a walk through all rows: nobody's keys are asked for again much later,
// and the garbage of a page is collected less often than its size would have it, which is a
// tenth of the time.
func (a *app) walks() {
	a.cacheSize = 10_000
	debug.SetGCPercent(200)
}

// adopting tells whether a table's columns may hold plaintext: from when its adoption has
// begun until it is enforced.
func (t *tables) adopting(table *pgmap.Table) bool {
	r := t.records[table.Map.Table]
	return r != nil && r.Phase != pgadopt.PhaseEnforced
}

// mapped are the tables as an anonymize.Eraser takes them.
func (t *tables) mapped(keys *keystore.Store) (*pgmap.Tables, error) {
	return pgmap.NewTables(t.db, keys, t.list, &pgmap.TablesOptions{Adopting: t.adopting})
}
