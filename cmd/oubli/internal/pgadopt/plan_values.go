package pgadopt

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/keystore"
)

// values is what one pass over a table counts. Every count is a blocker's or a size's: the
// table is read once, whatever its width.
type values struct {
	rows  int64
	took  time.Duration
	count map[check]int64
}

// check names one thing that is counted or measured.
type check struct {
	what   what
	column string // "" or the physical name; of an index its name
}

type what string

const (
	subjectNull  what = "subject NULL"    // rows with a personal value that belong to nobody
	subjectBad   what = "subject bad"     // ids that are refused
	subjectAt    what = "subject with @"  // ids with an @
	subjectUpper what = "subject upper"   // UUIDs in upper case, in a column of text
	subjectForm  what = "subject decimal" // numbers that are not written as integers
	keyNull      what = "key NULL"
	likeSealed   what = "looks sealed"
	oddDate      what = "odd date"
	plainSize    what = "plain size" // bytes of the longest envelope that must fit into a page
	indexSize    what = "index size" // bytes of the longest entry, with envelopes
)

// readValues counts what in the values would be refused later on.
func (p *planner) readValues(ctx context.Context, s *subject) (*values, error) {
	checks, exprs := s.checks()
	list := []string{"count(*)"}
	list = append(list, exprs...)
	v := &values{count: map[check]int64{}}
	err := readOnly(ctx, p.db, func(tx pgx.Tx) error {
		began := time.Now()
		found := make([]int64, len(list))
		into := make([]any, len(list))
		for i := range found {
			into[i] = &found[i]
		}
		if err := tx.QueryRow(ctx, "SELECT "+strings.Join(list, ",\n")+"\nFROM "+s.Quoted+" AS t").Scan(into...); err != nil {
			return err
		}
		v.took = time.Since(began)
		v.rows = found[0]
		for i, c := range checks {
			v.count[c] = found[i+1]
		}
		return nil
	})
	return v, pgmap.Fail(fmt.Sprintf("plan: read table %q", s.Map.Table), err)
}

// checks are what the pass counts, and the SQL of each.
func (s *subject) checks() (checks []check, exprs []string) {
	add := func(w what, column, expr string) {
		checks, exprs = append(checks, check{w, column}), append(exprs, expr)
	}
	count := func(w what, column, condition string) { add(w, column, "count(*) FILTER (WHERE "+condition+")") }
	var any []string
	for _, f := range s.Fields {
		any = append(any, "t."+f.Quoted+" IS NOT NULL")
	}
	personal := "(" + strings.Join(any, " OR ") + ")"
	count(subjectNull, s.Subject.Name, "t."+s.Subject.Quoted+" IS NULL AND "+personal)
	s.idChecks(personal, count)
	if s.Bound != nil && s.Bound.Num != s.Subject.Num {
		count(keyNull, s.Bound.Name, "COALESCE(t."+s.Bound.Quoted+"::text, '') = '' AND "+personal)
	}
	for _, f := range s.Fields {
		column := "t." + f.Quoted
		switch {
		case s.phase != PhaseNone:
		case f.Binary:
			count(likeSealed, f.Name, column+" IS NOT NULL AND ("+pgmap.LooksSealedBytes(column)+" OR "+newerBytes(column)+")")
		case textual(f.Base):
			count(likeSealed, f.Name, column+" IS NOT NULL AND ("+pgmap.LooksSealed(column+"::text")+" OR "+newerText(column+"::text")+")")
		case dated(f.Base):
			count(oddDate, f.Name, "NOT "+inRange(column))
		}
	}
	for _, c := range s.columns {
		if f := s.field(c.Name); c.Rel == s.OID && c.Storage == "p" && !retyped(f) {
			add(plainSize, f.Name, "COALESCE(max("+s.envelopeSize(f)+"), 0)::bigint")
		}
	}
	for _, i := range s.indexes {
		if most(i.Method) > 0 && s.phase != PhaseEnforced && !s.dropped(i) {
			add(indexSize, i.Name, "COALESCE(max("+s.entrySize(i)+"), 0)::bigint")
		}
	}
	return checks, exprs
}

// idChecks count ids that no subject can have.
func (s *subject) idChecks(personal string, count func(w what, column, condition string)) {
	id := "t." + s.Subject.Quoted + "::text"
	name := s.Subject.Name
	switch s.Subject.Base {
	case "integer", "bigint", "smallint":
		count(subjectBad, name, "t."+s.Subject.Quoted+" = 0 AND "+personal)
	case "uuid":
		count(subjectBad, name, "t."+s.Subject.Quoted+" = '00000000-0000-0000-0000-000000000000' AND "+personal)
	default:
		// As keystore.NewSubject sees them: empty, zero, too long, spaces around, control characters.
		count(subjectBad, name, fmt.Sprintf(`(%[1]s COLLATE "C" ~ '^[-0]*$' OR octet_length(%[1]s) > %[2]d OR %[1]s COLLATE "C" ~ '^[[:space:]]|[[:space:]]$|[[:cntrl:]]') AND %[3]s`, id, keystore.MaxID, personal))
		if !s.Map.AllowAt {
			count(subjectAt, name, fmt.Sprintf(`strpos(%s COLLATE "C", '@') > 0 AND %s`, id, personal))
		}
		count(subjectUpper, name, fmt.Sprintf(`%[1]s COLLATE "C" ~ '^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$' AND %[1]s COLLATE "C" ~ '[A-F]' AND %[2]s`, id, personal))
	}
	switch s.Subject.Base {
	case "numeric", "real", "double precision":
		count(subjectForm, name, fmt.Sprintf(`%s COLLATE "C" !~ '^-?[1-9][0-9]*$' AND %s`, id, personal))
	}
}

