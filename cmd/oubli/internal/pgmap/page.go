package pgmap

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// Row is a row as it was read.
type Row struct {
	Key     []string          // texts of the key's columns
	Version string            // changes with every update of the row
	Cells   []fieldcrypt.Cell // as Table.Names says
}

// Filter picks rows by the form of what stands in their personal columns. A form is a
// guess: only the codec knows whether something is sealed.
type Filter uint8

const (
	All     Filter = iota
	Plain          // some value has not the form of an envelope or a blank
	Sealed         // some value has it
	Obvious        // some value does not even begin like one: cheaper to find than Plain
)

// PageOptions say which rows Page returns.
type PageOptions struct {
	After []string // the key of the last row before; nil: from the first
	Limit int
	Only  Filter
}

// Page returns rows in the order of their key.
func (t *Table) Page(ctx context.Context, db DB, o PageOptions) ([]Row, error) {
	if err := t.needKey(); err != nil {
		return nil, err
	}
	tail, args := t.pageFrom(o)
	return t.read(ctx, db, t.selects()+tail, args...)
}

// pageFrom ends the query of a page.
func (t *Table) pageFrom(o PageOptions) (tail string, args []any) {
	var where []string
	if o.After != nil {
		var is string
		is, args = t.beyond(o.After, nil)
		where = append(where, is)
	}
	if o.Only != All {
		where = append(where, "("+t.having(o.Only)+")")
	}
	if where != nil {
		tail = " WHERE " + strings.Join(where, " AND ")
	}
	return tail + t.inOrder(o.Limit), args
}

// beyond is the condition of the rows that follow a key; the parameters follow args.
func (t *Table) beyond(key []string, args []any) (string, []any) {
	is := make([]string, len(t.Key))
	for i, c := range t.Key {
		args = append(args, key[i])
		is[i] = fromText("$"+strconv.Itoa(len(args)), c)
	}
	return "(" + t.keys() + ") > (" + strings.Join(is, ", ") + ")", args
}

// inOrder ends a query of the first rows in the order of their key.
func (t *Table) inOrder(limit int) string {
	return " ORDER BY " + t.keys() + " LIMIT " + strconv.Itoa(limit)
}

// Count counts the rows of a filter. It is how to find out that there are none: in one
// sequential scan, which several processes of the server may share.
func (t *Table) Count(ctx context.Context, db DB, f Filter) (n int64, err error) {
	sql := "SELECT pg_catalog.count(*) FROM " + t.Quoted + " AS t"
	if f != All {
		sql += " WHERE " + t.having(f)
	}
	err = db.QueryRow(ctx, sql).Scan(&n)
	return n, Fail("count rows of "+t.Quoted, err)
}

// Again returns the rows with these keys as they are now. Those that are gone are left out.
func (t *Table) Again(ctx context.Context, db DB, keys [][]string) ([]Row, error) {
	if err := t.needKey(); err != nil {
		return nil, err
	}
	args := make([]any, len(t.Key))
	var from, is []string
	for i, c := range t.Key {
		texts := make([]string, len(keys))
		for n, key := range keys {
			texts[n] = key[i]
		}
		args[i] = texts
		from = append(from, fmt.Sprintf("pg_catalog.unnest($%d::pg_catalog.text[])", i+1))
		is = append(is, keyColumn(c)+" = "+fromText(fmt.Sprintf("v.k%d", i), c))
	}
	return t.read(ctx, db, t.selects()+" JOIN ROWS FROM ("+strings.Join(from, ", ")+") AS v("+t.keyAliases()+") ON "+
		strings.Join(is, " AND "), args...)
}

// SaveOptions of Save.
type SaveOptions struct {
	SkipLocked bool // do not wait for rows that others have locked: they are missed
}

// Save writes the personal cells of rows that are still the version that was read, of the
// same subject, in one statement. missed are the others: changed since, locked, or gone.
// It fails, and its transaction must be rolled back, if something else than was given
// would stand there: a trigger that puts values into lower case makes an envelope useless.
func (t *Table) Save(ctx context.Context, db DB, rows []Row, o SaveOptions) (missed []Row, err error) {
	if len(rows) == 0 {
		return nil, nil
	}
	if err := t.needKey(); err != nil {
		return nil, err
	}
	sql, args := t.saving(rows, o)
	// Described once for each connection, arrays travel in binary, which the server reads
	// several times faster. The types of the parameters stand in the statement.
	found, err := db.Query(ctx, sql, append([]any{pgx.QueryExecModeCacheDescribe}, args...)...)
	if err != nil {
		return nil, Fail("save rows of "+t.Quoted, err)
	}
	saved := make([]bool, len(rows))
	n, same, altered := 0, false, 0
	_, err = pgx.ForEachRow(found, []any{&n, &same}, func() error {
		if saved[n-1] = true; !same {
			altered++
		}
		return nil
	})
	if err != nil {
		return nil, Fail("save rows of "+t.Quoted, err)
	}
	if altered > 0 {
		return nil, fmt.Errorf("%w: a trigger of %s changes what is written into its personal columns, in %d of %d rows: it would spoil envelopes; make it leave these columns alone (nothing of this was written)",
			keystore.ErrState, t.Quoted, altered, len(rows))
	}
	for i, ok := range saved {
		if !ok {
			missed = append(missed, rows[i])
		}
	}
	return missed, nil
}

