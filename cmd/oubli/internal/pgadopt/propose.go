package pgadopt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/cmd/oubli/internal/datamap"
	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
)

// found is a table of the database, as a proposal sees it.
type found struct {
	OID     uint32
	Schema  string
	Name    string
	Kind    string // relkind
	Pages   int64
	Key     []string // columns of the primary key
	Columns []foundColumn
	Refers  []reference

	person string // its kind, if its rows are people
	rank   int
}

type foundColumn struct {
	Table   uint32
	Name    string
	Type    string // without modifier, domains resolved
	NotNull bool
	Fixed   bool // generated, identity, or part of a key, the partitioning or a foreign key

	guess *class
	why   string
}

// reference is a foreign key of one column.
type reference struct {
	Table    uint32
	Column   string
	Referred uint32
	To       string // column there
	NotNull  bool
}

const (
	foundQuery = `SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpages::bigint,
       ARRAY(SELECT a.attname::text FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey::int2[])
         WHERE i.indrelid = c.oid AND i.indisprimary ORDER BY array_position(i.indkey::int2[], a.attnum))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'oubli', 'oubli_adopt') AND n.nspname NOT LIKE 'pg\_%'
  AND has_table_privilege(c.oid, 'SELECT')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`

	foundColumnQuery = `WITH RECURSIVE base AS (
	SELECT a.attrelid, a.attnum, a.atttypid AS typ FROM pg_attribute a WHERE a.attrelid = ANY ($1::text[]::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
	UNION ALL
	SELECT b.attrelid, b.attnum, t.typbasetype FROM base b JOIN pg_type t ON t.oid = b.typ WHERE t.typtype = 'd'
)
SELECT a.attrelid, a.attname::text, format_type(t.oid, NULL), a.attnotnull,
       a.attgenerated <> '' OR a.attidentity <> '' OR EXISTS (SELECT FROM pg_constraint k WHERE k.contype IN ('p', 'f') AND
         (k.conrelid = a.attrelid AND a.attnum = ANY (k.conkey) OR k.confrelid = a.attrelid AND a.attnum = ANY (k.confkey)))
       OR EXISTS (SELECT FROM pg_partitioned_table p WHERE p.partrelid = a.attrelid AND a.attnum = ANY (p.partattrs::int2[]))
FROM pg_attribute a JOIN base b USING (attrelid, attnum) JOIN pg_type t ON t.oid = b.typ AND t.typtype <> 'd'
ORDER BY a.attrelid, a.attnum`

	referenceQuery = `SELECT k.conrelid, a.attname::text, k.confrelid, f.attname::text, a.attnotnull
FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
JOIN pg_attribute f ON f.attrelid = k.confrelid AND f.attnum = k.confkey[1]
WHERE k.contype = 'f' AND cardinality(k.conkey) = 1 AND k.conparentid = 0 AND k.conrelid = ANY ($1::text[]::oid[])
ORDER BY k.conrelid, a.attnum, k.oid`
)

// Propose looks for personal data in a database, by the names of columns and by a sample
// of their values, and for whose it is. What it finds is a beginning, for a person to
// correct. It is the same each time as long as schema and sample are, and no value is part
// of it.
func Propose(ctx context.Context, db pgmap.DB) ([]datamap.Proposal, error) {
	tables, err := survey(ctx, db)
	if err != nil {
		return nil, err
	}
	var proposals []datamap.Proposal
	for _, t := range tables {
		if p, ok := propose(t, tables); ok {
			proposals = append(proposals, p)
		}
	}
	distinct(proposals)
	oneOfAKind(proposals)
	// What can be used comes first.
	slices.SortStableFunc(proposals, func(a, b datamap.Proposal) int {
		return cmp.Compare(order(a), order(b))
	})
	return proposals, nil
}

func order(p datamap.Proposal) int {
	if p.Undecided {
		return 1
	}
	return 0
}