// newerText is SQL for whether a text has the form that later versions may write.
func newerText(text string) string {
	return "starts_with(" + text + ` COLLATE "C", 'oubli') AND ` + text + ` COLLATE "C" ~ '^oubli([2-9]|[1-9][0-9]{1,4})[.~]'`
}

// newerBytes is newerText for a bytea.
func newerBytes(data string) string {
	return "CASE WHEN octet_length(" + data + ") >= 33 THEN get_byte(" + data + ", 0) BETWEEN 178 AND 191 ELSE false END"
}

// dated types have values that RFC 3339 does not write.
func dated(base string) bool {
	return base == "date" || base == "timestamp without time zone" || base == "timestamp with time zone"
}

// inRange is SQL for whether a date can be written as RFC 3339 does; NULL where it is NULL.
func inRange(column string) string {
	return "(" + column + " >= '0001-01-01' AND " + column + " < '10000-01-01')"
}

// fits is how many bytes of a value with the storage PLAIN fit into a row of its own.
const fits = 8000

// most is how many bytes an entry of an index may have, 0: no limit that matters.
func most(method string) int64 {
	switch method {
	case "btree":
		return 2690 // a third of a page, without its headers
	case "gist", "spgist":
		return 8100
	case "brin":
		return 4000 // the least and the greatest value together
	}
	return 0
}

// entrySize is SQL for the size of an index entry whose personal columns hold envelopes.
func (s *subject) entrySize(i index) string {
	sum := "0"
	for _, name := range i.Columns {
		if f := s.field(name); f != nil {
			sum += " + COALESCE(" + s.envelopeSize(f) + ", 0)"
		}
	}
	return sum
}

// envelopeSize is SQL for how many bytes the envelope of a column's value has.
func (s *subject) envelopeSize(f *pgmap.Field) string {
	size := "octet_length(t." + f.Quoted + "::text)"
	if f.Binary {
		size = "octet_length(t." + f.Quoted + ")"
	}
	switch {
	case s.phase != PhaseNone: // some are envelopes already
		return size
	case f.Binary:
		return size + " + 33"
	}
	return "7 + (" + size + " + 35) / 3 * 4"
}

// valueFindings say what the pass found.
func (s *subject) valueFindings(v *values) {
	n := func(w what, column string) int64 { return v.count[check{w, column}] }
	name := s.Subject.Name
	if rows := n(subjectNull, name); rows > 0 {
		s.add(Blocks, name, "", fmt.Sprintf("%s NULL there, and a personal value: nobody's key can seal it", have(rows)),
			"say whose they are, set these values to NULL, or move the rows elsewhere")
	}
	if rows := n(subjectBad, name); rows > 0 {
		s.add(Blocks, name, "", fmt.Sprintf("%s an id there that nobody can have: zero, empty, longer than %d bytes, or with spaces or control characters around", have(rows), keystore.MaxID),
			"correct the ids, or take these rows elsewhere")
	}
	if rows := n(subjectAt, name); rows > 0 {
		s.add(Blocks, name, "", fmt.Sprintf("%s an id there with an @: ids are not secret, and never erased", have(rows)),
			"take a surrogate id, or accept it with allow_at: true in the map")
	}
	if rows := n(subjectUpper, name); rows > 0 {
		s.add(Blocks, name, "", fmt.Sprintf("%s a UUID there in upper case, while subjects are named in lower case: an erasure would not find the rows", have(rows)),
			"UPDATE "+s.Quoted+" SET "+s.Subject.Quoted+" = lower("+s.Subject.Quoted+"), or make the column a uuid")
	}
	if rows := n(subjectForm, name); rows > 0 {
		s.add(Blocks, name, "", fmt.Sprintf("%s a number there that is not written as an integer", have(rows)), "make the column a bigint")
	}
	if s.Bound != nil {
		if rows := n(keyNull, s.Bound.Name); rows > 0 {
			s.add(Blocks, s.Bound.Name, "", fmt.Sprintf("is the map's key:, and %s NULL or nothing there", have(rows)), "bind to a column that is NOT NULL, or leave key: out of the map")
		}
	}
	for _, f := range s.Fields {
		if rows := n(likeSealed, f.Name); rows > 0 {
			s.add(Note, f.Name, "", fmt.Sprintf("%s a value there that looks sealed: what the program's codec sealed is taken as it is, anything else that looks so is refused by adopt run as tampered", have(rows)),
				"if the program does not seal yet, correct these values: they begin with oubli and a number, or in a bytea with a byte from B1 to BF")
		}
		if rows := n(oddDate, f.Name); rows > 0 {
			s.add(Blocks, f.Name, "", fmt.Sprintf("%s a date there that RFC 3339 does not write: infinity, before the year 1, or after 9999", have(rows)), "correct them, or set them to NULL")
		}
	}
	for _, f := range s.Fields {
		if size := n(plainSize, f.Name); size > fits {
			s.add(Blocks, f.Name, "", fmt.Sprintf("has the storage PLAIN, and an envelope would have %d bytes, which do not fit into a page", size), "ALTER TABLE "+s.Quoted+" ALTER COLUMN "+f.Quoted+" SET STORAGE EXTENDED")
		}
	}
	for _, i := range s.indexes {
		if size := n(indexSize, i.Name); size > most(i.Method) {
			s.add(Blocks, list(i.Columns), "index "+i.Name, fmt.Sprintf("an entry would have %d bytes with envelopes, and a %s index takes %d", size, i.Method, most(i.Method)), "DROP INDEX: it finds nothing in envelopes anyway")
		}
	}
}

// have is the beginning of "N rows have …".
func have(rows int64) string {
	if rows == 1 {
		return "1 row has"
	}
	return fmt.Sprintf("%d rows have", rows)
}
