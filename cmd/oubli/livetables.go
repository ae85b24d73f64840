package main

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/anonymize/admin"
	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/keystore"
)

// relook is how long what was found of the tables is taken to be so.
const relook = 10 * time.Second

// liveTables are the tables of a process that runs for long: their columns may change
// meanwhile, and adoptions begin and end. It looks at them anew before it works on them.
type liveTables struct {
	keys *keystore.Store
	info []anonymize.TableInfo // as the data map has it, which is read once

	mu     sync.Mutex
	found  *tables
	mapped *pgmap.Tables // of found
	looked time.Time
}

var _ anonymize.Tables = (*liveTables)(nil)

func newLiveTables(t *tables, keys *keystore.Store) (*liveTables, error) {
	mapped, err := t.mapped(keys)
	if err != nil {
		return nil, err
	}
	return &liveTables{keys: keys, info: mapped.Tables(), found: t, mapped: mapped, looked: time.Now()}, nil
}

// now are the tables as they are.
func (l *liveTables) now(ctx context.Context) (*pgmap.Tables, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.looked) < relook {
		return l.mapped, nil
	}
	found, err := lookFor(ctx, l.found.db, l.found.m)
	if err != nil {
		return nil, err
	}
	if !found.same(l.found) { // else what was learned of them stands
		mapped, err := found.mapped(l.keys)
		if err != nil {
			return nil, err
		}
		l.found, l.mapped = found, mapped
	}
	l.looked = time.Now()
	return l.mapped, nil
}

// same tells whether nothing of the tables has changed but how many rows they have.
func (t *tables) same(other *tables) bool {
	return slices.EqualFunc(t.list, other.list, func(x, y *pgmap.Table) bool {
		a, b := *x, *y
		a.Rows, b.Rows = 0, 0
		return reflect.DeepEqual(a, b) && t.adopting(x) == other.adopting(y)
	})
}

// Tables implements anonymize.Tables.
func (l *liveTables) Tables() []anonymize.TableInfo { return l.info }

// Blank implements anonymize.Tables.
func (l *liveTables) Blank(ctx context.Context, s keystore.Subject, keep []string) error {
	t, err := l.now(ctx)
	if err != nil {
		return err
	}
	return t.Blank(ctx, s, keep)
}

// Count implements anonymize.Tables.
func (l *liveTables) Count(ctx context.Context, s keystore.Subject) (map[string]int, error) {
	t, err := l.now(ctx)
	if err != nil {
		return nil, err
	}
	return t.Count(ctx, s)
}

// Export implements anonymize.Tables.
func (l *liveTables) Export(ctx context.Context, s keystore.Subject) ([]anonymize.TableData, error) {
	t, err := l.now(ctx)
	if err != nil {
		return nil, err
	}
	return t.Export(ctx, s)
}

// people are the columns that the data map shows, or nil if it shows none.
func (l *liveTables) people() admin.Columns {
	c := l.mapped.People()
	if c == nil {
		return nil
	}
	return livePeople{l, c.Columns()}
}

// livePeople implements admin.Columns.
type livePeople struct {
	live    *liveTables
	columns []admin.Column
}

func (p livePeople) Columns() []admin.Column { return p.columns }

func (p livePeople) Values(ctx context.Context, asks []admin.Ask) ([][]admin.Value, error) {
	t, err := p.live.now(ctx)
	if err != nil {
		return nil, err
	}
	return t.People().Values(ctx, asks)
}
