package pgadopt_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
	"github.com/oubli/oubli/keystore/memstore"
)

func person(t testing.TB, id string) keystore.Subject {
	t.Helper()
	s, err := keystore.NewSubject("person", id)
	require.NoError(t, err)
	return s
}

func TestRunSealsEverything(t *testing.T) {
	pgtest.EachVersion(t, func(t *testing.T, version int) {
		ctx := t.Context()
		keys := keystoretest.New(t)
		p := newPeople(t, pgtest.Start(t, &pgtest.Options{Version: version}).Database(t), keys, 700, 50, 0)
		before := p.read()
		c := p.config(keys)
		var told []pgadopt.Progress
		c.Progress = func(p pgadopt.Progress) { told = append(told, p) }
		report, err := pgadopt.Run(ctx, c)
		require.NoError(t, err)
		r := report.Tables[0]
		require.Equal(t, pgadopt.PhaseAdopted, r.Phase)
		require.EqualValues(t, 700, r.Rows)
		require.EqualValues(t, 4*700-100, r.Sealed)
		require.Zero(t, r.Retried)
		require.NotEmpty(t, told)
		last := told[len(told)-1]
		require.EqualValues(t, 700, last.Rows)
		require.EqualValues(t, 2700, last.Values)
		require.Positive(t, last.Rate)
		requireKept(t, before, p.opened(keys))

		stored := p.read()
		report, err = pgadopt.Run(ctx, p.config(keys)) // twice is once
		require.NoError(t, err)
		require.EqualValues(t, 700, report.Tables[0].Rows)
		require.Zero(t, report.Tables[0].Sealed)
		require.Equal(t, stored, p.read())

		verified, err := pgadopt.Verify(ctx, p.config(keys))
		require.NoError(t, err)
		v := verified.Tables[0]
		require.EqualValues(t, 700, v.Rows)
		require.Equal(t, pgadopt.ColumnReport{Column: "email", Null: 100, Sealed: 600}, v.Columns[1])
		require.NoError(t, v.Err())
	})
}

// What cannot be sealed is named, and keeps the table from being adopted.
func TestWhatARunLeaves(t *testing.T) {
	ctx := t.Context()
	keys := keystoretest.New(t)
	p := newPeople(t, pgtest.Shared(t).Database(t), keys, 40, 10, 0)
	for _, id := range []string{"1", "2", "3"} {
		_, err := keys.Ensure(ctx, nil, []string{""}, person(t, id))
		require.NoError(t, err)
	}
	require.NoError(t, joined(keys.Restrict(ctx, &keystore.RestrictOptions{Purposes: []string{"adoption"}}, person(t, "1"))))
	_, err := keys.Erase(ctx, keystore.Request{Subject: person(t, "2")})
	require.NoError(t, err)
	p.exec(`UPDATE people SET name = 'oubli1.sQAAAAE' || repeat('A', 45) WHERE id = 33`) // of 4
	p.exec(`ALTER TABLE people ALTER COLUMN person DROP NOT NULL`)
	p.exec(`UPDATE people SET person = NULL WHERE id = 34`)

	report, err := pgadopt.Run(ctx, p.config(keys))
	r := report.Tables[0]
	require.ErrorIs(t, err, keystore.ErrState)
	require.ErrorIs(t, err, keystore.ErrErased)
	require.ErrorIs(t, err, keystore.ErrTampered)
	require.ErrorIs(t, err, keystore.ErrInvalid)
	require.Equal(t, pgadopt.PhaseWidened, r.Phase)
	require.Positive(t, r.Withheld)
	require.Positive(t, r.Erased)
	require.EqualValues(t, 1, r.Bad)
	require.EqualValues(t, 1, r.BadRows)
	require.Len(t, r.Named, 20)
	var named strings.Builder
	for _, n := range r.Named {
		fmt.Fprintln(&named, n)
	}
	require.Contains(t, named.String(), "row 10 column name of person/1: plaintext of somebody who is restricted")
	require.Contains(t, named.String(), "row 1 column name of person/2: plaintext of somebody who is erased")
	require.NotContains(t, named.String()+err.Error(), "@example.org")
	require.NotContains(t, named.String()+err.Error(), "name 1")

	verified, err := pgadopt.Verify(ctx, p.config(keys))
	require.ErrorIs(t, err, keystore.ErrTampered)
	v := verified.Tables[0]
	require.EqualValues(t, 1, v.BadRows)
	require.EqualValues(t, 1, v.Columns[0].Bad)
	require.EqualValues(t, 8, v.Columns[0].Plain)
	require.Error(t, v.Err())

	// All is mended.
	p.exec(`DELETE FROM people WHERE person = 2 OR id IN (33, 34)`)
	report, err = pgadopt.Run(keystore.WithPurpose(ctx, "adoption"), p.config(keys))
	require.NoError(t, err)
	require.Equal(t, pgadopt.PhaseAdopted, report.Tables[0].Phase)
	require.Equal(t, pgadopt.PhaseAdopted, p.phase())
}

