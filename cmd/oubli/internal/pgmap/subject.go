package pgmap

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/oubli/oubli/keystore"
)

// of returns the tables of the subject's kind that can have rows of it: where ids are
// numbers, nobody is called abc.
func (ts *Tables) of(ctx context.Context, s keystore.Subject) ([]codecTable, error) {
	var list []codecTable
	for _, t := range ts.tables {
		if t.Map.Kind != s.Kind() {
			continue
		}
		var err error
		if textual(t.Subject.Base) {
			t.Table, err = ts.spelled(ctx, t.Table, s)
		} else {
			var null bool
			err = ts.pool.QueryRow(ctx, "SELECT "+fromText("$1", t.Subject)+" IS NULL", s.ID()).Scan(&null)
			err = Fail("look for rows of "+t.Quoted, err)
			if e := (*Error)(nil); errors.As(err, &e) && strings.HasPrefix(e.Code(), "22") {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	return list, nil
}

// spelled is a table that finds s, whose rows may spell a UUID in a way of their own. It
// looks once whether any of the table's do, for then no index helps.
func (ts *Tables) spelled(ctx context.Context, t *Table, s keystore.Subject) (*Table, error) {
	if !isUUID(s) {
		return t, nil
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	mixed, known := ts.mixed[t.OID]
	if !known {
		id := t.idText()
		err := ts.pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+t.Quoted+" AS t WHERE pg_catalog.octet_length("+id+") OPERATOR(pg_catalog.=) 36 AND "+
			id+" OPERATOR(pg_catalog.<>) pg_catalog.lower("+id+") AND "+id+" OPERATOR(pg_catalog.<>) pg_catalog.upper("+id+"))").Scan(&mixed)
		if err != nil {
			return nil, Fail("look for rows of "+t.Quoted, err)
		}
		ts.mixed[t.OID] = mixed
	}
	found := *t
	found.mixed = mixed
	return &found, nil
}

// idText is SQL for the text of the subject's id, byte by byte.
func (t *Table) idText() string {
	return "(t." + t.Subject.Quoted + `::pg_catalog.text COLLATE pg_catalog."C")`
}

// isUUID tells whether a subject's id is one, which names the same in upper case.
func isUUID(s keystore.Subject) bool {
	upper, err := keystore.NewSubject(s.Kind(), strings.ToUpper(s.ID()))
	return err == nil && upper == s && len(s.ID()) == len("00000000-0000-0000-0000-000000000000")
}

// ofSubject is the condition of the rows of a subject. Equal is not enough: to a type
// 1.0 may be 1, to a collation A may be a, but not to a codec. Of UUIDs in texts both usual
// spellings are found, and all others where they occur.
func (t *Table) ofSubject(s keystore.Subject) (where string, args []any) {
	column := "t." + t.Subject.Quoted
	if !textual(t.Subject.Base) {
		return column + " = " + fromText("$1", t.Subject) + " AND " + column + "::pg_catalog.text OPERATOR(pg_catalog.=) $1::pg_catalog.text", []any{s.ID()}
	}
	return t.indexed() + t.among("$1"), []any{t.spellings(s)}
}

// spellings are the texts that stand for subjects, for among.
func (t *Table) spellings(subjects ...keystore.Subject) (ids []string) {
	for _, s := range subjects {
		ids = append(ids, s.ID())
		if isUUID(s) && textual(t.Subject.Base) && !t.mixed {
			ids = append(ids, strings.ToUpper(s.ID()))
		}
	}
	return ids
}

// among is the condition that the subject is one of those in a parameter.
func (t *Table) among(param string) string {
	is := t.idText() + " OPERATOR(pg_catalog.=) ANY (" + param + "::pg_catalog.text[])"
	if t.mixed {
		return "(" + is + " OR pg_catalog.lower(" + t.idText() + ") OPERATOR(pg_catalog.=) ANY (" + param + "::pg_catalog.text[]))"
	}
	return is
}

// indexed is what stands before among for the subjects in $1, where ids are texts, so that
// an index finds them, and nobody else's operator is asked.
func (t *Table) indexed() string {
	column, given := "t."+t.Subject.Quoted, "$1::pg_catalog.text[]"
	switch {
	case t.mixed:
		return "" // none finds them
	case t.Subject.Base == "text" || t.Subject.Base == "name":
	case t.Subject.Base == "character":
		given += "::pg_catalog.bpchar[]"
	default:
		column += "::pg_catalog.text"
	}
	return column + " OPERATOR(pg_catalog.=) ANY (" + given + ") AND "
}

// mayHave tells whether the subject's column can hold an id, as far as is known without
// asking the database: nobody is called abc where ids are numbers.
func (t *Table) mayHave(s keystore.Subject) bool {
	bits := map[string]int{"smallint": 16, "integer": 32, "bigint": 64}[t.Subject.Base]
	switch {
	case bits > 0:
		n, err := strconv.ParseInt(s.ID(), 10, bits)
		return err == nil && strconv.FormatInt(n, 10) == s.ID()
	case t.Subject.Base == "uuid":
		return isUUID(s)
	}
	return true
}

// typed is indexed for ids of any type.
func (t *Table) typed() string {
	if textual(t.Subject.Base) {
		return t.indexed()
	}
	return "t." + t.Subject.Quoted + " = ANY ($1::pg_catalog.text[]::" + t.Subject.Base + "[]) AND "
}
