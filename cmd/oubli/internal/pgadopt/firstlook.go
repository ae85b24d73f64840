package pgadopt

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// enough rows tell whether the application and the map mean the same.
const enough = 200

// firstLook refuses a table before its first value is sealed if applications have sealed
// rows of it already, and by this map and keystore none of them opens: a logical name, a
// purpose or the key differs from that in their structs, and neither would read what the
// other sealed. Binary columns are left out, whose random bytes may look sealed.
func firstLook(ctx context.Context, c Config, t *pgmap.Table, r *Record) error {
	if r.Phase != PhaseWidened || r.Done > 0 || r.Cursor != nil {
		return nil
	}
	var rows []pgmap.Row
	err := retry(ctx, func() error {
		return reading(ctx, c.DB, func(tx pgx.Tx) (err error) {
			rows, err = t.Page(ctx, tx, pgmap.PageOptions{Limit: enough, Only: pgmap.Sealed})
			return err
		})
	})
	if err != nil || len(rows) == 0 {
		return err
	}
	codec, err := t.Codec(c.Keys, true)
	if err != nil {
		return err
	}
	found, err := codec.Inspect(ctx, cellsOf(rows))
	if err != nil {
		return keysAway{err}
	}
	var bad *fieldcrypt.Found
	n := 0
	for i := range found {
		for f := range found[i] {
			if t.Fields[f].Binary {
				continue
			}
			switch found[i][f].Content {
			case fieldcrypt.ContentSealed, fieldcrypt.ContentErased, fieldcrypt.ContentWithheld:
				return nil
			case fieldcrypt.ContentBad:
				if !rowless(found[i][f].Err) {
					bad, n = &found[i][f], n+1
				}
			}
		}
	}
	if n < 2 { // one may be what somebody typed
		return nil
	}
	return fmt.Errorf("%w: table %q: what programs have sealed does not open by this data map, none of %d values (%s): the names of table and fields, purposes and key: must be those of their structs, and the keystore theirs; nothing was sealed",
		keystore.ErrTampered, t.Map.Table, n, cause(bad.Err))
}