func (t *Table) saving(rows []Row, o SaveOptions) (sql string, args []any) {
	var from, names, is, set, same []string
	add := func(name, typ string, arg any) string {
		args = append(args, arg)
		from = append(from, fmt.Sprintf("pg_catalog.unnest($%d::pg_catalog.%s[])", len(args), typ))
		names = append(names, name)
		return "v." + name
	}
	versions := make([]string, len(rows))
	for n, r := range rows {
		versions[n] = r.Version
	}
	is = append(is, "t.xmin = "+add("x", "text", versions)+"::pg_catalog.xid")
	for i, c := range t.Key {
		texts := make([]string, len(rows))
		for n, r := range rows {
			texts[n] = r.Key[i]
		}
		is = append(is, keyColumn(c)+" = "+fromText(add("k"+strconv.Itoa(i), "text", texts), c))
	}
	at := t.FieldAt()
	for i, f := range t.Fields {
		name := "c" + strconv.Itoa(i)
		var v string
		if f.Binary {
			data := make([][]byte, len(rows))
			for n, r := range rows {
				if c := r.Cells[at+i]; !c.Null {
					data[n] = append(make([]byte, 0, len(c.Text)), c.Text...)
				}
			}
			v = add(name, "bytea", data)
			same = append(same, "t."+f.Quoted+" IS NOT DISTINCT FROM "+v)
		} else {
			texts := make([]*string, len(rows))
			for n := range rows {
				if c := &rows[n].Cells[at+i]; !c.Null {
					texts[n] = &c.Text
				}
			}
			v = add(name, "text", texts)
			if textual(f.Base) {
				same = append(same, "(t."+f.Quoted+`::pg_catalog.text COLLATE pg_catalog."C") IS NOT DISTINCT FROM `+v)
			} else {
				v = FromText(v, f.Type) // not every type has an equality
				same = append(same, "ROW(t."+f.Quoted+")::pg_catalog.record OPERATOR(pg_catalog.*=) ROW("+v+")::pg_catalog.record")
			}
		}
		set = append(set, f.Quoted+" = "+v)
	}
	source := "ROWS FROM (" + strings.Join(from, ", ") + ") WITH ORDINALITY AS v(" + strings.Join(names, ", ") + ", n)"
	if o.SkipLocked {
		source = "(SELECT v.* FROM " + source + " JOIN " + t.Quoted + " t ON " + strings.Join(is, " AND ") + " FOR UPDATE OF t SKIP LOCKED) AS v"
	}
	return "UPDATE " + t.Quoted + " AS t SET " + strings.Join(set, ", ") + " FROM " + source +
		" WHERE " + strings.Join(is, " AND ") + " RETURNING v.n::pg_catalog.int4, " + strings.Join(same, " AND "), args
}

func (t *Table) needKey() error {
	if len(t.Key) == 0 {
		return fmt.Errorf("%w: table %s has no primary key, nor a unique index over columns that are NOT NULL: its rows cannot be told apart; add one", keystore.ErrInvalid, t.Quoted)
	}
	return nil
}

// selects reads key, version and cells.
func (t *Table) selects() string {
	var list []string
	text := func(c Column) { list = append(list, "t."+c.Quoted+"::pg_catalog.text") } // the database reads it again
	for _, c := range t.Key {
		text(c)
	}
	list = append(list, "t.xmin::pg_catalog.text")
	text(t.Subject)
	if t.bound() {
		text(*t.Bound)
	}
	for _, f := range t.Fields {
		list = append(list, Canonical("t."+f.Quoted, f.Base))
	}
	return "SELECT " + strings.Join(list, ", ") + " FROM " + t.Quoted + " AS t"
}

// fromText is a parameter of text as a value of a column's type.
func fromText(param string, c Column) string {
	switch c.Base {
	case "character":
		return param + "::pg_catalog.bpchar"
	case "character varying":
		return param + "::pg_catalog.text"
	}
	return param + "::pg_catalog.text::" + c.Base
}