// survey reads all tables of users, and guesses what their columns hold.
func survey(ctx context.Context, db pgmap.DB) ([]*found, error) {
	var tables []*found
	err := readOnly(ctx, db, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, foundQuery)
		if err != nil {
			return err
		}
		var oids []string
		byOID := map[uint32]*found{}
		tables, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (*found, error) {
			t := &found{}
			return t, row.Scan(&t.OID, &t.Schema, &t.Name, &t.Kind, &t.Pages, &t.Key)
		})
		if err != nil {
			return err
		}
		for _, t := range tables {
			oids, byOID[t.OID] = append(oids, fmt.Sprint(t.OID)), t
		}
		if rows, err = tx.Query(ctx, foundColumnQuery, oids); err != nil {
			return err
		}
		var c foundColumn
		if _, err = pgx.ForEachRow(rows, []any{&c.Table, &c.Name, &c.Type, &c.NotNull, &c.Fixed}, func() error {
			byOID[c.Table].Columns = append(byOID[c.Table].Columns, c)
			return nil
		}); err != nil {
			return err
		}
		var references []reference
		if err := collect(ctx, tx, &references, referenceQuery, oids); err != nil {
			return err
		}
		for _, r := range references {
			byOID[r.Table].Refers = append(byOID[r.Table].Refers, r)
		}
		return nil
	})
	if err != nil {
		return nil, pgmap.Fail("look for personal data: read the catalog", err)
	}
	for _, t := range tables {
		t.person, t.rank = kindOf(t.Name)
		sample, err := t.sample(ctx, db)
		if err != nil {
			return nil, pgmap.Fail("look for personal data in "+t.Name, err)
		}
		for i := range t.Columns {
			t.Columns[i].look(sample[i], t.person != "")
		}
	}
	return tables, nil
}

// sampleRows is how many rows of a table are looked at.
const sampleRows = 200

// sample reads a few values of each column as text, not more than their beginnings. A
// table that takes too long gives none: its names are looked at nevertheless.
func (t *found) sample(ctx context.Context, db pgmap.DB) ([][]string, error) {
	values := make([][]string, len(t.Columns))
	var list []string
	var at []int
	for i, c := range t.Columns {
		expr := pgx.Identifier{c.Name}.Sanitize() + "::text"
		switch {
		case c.Type == "json" || c.Type == "jsonb":
			list = append(list, "CASE WHEN octet_length("+expr+") < 10000 THEN "+expr+" END")
		case textual(c.Type) || c.Type == "inet":
			list = append(list, "left("+expr+", 300)")
		default:
			continue
		}
		at = append(at, i)
	}
	if list == nil {
		return values, nil
	}
	from := pgx.Identifier{t.Schema, t.Name}.Sanitize()
	if t.Kind != "p" && t.Pages > 100 {
		from += fmt.Sprintf(" TABLESAMPLE SYSTEM (%f) REPEATABLE (1)", max(100*20/float64(t.Pages), 0.0001))
	}
	err := readOnly(ctx, db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT set_config('statement_timeout', $1::text, true), set_config('lock_timeout', '1s', true)", fmt.Sprint(sampling.Milliseconds())); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, fmt.Sprintf("SELECT %s FROM %s LIMIT %d", strings.Join(list, ", "), from, sampleRows))
		if err != nil {
			return err
		}
		cells := make([]*string, len(list))
		into := make([]any, len(list))
		for i := range cells {
			into[i] = &cells[i]
		}
		_, err = pgx.ForEachRow(rows, into, func() error {
			for i, v := range cells {
				if v != nil {
					values[at[i]] = append(values[at[i]], *v)
				}
			}
			return nil
		})
		return err
	})
	var e *pgmap.Error
	if err = pgmap.Fail("sample", err); errors.As(err, &e) && (e.Code() == "57014" || refused(err)) && ctx.Err() == nil {
		return make([][]string, len(t.Columns)), nil
	}
	return values, err
}

// look guesses what a column holds. person tells whether the table's rows are people.
func (c *foundColumn) look(values []string, person bool) {
	byName := classOf(c.Name)
	switch {
	case c.Type == "json" || c.Type == "jsonb":
		if keys := personalKeys(values); len(keys) > 0 {
			c.guess = &class{name: documents + list(keys), decide: true}
			c.why = c.guess.name
		}
		return
	case c.Type == "boolean" || strings.HasPrefix(c.Type, "reg"):
		return
	case c.Type == "bytea" && byName != nil && byName.name != "pictures" && byName.decide:
		return
	}
	numeric := c.Type == "integer" || c.Type == "bigint" || c.Type == "smallint" || c.Type == "numeric" || c.Type == "real" || c.Type == "double precision"
	dated := dated(c.Type)
	switch {
	case c.Type == "inet" || classOfValues(values) != "":
		name := "IP addresses"
		if c.Type != "inet" {
			name = classOfValues(values)
		}
		c.guess = named(name)
		if c.why = name + ", by their values"; byName != nil && byName.name == name {
			c.why = name + ", by name and values"
		}
	case byName != nil && dated && byName.name != "birth dates":
	case byName != nil && byName.name == "birth dates" && !dated && !textual(c.Type):
	case byName != nil && numeric && !slices.Contains([]string{"telephone numbers", "numbers of the state", "postal codes", "positions", "what is sensitive about people", "bank accounts"}, byName.name):
	case byName != nil && (byName.name != "names of people" || !countOrID(c.Name)):
		c.guess, c.why = byName, byName.name+", by name"
	case person && textual(c.Type) && slices.Contains(bareNames, strings.Join(words(c.Name), " ")):
		c.guess, c.why = named("names of people"), "names of people, by name"
	}
}

