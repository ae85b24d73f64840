package pgmap

import (
	"errors"
	"fmt"
	"strings"

	"github.com/oubli/oubli/cmd/oubli/internal/datamap"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// Table is a table of a data map as it stands in the database. It does not change once
// loaded: load it anew when its columns have changed.
type Table struct {
	Map    datamap.Table
	OID    uint32
	Schema string
	Name   string
	Quoted string // schema and name, for SQL
	Kind   byte   // r: a table, p: one with partitions; others cannot be adopted

	// Key is what rows are found and paged by: the primary key, else a unique index whose
	// columns are NOT NULL. Empty if there is neither.
	Key     []Column
	Subject Column
	Bound   *Column  // what values are bound to besides, nil if nothing
	Fields  []Field  // personal columns, in the order of the map
	Shown   []Column // what lists show, in the order of the map
	Rows    int64    // as the planner estimates, -1: it does not know

	hidden   bool // row-level security may hide rows from this role
	mixed    bool // UUIDs of subjects stand in it in mixed case
	children bool // tables inherit from it, whose rows its key does not tell from its own
}

// Column is a column of a table.
type Column struct {
	Name    string
	Quoted  string
	Num     int16
	Type    string // as SQL writes it, character varying(40)
	Base    string // without modifier; of a domain what it is over
	Domain  bool
	NotNull bool
}

// Field is a personal column.
type Field struct {
	Column
	Logical  string // name in the data map
	Binary   bool   // bytea: holds binary envelopes
	Original string // its type before it was adopted, if the map says so; else Type
}

// Names are the logical names of the cells of a row, for Bind: the subject, what values
// are bound to if that is another column, the personal fields.
func (t *Table) Names() []string {
	names := []string{t.Map.SubjectColumn}
	if t.bound() {
		names = append(names, t.Map.Key)
	}
	for _, f := range t.Fields {
		names = append(names, f.Logical)
	}
	return names
}

// FieldAt is the index of the first personal cell of a row.
func (t *Table) FieldAt() int {
	if t.bound() {
		return 2
	}
	return 1
}

// bound: what values are bound to has a cell of its own.
func (t *Table) bound() bool { return t.Bound != nil && t.Bound.Num != t.Subject.Num }

// Codec makes the codec of the table's rows. With adopting, its columns may still hold
// plaintext.
func (t *Table) Codec(keys *keystore.Store, adopting bool) (*fieldcrypt.BoundRows, error) {
	o := &fieldcrypt.Options{}
	if adopting {
		for _, f := range t.Fields {
			o.Adopting = append(o.Adopting, f.Logical)
		}
	}
	spec := t.Map.Spec
	spec.Fields = append([]fieldcrypt.FieldSpec(nil), spec.Fields...)
	for i, f := range t.Fields {
		spec.Fields[i].Binary = f.Binary
	}
	codec, err := fieldcrypt.NewRowCodec(keys, spec, o)
	if err := errors.Join(err, t.whole()); err != nil {
		return nil, err
	}
	return codec.Bind(t.Names())
}

// whole refuses a table of which not every row can be seen, and told from all others: a
// person's rows would be missed, or another's be taken for them.
func (t *Table) whole() error {
	switch {
	case t.hidden:
		return fmt.Errorf("%w: row-level security may hide rows of %s from this role: connect as one with BYPASSRLS, or as the owner where it is not forced", keystore.ErrInvalid, t.Quoted)
	case t.children:
		return fmt.Errorf("%w: tables inherit from %s, and their rows are not under its key: end that with ALTER TABLE … NO INHERIT %s, and map each by itself", keystore.ErrInvalid, t.Quoted, t.Quoted)
	}
	return nil
}

// textual types hold text as it is, and char(n) with spaces that do not count.
func textual(base string) bool {
	switch base {
	case "text", "character varying", "character", "name":
		return true
	}
	return strings.HasSuffix(base, ".citext")
}

// Canonical is SQL for the text that a codec seals of a column's value: what a Go value
// of the fitting type encodes to, see the values in docs/format.md. base is the column's
// type without modifier.
func Canonical(column, base string) string {
	const moment = `pg_catalog.regexp_replace(pg_catalog.to_char(%s, 'YYYY-MM-DD"T"HH24:MI:SS.US'), '\.?0+$', '') || 'Z'`
	switch base {
	case "date":
		return fmt.Sprintf("pg_catalog.to_char(%s, 'YYYY-MM-DD')", column)
	case "timestamp without time zone":
		return "(" + fmt.Sprintf(moment, column) + ")"
	case "timestamp with time zone":
		return "(" + fmt.Sprintf(moment, column+" AT TIME ZONE 'UTC'") + ")"
	case "bytea":
		return column
	}
	return column + "::pg_catalog.text"
}

// FromText is SQL for the value of a type, as SQL writes it, that such a text stands for.
func FromText(expr, typ string) string { return "(" + expr + ")::" + typ }
