package pgadopt

import (
	"context"
	"errors"
	"fmt"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// VerifyReport is what Verify found.
type VerifyReport struct {
	Tables []TableReport `json:"tables"`
}

// TableReport is what stands in a table.
type TableReport struct {
	Table   string         `json:"table"`
	Rows    int64          `json:"rows"`
	BadRows int64          `json:"bad_rows"` // with a value, and without a valid person or key
	Columns []ColumnReport `json:"columns"`
	Named   []Named        `json:"named,omitempty"`
}

// ColumnReport counts the values of a column.
type ColumnReport struct {
	Column   string `json:"column"` // logical name
	Null     int64  `json:"null"`
	Sealed   int64  `json:"sealed"`   // open for their person
	Withheld int64  `json:"withheld"` // of people restricted or being erased: not looked into
	Erased   int64  `json:"erased"`   // sealed, and the key was destroyed
	Blank    int64  `json:"blank"`
	Plain    int64  `json:"plain"` // in the clear
	Bad      int64  `json:"bad"`   // look sealed and do not open
}

// Err says what is wrong, or nil.
func (t *TableReport) Err() error {
	c := complaints{about: fmt.Sprintf("table %q", t.Table)}
	c.say(t.BadRows, keystore.ErrInvalid, "rows have values and no valid id of a person or row")
	for _, col := range t.Columns {
		c.about = fmt.Sprintf("table %q column %s", t.Table, col.Column)
		c.say(col.Plain, keystore.ErrState, "values are plaintext")
		c.say(col.Bad, keystore.ErrTampered, "values do not authenticate")
	}
	return c.err()
}

// Verify reads the tables, each value of each personal column, and tells what it is. Its
// error says what is wrong: plaintext, and what looks sealed and does not authenticate for
// the person of its row. It changes nothing; rows that come or change meanwhile may be
// seen or not.
func Verify(ctx context.Context, c Config) (VerifyReport, error) {
	var report VerifyReport
	var errs []error
	for _, t := range c.Tables {
		r, err := verify(ctx, c, t)
		report.Tables = append(report.Tables, r)
		if err != nil {
			return report, fmt.Errorf("table %q: %w", t.Map.Table, err)
		}
		errs = append(errs, r.Err())
	}
	return report, errors.Join(errs...)
}

func verify(ctx context.Context, c Config, t *pgmap.Table) (TableReport, error) {
	r := TableReport{Table: t.Map.Table, Columns: make([]ColumnReport, len(t.Fields))}
	for i, f := range t.Fields {
		r.Columns[i].Column = f.Logical
	}
	codec, err := t.Codec(c.Keys, true)
	if err != nil {
		return r, err
	}
	meter := meter{tell: c.Progress}
	meter.start(t, "verify", 0)
	var names tally
	var values int64
	s := scan{db: c.DB, table: t, only: pgmap.All}
	err = s.each(ctx, func(rows []pgmap.Row) error {
		found, err := codec.Inspect(ctx, cellsOf(rows))
		if err != nil {
			return keysAway{err}
		}
		for i := range rows {
			r.Rows++
			bad := false
			for f := range found[i] {
				bad = r.Columns[f].count(found[i][f]) || bad
				values++
			}
			if bad {
				names.left(t, &rows[i], found[i])
			}
		}
		meter.at(r.Rows, values, 0, false)
		return nil
	})
	r.BadRows, r.Named = names.BadRows, names.Named
	meter.at(r.Rows, values, 0, true)
	return r, err
}

// count counts a value, and reports whether it is one to be named.
func (c *ColumnReport) count(f fieldcrypt.Found) bool {
	switch f.Content {
	case fieldcrypt.ContentNull:
		c.Null++
	case fieldcrypt.ContentSealed:
		c.Sealed++
	case fieldcrypt.ContentWithheld:
		c.Withheld++
	case fieldcrypt.ContentErased:
		c.Erased++
	case fieldcrypt.ContentBlank:
		c.Blank++
	case fieldcrypt.ContentPlain:
		c.Plain++
		return true
	default:
		if !rowless(f.Err) {
			c.Bad++
		}
		return true
	}
	return false
}
