package pgadopt_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// A run that looks for what it missed seals nothing in a table whose adoption is undone
// meanwhile: nobody would ever open it again.
func TestRunBesideUndo(t *testing.T) {
	for _, ends := range []bool{true, false} {
		ctx := t.Context()
		w := newDDLWorld(t, pgtest.Shared(t), fiftySQL, fiftyMap)
		keys, before := keystoretest.New(t), w.read()
		w.widen()
		lock, err := w.pool.Begin(ctx) // a row that the first pass misses
		require.NoError(t, err)
		defer lock.Rollback(ctx)
		_, err = lock.Exec(ctx, `SELECT FROM t WHERE id = 7 FOR UPDATE`)
		require.NoError(t, err)
		c, undone := w.config(keys), false
		c.Progress = func(at pgadopt.Progress) {
			if at.Step != "look again" || undone {
				return
			}
			undone = true
			require.NoError(t, lock.Rollback(ctx))
			if ends {
				_, err := pgadopt.Undo(ctx, w.config(keys))
				require.NoError(t, err)
				require.Equal(t, before, w.read())
			} else {
				require.NoError(t, pgadopt.Reopen(ctx, w.pool, w.tables()[0]))
				before = w.read()
			}
		}
		_, err = pgadopt.Run(ctx, c)
		require.True(t, undone)
		require.ErrorIs(t, err, pgadopt.ErrPhase)
		require.Equal(t, before, w.read())
	}
}

// Without any bookkeeping, because the last adoption was undone, no progress is noted.
func TestPhaseWithoutBookkeeping(t *testing.T) {
	db := connectTo(t, pgtest.Shared(t).Database(t))
	require.ErrorIs(t, pgadopt.SaveCursor(t.Context(), db, "t", pgadopt.PhaseWidened, nil, 0), pgadopt.ErrPhase)
	require.ErrorIs(t, pgadopt.SetPhase(t.Context(), db, "t", pgadopt.PhaseWidened, pgadopt.PhaseAdopted), pgadopt.ErrPhase)
	require.ErrorIs(t, pgadopt.CheckPhase(t.Context(), db, "t", pgadopt.PhaseWidened), pgadopt.ErrPhase)
}

// Who is erased while an undo has their rows open, and not yet written, stays erased.
func TestUndoBesideErasure(t *testing.T) {
	ctx := t.Context()
	keys := keystoretest.New(t)
	p := newPeople(t, pgtest.Shared(t).Database(t), keys, 800, 800, 0)
	_, err := pgadopt.Run(ctx, p.config(keys))
	require.NoError(t, err)
	p.exec(`CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.001); RETURN NEW; END$$`)
	p.exec(`CREATE TRIGGER slow BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION slow()`)
	erased := map[int]bool{}
	c := p.config(keys)
	c.Progress = func(at pgadopt.Progress) {
		if at.Step != "open" || len(erased) > 0 {
			return
		}
		for id, h := range p.read() {
			if strings.HasPrefix(h.Values[0], "oubli1.") && id%50 == 0 {
				erased[id] = true
				_, err := keys.Erase(ctx, keystore.Request{Subject: person(t, h.Person)})
				require.NoError(t, err)
			}
		}
	}
	_, err = pgadopt.Undo(ctx, c)
	require.NoError(t, err)
	require.NotEmpty(t, erased)
	for id, h := range p.read() {
		if erased[id] {
			require.Equal(t, "Erased", h.Values[0], "row %d", id)
		} else {
			require.Equal(t, "name ", h.Values[0][:5])
		}
	}
}
