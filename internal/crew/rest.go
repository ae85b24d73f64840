//go:build linux

package crew

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// sacrifice is a subject that nobody else uses.
const sacrifice = 999_999

// Rest is what is left when all processes have ended.
type Rest struct {
	Living, Erased int // rows, by what became of their subjects
	Rings          int
	Faults         []string
}

// AtRest looks at what is left when all processes have ended: a keystore that is whole, with
// one root, and every row of everybody who was not erased. It waits until what is not final
// could be so. The caller has opened keys, with roots, on the database of dsn.
func AtRest(ctx context.Context, keys *keystore.Store, roots keystore.RootStore, dsn string, v *Verdict) (*Rest, error) {
	rest := &Rest{}
	if err := rest.settle(ctx, keys); err != nil {
		return nil, err
	}
	h, err := keys.Health(ctx)
	if err != nil {
		return nil, err
	}
	living, err := roots.Load(ctx)
	if err != nil {
		return nil, err
	}
	if len(h.Roots) != 1 || h.Roots[0].Role != "current" || len(living.Living) != 1 || living.Living[0].ID != h.Roots[0].ID {
		rest.bad("not one root: the keystore names %v, the root store holds %d", h.Roots, len(living.Living))
	}
	if h.Advancing || len(h.Unnamed)+len(h.Away)+h.Overdue+h.Pending+h.Restricted+h.Unadvanced+len(h.NotFinal) > 0 {
		rest.bad("something is left over: %+v", h)
	}
	report, err := keys.Verify(ctx)
	if err != nil {
		return nil, err
	}
	rest.Rings = report.Rings
	for _, p := range report.Problems {
		rest.bad("verify: %v", p)
	}
	for id := range v.gone {
		st, err := keys.Status(ctx, Subject(id))
		if err != nil {
			return nil, err
		}
		if st[0].State != keystore.StateErased || !st[0].Final || len(st[0].Keys) > 0 {
			rest.bad("subject %d was erased; it is %s, final %v, with %d keys", id, st[0].State, st[0].Final, len(st[0].Keys))
		}
	}
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	return rest, rest.rows(ctx, keys, table{pool}, v)
}

func (r *Rest) bad(format string, args ...any) {
	r.Faults = append(r.Faults, fmt.Sprintf(format, args...))
}

// settle makes an advance, with which a root dies that a killed process made and named
// nowhere, and waits until what it supersedes is destroyed.
func (r *Rest) settle(ctx context.Context, keys *keystore.Store) error {
	if _, err := keys.Ensure(ctx, nil, []string{""}, Subject(sacrifice)); err != nil {
		return err
	}
	es, err := keys.Erase(ctx, keystore.Request{Subject: Subject(sacrifice)})
	if err == nil {
		err = es[0].Err
	}
	if err != nil {
		return err
	}
	if !es[0].Final {
		if wait := time.Until(es[0].FinalAt); es[0].FinalAt.IsZero() || wait > time.Minute {
			r.bad("an erasure at rest is final at %v", es[0].FinalAt)
		} else {
			time.Sleep(wait)
		}
	}
	return keys.Advance(ctx)
}

// rows looks at all rows.
func (r *Rest) rows(ctx context.Context, keys *keystore.Store, t table, v *Verdict) error {
	codec, err := fieldcrypt.NewCodec[note](keys, "notes", nil)
	if err != nil {
		return err
	}
	list, err := t.all(ctx)
	if err != nil {
		return err
	}
	there := map[int64]bool{}
	for _, n := range list {
		there[n.Row] = true
		if err := codec.Open(ctx, &n); err != nil {
			return fmt.Errorf("row %d: %w", n.Row, err)
		}
		_, isGone := v.gone[n.Subject]
		switch {
		case isGone && n.Privacy != fieldcrypt.StatusErased:
			r.bad("row %d of subject %d, who was erased, reads %q", n.Row, n.Subject, n.Privacy)
		case isGone:
			r.Erased++
		case v.doubt[n.Subject] == 0:
			r.Living++
			if fault := v.judgeRow(n); fault != "" {
				r.bad("%s", fault)
				continue
			}
			ks, err := keys.Lookup(ctx, nil, Subject(n.Subject))
			if err != nil {
				return err
			}
			if raw, err := openRaw(ks[0], n.Row, n.Raw); err != nil || raw != n.Text {
				r.bad("row %d of subject %d opens with its key to something else: %v", n.Row, n.Subject, err)
			}
		}
	}
	for row := range v.acked {
		if !there[row] {
			r.bad("row %d was committed and is gone", row)
		}
	}
	return nil
}