// countOrID: what is about people without naming them.
func countOrID(column string) bool {
	name := words(column)
	return slices.Contains([]string{"id", "count", "at", "type", "attempts", "enabled"}, name[len(name)-1])
}

// named finds a class.
func named(name string) *class {
	i := slices.IndexFunc(classes, func(c class) bool { return c.name == name })
	return &classes[i]
}

// propose makes a proposal of a table, if something in it looks personal.
func propose(t *found, tables []*found) (datamap.Proposal, bool) {
	p := datamap.Proposal{Table: t.Name, DB: []string{t.Schema, t.Name}}
	if t.Kind == "m" || !slices.ContainsFunc(t.Columns, func(c foundColumn) bool { return c.guess != nil && !c.Fixed }) {
		return p, false
	}
	p.Kind, p.Subject, p.Why = t.subject(tables)
	if p.Subject == "" && !t.certain() {
		return p, false // perhaps free text of nobody
	}
	p.Undecided = p.Subject == ""
	if len(t.Key) == 1 && t.Key[0] != p.Subject {
		p.Key = t.Key[0]
	}
	for _, c := range t.Columns {
		if c.guess == nil || c.Fixed || c.Name == p.Subject {
			continue
		}
		p.Fields = append(p.Fields, t.field(c))
	}
	if !slices.ContainsFunc(p.Fields, func(f datamap.ProposedField) bool { return !f.Undecided }) {
		p.Undecided = true
	}
	if !p.Undecided && slices.Equal(t.Key, []string{p.Subject}) {
		p.Show = t.naming(p.Fields)
	}
	if slices.ContainsFunc(words(t.Name), func(w string) bool { return slices.Contains(obliging, w) }) {
		p.Why = append(p.Why, "What law has you keep although its person is erased gets a key of its own: {purpose: tax}.")
	}
	if len(t.Key) == 0 {
		p.Why = append(p.Why, "It has no primary key: adopt plan says what it needs.")
	}
	return p, len(p.Fields) > 0
}

// naming are fields by which people recognize each other.
func (t *found) naming(fields []datamap.ProposedField) (names []string) {
	const most = 3
	for _, f := range fields {
		i := slices.IndexFunc(t.Columns, func(c foundColumn) bool { return c.Name == f.DB })
		if is := t.Columns[i].guess.name; !f.Undecided && len(names) < most && (is == "names of people" || is == "e-mail addresses") {
			names = append(names, f.Name)
		}
	}
	return names
}

// oneOfAKind leaves what lists show to the first table of each kind.
func oneOfAKind(proposals []datamap.Proposal) {
	seen := map[string]bool{}
	for i := range proposals {
		if p := &proposals[i]; p.Show != nil && seen[p.Kind] {
			p.Show = nil
		} else if p.Show != nil {
			seen[p.Kind] = true
		}
	}
}

// certain tells whether the table holds more than what may be harmless.
func (t *found) certain() bool {
	return slices.ContainsFunc(t.Columns, func(c foundColumn) bool { return c.guess != nil && !c.Fixed && !c.guess.decide })
}

// obliging tables are those that law may oblige to keep.
var obliging = []string{"invoice", "invoices", "bill", "bills", "billing", "payment", "payments", "order", "orders", "rechnung", "rechnungen", "bestellung", "bestellungen", "zahlung", "zahlungen", "facture", "factures", "commande", "commandes", "factura", "facturas", "pedido", "pedidos", "pago", "pagos"}

func (t *found) field(c foundColumn) datamap.ProposedField {
	f := datamap.ProposedField{Name: c.Name, DB: c.Name, Blank: c.guess.blank, Why: c.why, Undecided: c.guess.decide || strings.HasSuffix(c.Type, "[]")}
	if !textual(c.Type) {
		f.Type = c.Type
	}
	if f.Blank == "" && c.NotNull {
		// An address often stands under a unique index, which undo has to satisfy.
		if f.Replace = replacement(c.Type); f.Replace == erased && strings.HasPrefix(c.guess.name, "e-mail") {
			f.Replace = "erased-{id}"
		}
	}
	return f
}

// documents begins the name of the class of JSON.
const documents = "documents with "

// distinct gives tables of one name in several schemas a logical name each.
func distinct(proposals []datamap.Proposal) {
	count := map[string]int{}
	for _, p := range proposals {
		count[p.Table]++
	}
	for i, p := range proposals {
		if count[p.Table] > 1 {
			proposals[i].Table = p.DB[0] + "_" + p.Table
		}
	}
}