// A program that still writes plaintext: what it writes during a run is sealed, and when
// it does not stop the run says so.
func TestOldWriter(t *testing.T) {
	ctx := t.Context()
	keys := keystoretest.New(t)
	p := newPeople(t, pgtest.Shared(t).Database(t), keys, 2000, 100, 0)
	written := make(chan int)
	begun := make(chan struct{})
	go func() {
		n := 0
		for end := time.Now().Add(400 * time.Millisecond); time.Now().Before(end); n++ {
			_, err := p.db.Exec(ctx, "UPDATE people SET name = $2, email = NULL WHERE id = $1", 1+rand.IntN(2000), fmt.Sprint("old ", n))
			if err != nil {
				t.Error(err)
			}
			if n == 0 {
				close(begun)
			}
		}
		written <- n
	}()
	<-begun
	_, err := pgadopt.Run(ctx, p.config(keys))
	if err != nil {
		require.ErrorContains(t, err, "a program still writes")
	}
	require.Positive(t, <-written)
	_, err = pgadopt.Run(ctx, p.config(keys))
	require.NoError(t, err)
	_, err = pgadopt.Verify(ctx, p.config(keys))
	require.NoError(t, err)

	// Whenever something is written, somebody writes plaintext into another row.
	p.exec(`CREATE FUNCTION another() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF pg_trigger_depth() = 1 THEN UPDATE people SET email = 'plain' WHERE id = 1; END IF;
		RETURN NULL; END $$`)
	p.exec(`CREATE TRIGGER another AFTER UPDATE ON people FOR EACH STATEMENT EXECUTE FUNCTION another()`)
	p.exec(`UPDATE people SET visits = 1 WHERE id = 2`)
	_, err = pgadopt.Run(ctx, p.config(keys))
	require.ErrorIs(t, err, keystore.ErrState)
	require.ErrorContains(t, err, "a program still writes")
}

