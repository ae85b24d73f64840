package pgrows

import (
	"context"
	"fmt"
	"strings"
	"unsafe"

	"github.com/oubli/oubli/keystore"
)

// draw lets the database make the subject's id and the row's key, where the row has
// none yet and the database has a way to, and returns their columns. It is one round
// trip, and none if there is nothing to draw. What is drawn and then not used leaves a
// gap in a sequence, as a rollback does.
func (t *Table[T, ID]) draw(ctx context.Context, c *catalog, row unsafe.Pointer) (drawn []int, err error) {
	var values []string
	var w where
	var targets []any
	for _, i := range []int{t.layout.subject, t.layout.key} {
		if i < 0 || len(drawn) > 0 && drawn[0] == i {
			continue
		}
		d, v := c.columns[i], t.layout.columns[i].value(row)
		if !v.IsZero() || !d.hasDefault() {
			continue
		}
		value := d.expression
		if d.owned {
			value = fmt.Sprintf("pg_catalog.nextval(pg_catalog.pg_get_serial_sequence(%s, %s)::regclass)", w.arg(t.name), w.arg(d.name))
		}
		values = append(values, fmt.Sprintf("(%s)::%s", value, d.typ))
		targets = append(targets, v.Addr().Interface())
		drawn = append(drawn, i)
	}
	if drawn == nil {
		return nil, nil
	}
	rows, err := t.db.Query(ctx, "SELECT "+strings.Join(values, ", "), w.args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	if rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return nil, err
		}
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for _, i := range drawn {
		if f := &t.layout.columns[i]; f.value(row).IsZero() {
			return nil, fmt.Errorf("%w: the default of column %s makes no id", keystore.ErrInvalid, c.columns[i].name)
		}
	}
	return drawn, nil
}