// keyColumn is a column that rows are found by. PostgreSQL compares a varchar as a text,
// unless somebody made an operator for it that fits better: as a text it is compared by
// PostgreSQL's own, and by the same index.
func keyColumn(c Column) string {
	if c.Base == "character varying" {
		return "t." + c.Quoted + "::pg_catalog.text"
	}
	return "t." + c.Quoted
}

// keys are the columns of the key.
func (t *Table) keys() string {
	names := make([]string, len(t.Key))
	for i, c := range t.Key {
		names[i] = keyColumn(c)
	}
	return strings.Join(names, ", ")
}

func (t *Table) keyAliases() string {
	names := make([]string, len(t.Key))
	for i := range t.Key {
		names[i] = "k" + strconv.Itoa(i)
	}
	return strings.Join(names, ", ")
}

// having is the condition of a filter. A column that cannot hold an envelope holds
// plaintext.
func (t *Table) having(f Filter) string {
	var any []string
	for _, c := range t.Fields {
		column := "t." + c.Quoted
		form := "false"
		switch {
		case c.Binary:
			form = LooksSealedBytes(column)
		case textual(c.Base) && f == Obvious:
			text := column + "::pg_catalog.text"
			form = "pg_catalog.starts_with(" + text + ", 'oubli1.') AND pg_catalog.octet_length(" + text + ") >= 51 OR pg_catalog.starts_with(" + text + ", 'oubli1~')"
		case textual(c.Base):
			form = LooksSealed(column + "::pg_catalog.text")
		}
		if f == Plain || f == Obvious {
			form = "NOT (" + form + ")"
		}
		any = append(any, column+" IS NOT NULL AND "+form)
	}
	return strings.Join(any, " OR ")
}

// LooksSealed is SQL for whether a text that is not NULL has the form of an envelope or a
// blank. One regular expression with a count in it takes twenty times as long.
func LooksSealed(text string) string {
	text = "(" + text + `) COLLATE pg_catalog."C"`
	return `CASE WHEN pg_catalog.starts_with(` + text + `, 'oubli1.') THEN pg_catalog.octet_length(` + text + `) >= 51 AND ` +
		`pg_catalog.substr(` + text + `, 8) OPERATOR(pg_catalog.!~) '[^A-Za-z0-9_-]' ` +
		`ELSE pg_catalog.starts_with(` + text + `, 'oubli1~') AND ` + text + ` OPERATOR(pg_catalog.~) '^oubli1~[A-Za-z0-9_-]{10,}~' END`
}

// LooksSealedBytes is LooksSealed for a bytea: envelopes are binary there, or the text of
// one where a program writes texts; blanks are text.
func LooksSealedBytes(data string) string {
	return `CASE WHEN pg_catalog.octet_length(` + data + `) < 18 THEN false
WHEN pg_catalog.get_byte(` + data + `, 0) = 177 THEN pg_catalog.octet_length(` + data + `) >= 33
WHEN pg_catalog.substr(` + data + `, 1, 7) = '\x6f75626c69312e'::pg_catalog.bytea THEN ` + LooksSealed("pg_catalog.encode("+data+", 'escape')") + `
ELSE pg_catalog.encode(pg_catalog.substr(` + data + `, 1, 200), 'escape') OPERATOR(pg_catalog.~) '^oubli1~[A-Za-z0-9_-]{10,}~' END`
}

// read runs a query of selects.
func (t *Table) read(ctx context.Context, db DB, sql string, args ...any) ([]Row, error) {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return nil, Fail("read "+t.Quoted, err)
	}
	defer rows.Close()
	width := len(t.Key) + 1 + t.FieldAt() + len(t.Fields)
	texts := make([]*string, width)
	data := make([][]byte, width)
	into := make([]any, width)
	first := len(t.Key) + 1
	for i := range into {
		if n := i - first - t.FieldAt(); n >= 0 && t.Fields[n].Binary {
			into[i] = &data[i]
		} else {
			into[i] = &texts[i]
		}
	}
	var list []Row
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, Fail("read "+t.Quoted, err)
		}
		r := Row{Key: make([]string, len(t.Key)), Version: *texts[first-1], Cells: make([]fieldcrypt.Cell, width-first)}
		for i := range t.Key {
			r.Key[i] = *texts[i]
		}
		for i := range r.Cells {
			r.Cells[i] = cell(texts[first+i], data[first+i])
		}
		list = append(list, r)
	}
	return list, Fail("read "+t.Quoted, rows.Err())
}

func cell(text *string, data []byte) fieldcrypt.Cell {
	switch {
	case text != nil:
		return fieldcrypt.Cell{Text: *text}
	case data != nil:
		return fieldcrypt.Cell{Text: string(data)}
	}
	return fieldcrypt.Cell{Null: true}
}
