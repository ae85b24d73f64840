package pgadopt

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/fieldcrypt"
)

// undoCheck reads a table before its adoption is undone, and finds what cannot be put
// back.
type undoCheck struct {
	*opener
	report  *TableUndo
	uniques []uniqueIndex
	seed    maphash.Seed
}

// uniqueIndex is a unique index over personal columns alone. It does not see duplicates while
// they are sealed.
type uniqueIndex struct {
	name   string
	fields []int
	nulls  bool     // NULL is a value like any other
	seen   []uint64 // hashes of what was read, 8 bytes a row; sorted, then those that stand twice
}

const uniquesQuery = `
SELECT c.relname::text, (i.indkey::int2[])[0:i.indnkeyatts-1], COALESCE((pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct')::bool, false)
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = $1 AND i.indisunique AND i.indexprs IS NULL AND i.indpred IS NULL
ORDER BY c.relname`

// run checks the table.
func (c *undoCheck) run(ctx context.Context, progress func(Progress)) error {
	if err := c.findUniques(ctx); err != nil {
		return err
	}
	meter := meter{tell: progress}
	meter.start(c.table, "check", 0)
	s := scan{db: c.db, table: c.table, only: pgmap.All}
	var rows int64
	err := s.each(ctx, func(page []pgmap.Row) error {
		err := c.page(ctx, page)
		rows += int64(len(page))
		meter.at(rows, 0, 0, false)
		return err
	})
	meter.at(rows, 0, 0, true)
	if err != nil {
		return err
	}
	return c.duplicates(ctx)
}

func (c *undoCheck) findUniques(ctx context.Context) error {
	return reading(ctx, c.db, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, uniquesQuery, c.table.OID)
		if err != nil {
			return err
		}
		var name string
		var nums []int16
		var nulls bool
		_, err = pgx.ForEachRow(rows, []any{&name, &nums, &nulls}, func() error {
			u := uniqueIndex{name: name, nulls: nulls}
			for _, num := range nums {
				f := slices.IndexFunc(c.table.Fields, func(f pgmap.Field) bool { return f.Num == num })
				if f < 0 {
					return nil
				}
				u.fields = append(u.fields, f)
			}
			c.uniques = append(c.uniques, u)
			return nil
		})
		return err
	})
}

// page checks a page of rows.
func (c *undoCheck) page(ctx context.Context, rows []pgmap.Row) error {
	at := c.table.FieldAt()
	sealed := make([]bool, len(rows)*len(c.table.Fields))
	for i := range rows {
		for f := range c.table.Fields {
			sealed[i*len(c.table.Fields)+f] = sealedForm(rows[i].Cells[at+f], c.table.Fields[f].Binary)
		}
	}
	p, err := c.open(ctx, rows)
	if err != nil {
		return err
	}
	c.report.Withheld += p.count.Withheld
	c.report.Bad += p.count.Bad
	c.report.names.name(p.count.Named...)
	for f, field := range c.table.Fields {
		var texts []string
		var of []int
		for i := range rows {
			cell := rows[i].Cells[at+f]
			switch {
			case cell.Null && field.NotNull:
				c.unfitting(&rows[i], f, "it would become NULL, which the column does not take: give it a replace: in the data map")
			case cell.Null:
			case cell.Status != "" && sealed[i*len(c.table.Fields)+f] && sealedForm(cell, field.Binary):
				found, err := c.codec.Inspect(ctx, [][]fieldcrypt.Cell{rows[i].Cells})
				if err != nil {
					return keysAway{err}
				}
				if cell.Status == fieldcrypt.StatusOpen && found[0][f].Content != fieldcrypt.ContentPlain {
					c.unfitting(&rows[i], f, "it opens to something that has the form of an envelope itself")
				}
			case cell.Status == "" && sealedForm(cell, field.Binary): // bad, and counted
			case cell.Status == fieldcrypt.StatusWithheld:
			default:
				texts, of = append(texts, cell.Text), append(of, i)
			}
		}
		if len(texts) == 0 || field.Binary {
			continue
		}
		bad, err := c.unfit(ctx, f, texts)
		if err != nil {
			return err
		}
		for _, i := range bad {
			c.unfitting(&rows[of[i]], f, fmt.Sprintf("it does not fit %s, which the column was (what an erased person leaves is the replace: of the data map)", c.types[f].sql))
		}
	}
	for u := range c.uniques {
		for i := range rows {
			if h, ok := c.hash(&c.uniques[u], &rows[i]); ok {
				c.uniques[u].seen = append(c.uniques[u].seen, h)
			}
		}
	}
	return nil
}

func (c *undoCheck) unfitting(row *pgmap.Row, f int, what string) {
	c.report.Unfit++
	c.report.names.name(Named{Key: row.Key, Field: c.table.Fields[f].Logical, Subject: subjectOf(c.table, row), What: what})
}

// hash is of the columns of an index, keyed at random; false if the row is in nobody's
// way.
func (c *undoCheck) hash(u *uniqueIndex, row *pgmap.Row) (uint64, bool) {
	var h maphash.Hash
	h.SetSeed(c.seed)
	for _, f := range u.fields {
		cell := row.Cells[c.table.FieldAt()+f]
		if cell.Null {
			if !u.nulls {
				return 0, false
			}
			_ = h.WriteByte(0)
			continue
		}
		text := cell.Text
		if strings.HasSuffix(c.table.Fields[f].Base, "citext") {
			text = strings.ToLower(text)
		}
		maphash.WriteComparable(&h, text)
	}
	return h.Sum64(), true
}

// duplicates names the rows that a unique index will not take, if there are any: for
// that the table is read once more.
func (c *undoCheck) duplicates(ctx context.Context) error {
	found := false
	for i := range c.uniques {
		u := &c.uniques[i]
		slices.Sort(u.seen)
		var twice []uint64
		for j := 1; j < len(u.seen); j++ {
			if u.seen[j] == u.seen[j-1] && (twice == nil || twice[len(twice)-1] != u.seen[j]) {
				twice = append(twice, u.seen[j])
			}
		}
		u.seen = twice
		found = found || twice != nil
	}
	if !found {
		return nil
	}
	s := scan{db: c.db, table: c.table, only: pgmap.All}
	return s.each(ctx, func(rows []pgmap.Row) error {
		if _, err := c.open(ctx, rows); err != nil {
			return err
		}
		for i := range c.uniques {
			u := &c.uniques[i]
			for j := range rows {
				h, ok := c.hash(u, &rows[j])
				if !ok {
					continue
				}
				if _, is := slices.BinarySearch(u.seen, h); is {
					c.unfitting(&rows[j], u.fields[0], "another row has the same, and the unique index "+u.name+" takes it once (if both are erased: let the replace: of the data map hold {id})")
				}
			}
		}
		return nil
	})
}