// Transactions of an application that hold rows for long, and take them in any order, are
// neither killed nor held up; the rest is sealed meanwhile.
func TestLocks(t *testing.T) {
	ctx := t.Context()
	keys := keystoretest.New(t)
	const rows = 3000
	p := newPeople(t, pgtest.Shared(t).Database(t), keys, rows, 100, 0)
	held, err := p.db.Begin(ctx)
	require.NoError(t, err)
	_, err = held.Exec(ctx, "UPDATE people SET visits = visits + 1 WHERE id % 100 = 0")
	require.NoError(t, err)

	begin, running := context.WithCancel(ctx)
	var apps sync.WaitGroup
	var most atomic.Int64
	for w := range 2 {
		apps.Go(func() {
			for begin.Err() == nil {
				// Downwards, and so against the order of the run.
				err := pgx.BeginFunc(ctx, p.db, func(tx pgx.Tx) error {
					from := 100*rand.IntN(rows/100) + 40 + w*30
					for id := from; id > from-20; id -= 3 {
						start := time.Now()
						if _, err := tx.Exec(ctx, "UPDATE people SET visits = visits + 1 WHERE id = $1", id); err != nil {
							return err
						}
						most.Store(max(most.Load(), time.Since(start).Microseconds()))
						time.Sleep(time.Millisecond)
					}
					return nil
				})
				if err != nil {
					t.Errorf("the application failed: %v", err)
				}
			}
		})
	}
	done := make(chan error, 1)
	go func() {
		_, err := pgadopt.Run(ctx, p.config(keys))
		done <- err
	}()
	require.Eventually(t, func() bool {
		var plain int
		require.NoError(t, p.db.QueryRow(ctx, "SELECT count(*) FROM people WHERE NOT starts_with(name, 'oubli1.')").Scan(&plain))
		return plain == rows/100
	}, 20*time.Second, 20*time.Millisecond, "all but what is held is sealed")
	running()
	apps.Wait()
	select {
	case err := <-done:
		t.Fatalf("the run ended while rows were locked: %v", err)
	default:
	}
	require.NoError(t, held.Commit(ctx))
	require.NoError(t, <-done)
	require.Less(t, time.Duration(most.Load())*time.Microsecond, 900*time.Millisecond, "no lock was waited for until the server looked for deadlocks")
	_, err = pgadopt.Verify(ctx, p.config(keys))
	require.NoError(t, err)
}

// A table takes the memory of some pages, whatever its size.
func TestMemoryOfARunIsFlat(t *testing.T) {
	ctx := t.Context()
	keys := keystoretest.New(t)
	const rows = 3000 // of 10 KB each, and a third more sealed
	p := newPeople(t, pgtest.Shared(t).Database(t), keys, 0, 1, 0)
	p.exec("ALTER TABLE people ALTER name SET STORAGE EXTERNAL") // or the server would try to compress
	p.exec(strings.Replace(fill, "'name ' || i", "repeat('name ' || i, 1000)", 1), rows, 500)
	c := p.config(keys)
	var most atomic.Uint64
	sampling, stop := context.WithCancel(ctx)
	var sampler sync.WaitGroup
	sampler.Go(func() {
		var m runtime.MemStats
		for sampling.Err() == nil {
			runtime.ReadMemStats(&m)
			most.Store(max(most.Load(), m.HeapInuse))
			time.Sleep(2 * time.Millisecond)
		}
	})
	runtime.GC()
	report, err := pgadopt.Run(ctx, c)
	require.NoError(t, err)
	require.EqualValues(t, rows, report.Tables[0].Rows)
	stop()
	sampler.Wait()
	t.Logf("at most %d MB", most.Load()>>20)
	require.Less(t, most.Load(), uint64(50<<20))
}

// away is a keystore that can be taken away.
type away struct {
	keystore.Backend
	gone  atomic.Bool
	after atomic.Int64 // commits until it goes, if positive
}

func (a *away) Get(ctx context.Context, keys [][]byte) ([]keystore.Record, error) {
	if a.gone.Load() {
		return nil, fmt.Errorf("%w: taken away", keystore.ErrUnavailable)
	}
	return a.Backend.Get(ctx, keys)
}

func (a *away) Commit(ctx context.Context, groups []keystore.Group) (int, error) {
	if a.after.Add(-1) == 0 {
		a.gone.Store(true)
	}
	if a.gone.Load() {
		return 0, fmt.Errorf("%w: taken away", keystore.ErrUnavailable)
	}
	return a.Backend.Commit(ctx, groups)
}

