package pgadopt

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
)

// alteration changes the types of a table's personal columns, in a transaction that holds
// the locks of Lock, and leaves all else that stands on these columns as it is.
type alteration struct {
	t     *pgmap.Table
	parts []part
	saved *Saved

	known int                // so many defaults were saved before
	types map[string]newType // by column: those that change
	// away are the columns that have no default afterwards; the default is saved.
	away func(column string) bool
}

// newType is what a column becomes.
type newType struct {
	to    string // type with its COLLATE clause
	using string // SQL for the value; empty: an assignment does it
}

func newAlteration(ctx context.Context, tx pgx.Tx, t *pgmap.Table, saved *Saved) (*alteration, error) {
	parts, err := partsOf(ctx, tx, t)
	if err != nil {
		return nil, err
	}
	return &alteration{t: t, parts: parts, saved: saved, known: len(saved.Defaults), types: map[string]newType{}, away: func(string) bool { return false }}, nil
}

// root is the table itself.
func (a *alteration) root() *part { return &a.parts[0] }

// columns are those that change, in the order of the map.
func (a *alteration) columns() []string {
	return slices.DeleteFunc(fieldNames(a.t), func(name string) bool { _, ok := a.types[name]; return !ok })
}

func (a *alteration) run(ctx context.Context, tx pgx.Tx) error {
	columns := a.columns()
	if len(columns) == 0 {
		return nil
	}
	views, err := viewsOn(ctx, tx, a.parts, columns)
	if err != nil {
		return err
	}
	again, err := dropViews(ctx, tx, views, a.saved.Views)
	if err != nil {
		return err
	}
	objects, err := take(ctx, tx, statistics, a.parts, columns)
	if err != nil {
		return err
	}
	targets, err := objectsOn(ctx, tx, indexTargets, a.root(), columns)
	if err != nil {
		return pgmap.Fail("look for indexes on "+a.t.Quoted, err)
	}
	for _, o := range targets {
		objects = append(objects, o.SavedObject)
	}
	if len(a.parts) > 1 {
		// PostgreSQL would make those of partitions anew under names of its own.
		more, err := take(ctx, tx, indexes, a.parts, columns)
		if err != nil {
			return err
		}
		objects = append(more, objects...)
	}
	if err := a.changeTypes(ctx, tx, columns); err != nil {
		return err
	}
	if err := give(ctx, tx, objects); err != nil {
		return err
	}
	made, err := makeViews(ctx, tx, again)
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(a.saved.Views, func(s SavedView) bool {
		return slices.ContainsFunc(made, func(m SavedView) bool { return m.Name == s.Name })
	})
	a.saved.Views = append(others, made...)
	return nil
}

// changeTypes changes types, and carries over what belongs to the columns.
func (a *alteration) changeTypes(ctx context.Context, tx pgx.Tx, columns []string) error {
	what := "change the columns of " + a.t.Quoted
	var before, changes, after []string
	for i := range a.parts {
		p := &a.parts[i]
		for _, name := range columns {
			if c := p.columns[name]; c.def != "" {
				before = append(before, "ALTER TABLE ONLY "+p.quoted+" ALTER COLUMN "+c.quoted+" DROP DEFAULT")
			}
		}
	}
	for _, name := range columns {
		change := "ALTER COLUMN " + a.root().columns[name].quoted + " TYPE " + a.types[name].to
		if using := a.types[name].using; using != "" {
			change += " USING " + using
		}
		changes = append(changes, change)
	}
	before = append(before, "ALTER TABLE "+a.t.Quoted+" "+strings.Join(changes, ", "))
	if err := run(ctx, tx, what, before...); err != nil {
		return err
	}
	for i := range a.parts {
		p := &a.parts[i]
		now := part{oid: p.oid, columns: map[string]partColumn{}}
		if err := now.load(ctx, tx, columns); err != nil {
			return pgmap.Fail(what, err)
		}
		for _, name := range columns {
			alter := "ALTER TABLE ONLY " + p.quoted + " ALTER COLUMN " + p.columns[name].quoted
			if c := p.columns[name]; now.columns[name].length == -1 {
				if c.storage != "" {
					after = append(after, alter+" SET STORAGE "+storages[c.storage])
				}
				if c.compression != "" {
					after = append(after, alter+" SET COMPRESSION "+compressions[c.compression])
				}
			}
			if d := a.savedDefault(p, name); !a.away(name) && d.Expr != "" {
				after = append(after, alter+" SET DEFAULT "+d.Expr)
			}
		}
	}
	if err := run(ctx, tx, what, after...); err != nil {
		return err
	}
	for i := range a.parts {
		p := &a.parts[i]
		now := part{oid: p.oid, columns: map[string]partColumn{}}
		if err := now.load(ctx, tx, columns); err != nil {
			return pgmap.Fail(what, err)
		}
		for _, name := range columns {
			a.savedDefault(p, name).Made = now.columns[name].def
		}
	}
	return nil
}

var (
	storages     = map[string]string{"p": "PLAIN", "e": "EXTERNAL", "m": "MAIN", "x": "EXTENDED"}
	compressions = map[string]string{"p": "pglz", "l": "lz4"}
)

// savedDefault is the saved default of a column. One that somebody has changed since it
// was saved takes its place, unless the column had another type then.
func (a *alteration) savedDefault(p *part, column string) *SavedDefault {
	at := func(on string) int {
		return slices.IndexFunc(a.saved.Defaults, func(d SavedDefault) bool { return d.On == on && d.Column == column })
	}
	now := p.columns[column].def
	n := at(p.quoted)
	if n < 0 {
		d := SavedDefault{On: p.quoted, Column: column, Expr: now, Made: now}
		if root := at(a.root().quoted); root >= 0 && root < a.known && now == "" { // a partition that is newer
			d.Expr = a.saved.Defaults[root].Expr
		}
		a.saved.Defaults = append(a.saved.Defaults, d)
		n = len(a.saved.Defaults) - 1
	}
	d := &a.saved.Defaults[n]
	retyped := slices.ContainsFunc(a.saved.Columns, func(c SavedColumn) bool { return c.Name == column && c.Retyped })
	if d.Made != now && !retyped {
		d.Expr, d.Made = now, now
	}
	return d
}

// filenodes returns where the table and its partitions store their rows.
func filenodes(ctx context.Context, tx pgx.Tx, parts []part) (map[uint32]uint32, error) {
	nodes := map[uint32]uint32{}
	for _, p := range parts {
		var node uint32
		if err := tx.QueryRow(ctx, `SELECT COALESCE(pg_catalog.pg_relation_filenode($1::text::pg_catalog.oid), 0)`, fmt.Sprint(p.oid)).Scan(&node); err != nil {
			return nil, pgmap.Fail("look at the files of "+p.quoted, err)
		}
		nodes[p.oid] = node
	}
	return nodes, nil
}