func TestKeystoreAway(t *testing.T) {
	ctx := t.Context()
	backend, roots := &away{Backend: memstore.New()}, memstore.NewRoots()
	require.NoError(t, keystore.Create(ctx, backend, roots, &keystore.CreateOptions{Shards: 64}))
	keys, err := keystore.Open(ctx, backend, roots, nil)
	require.NoError(t, err)
	defer keys.Close()
	p := newPeople(t, pgtest.Shared(t).Database(t), keys, 4000, 4000, 0)
	before := p.read()
	backend.after.Store(5)
	start := time.Now()
	report, err := pgadopt.Run(ctx, p.config(keys))
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "run it again to go on")
	require.Less(t, time.Since(start), 20*time.Second)
	require.Less(t, report.Tables[0].Rows, int64(4000))
	require.Positive(t, report.Tables[0].Rows)
	require.Equal(t, pgadopt.PhaseWidened, p.phase())
	backend.gone.Store(false)
	first := report.Tables[0]
	report, err = pgadopt.Run(ctx, p.config(keys))
	require.NoError(t, err)
	second := report.Tables[0]
	stand, err := pgadopt.Verify(ctx, p.config(keys))
	require.NoError(t, err)
	sealed := int64(0)
	for _, c := range stand.Tables[0].Columns {
		sealed += c.Sealed
	}
	require.Equal(t, sealed, first.Sealed+second.Sealed, "it went on where it was, and sealed nothing twice")
	requireKept(t, before, p.opened(keys))
}

// Another run that comes to its end first changes the phase under this one.
func TestRunBesideOneThatEnds(t *testing.T) {
	ctx := t.Context()
	keys := keystoretest.New(t)
	p := newPeople(t, pgtest.Shared(t).Database(t), keys, 8000, 100, 0)
	before := p.read()
	changed := make(chan error)
	go func() {
		for {
			tag, err := p.db.Exec(ctx, `UPDATE oubli_adopt.tables SET phase = 'adopted', cursor = NULL WHERE done > 0`)
			if err != nil || tag.RowsAffected() > 0 {
				changed <- err
				return
			}
		}
	}()
	start := time.Now()
	report, err := pgadopt.Run(ctx, p.config(keys))
	require.NoError(t, err)
	require.NoError(t, <-changed)
	require.Less(t, time.Since(start), 30*time.Second)
	require.EqualValues(t, 8000, report.Tables[0].Rows)
	requireKept(t, before, p.opened(keys))

	changed = make(chan error)
	p.exec(`UPDATE people SET name = 'plain'`)
	go func() {
		for p.phase() != pgadopt.PhaseUndoing {
			if _, err := p.db.Exec(ctx, `UPDATE oubli_adopt.tables SET phase = 'undoing', cursor = NULL WHERE done > 0`); err != nil {
				break
			}
		}
		close(changed)
	}()
	_, err = pgadopt.Run(ctx, p.config(keys))
	<-changed
	require.ErrorIs(t, err, pgadopt.ErrPhase)
	require.ErrorContains(t, err, "being undone")
}

func TestRunWantsATableThatIsWidened(t *testing.T) {
	ctx := t.Context()
	keys := keystoretest.New(t)
	w := newDDLWorld(t, pgtest.Shared(t), peopleSQL, peopleMap)
	_, err := pgadopt.Run(ctx, pgadopt.Config{DB: w.pool, Keys: keys, Tables: w.tables()})
	require.ErrorIs(t, err, keystore.ErrState)
	require.ErrorContains(t, err, "not widened")
	w.widen()
	ended, end := context.WithCancel(ctx)
	end()
	_, err = pgadopt.Run(ended, pgadopt.Config{DB: w.pool, Keys: keys, Tables: w.tables()})
	require.True(t, errors.Is(err, context.Canceled), err)
	require.NoError(t, pgadopt.Reopen(ctx, w.pool, w.tables()[0]))
	_, err = pgadopt.Run(ctx, pgadopt.Config{DB: w.pool, Keys: keys, Tables: w.tables()})
	require.ErrorContains(t, err, "being undone")
}
