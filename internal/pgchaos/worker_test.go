//go:build linux

package pgchaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
	"github.com/oubli/oubli/keystore/rootfile"
)

// workerVariable makes the test binary a worker; it holds a config.
const workerVariable = "OUBLI_CHAOS_WORKER"

func TestMain(m *testing.M) {
	text, is := os.LookupEnv(workerVariable)
	if !is {
		pgtest.Main(m)
	}
	var c config
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		panic(err)
	}
	if err := work(c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// config is what a worker is told.
type config struct {
	Name     string
	Index    int64 // of this worker among all; its rows have their own numbers
	DSN      string
	Roots    []string
	Standbys []string
	Journal  string
	Chance   int           // see watched
	Begin    time.Duration // of the run, by boot time
	Idle     bool          // does only what it is commanded
}

// worker is one of the processes.
type worker struct {
	config
	journal *journal
	keys    *keystore.Store
	codec   *fieldcrypt.Codec[note]
	table   table

	mu      sync.Mutex
	mine    map[int64]note // by row: subject and version of what this worker began to write
	lastRow int64
	samples []note // rows as stored, to open again without the database

	stopping atomic.Bool
	loops    sync.WaitGroup
}

// connect opens the keystore of a worker. The caller closes the pool.
func connect(ctx context.Context, c config, j *journal) (*keystore.Store, *pgxpool.Pool, error) {
	pool, err := pgxpool.New(ctx, c.DSN)
	if err != nil {
		return nil, nil, err
	}
	roots, err := rootfile.New(c.Roots, nil)
	if err != nil {
		return nil, nil, errors.Join(err, closed(pool))
	}
	backend, err := pgstore.Open(ctx, c.DSN, &pgstore.Options{Standbys: c.Standbys})
	if err != nil {
		return nil, nil, errors.Join(err, closed(pool))
	}
	keys, err := keystore.Open(ctx, backend, watched{roots: roots, journal: j, chance: c.Chance}, nil)
	if err != nil {
		return nil, nil, errors.Join(err, backend.Close(), closed(pool))
	}
	return keys, pool, nil
}

func closed(pool *pgxpool.Pool) error {
	pool.Close()
	return nil
}

// work is a worker from its start to its end.
func work(c config) error {
	ctx := context.Background()
	w := &worker{config: c, mine: map[int64]note{}}
	var err error
	if w.journal, err = openJournal(c.Journal); err != nil {
		return err
	}
	unfinished, err := w.remember()
	if err != nil {
		return err
	}
	for { // the database may be away
		began := now()
		var pool *pgxpool.Pool
		w.keys, pool, err = connect(ctx, c, w.journal)
		if err == nil {
			w.table = table{pool}
			break
		}
		w.failed("open the keystore", began, err)
		if c.Idle {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
	if w.codec, err = fieldcrypt.NewCodec[note](w.keys, "notes", nil); err != nil {
		return err
	}
	w.journal.write(entry{what: started})
	if !c.Idle {
		w.loop(0, 0, func() { w.read(ctx) })
		w.loop(0, 0, func() { w.look(ctx) })
		w.loop(2*time.Millisecond, 8*time.Millisecond, func() { w.write(ctx) })
		w.loop(50*time.Millisecond, 250*time.Millisecond, func() {
			w.erase(ctx, append(unfinished, w.some(1+rand.IntN(3))...)...)
			unfinished = nil
		})
		w.loop(30*time.Millisecond, 120*time.Millisecond, func() { w.advance(ctx) })
	}
	if err := w.obey(ctx, os.Stdin, os.Stdout); err != nil {
		return err
	}
	w.journal.write(entry{what: ended})
	w.table.pool.Close()
	return w.keys.Close()
}

// remember takes up what an earlier process of this name left: the rows that it began to
// write, and the erasures that it asked for and that did not return.
func (w *worker) remember() (unfinished []int64, err error) {
	pending := map[int64]bool{}
	w.lastRow = w.Index * 1e9
	err = readJournal(w.Journal, w.Name, func(e entry) {
		switch e.what {
		case writing:
			w.mine[e.row] = note{Row: e.row, Subject: e.subject, Version: e.version}
			w.lastRow = max(w.lastRow, e.row)
		case asked:
			pending[e.subject] = true
		case gone:
			delete(pending, e.subject)
		}
	})
	for id := range pending {
		unfinished = append(unfinished, id)
	}
	return unfinished, err
}

// loop runs f until the worker stops, with pauses of at least low.
func (w *worker) loop(low, more time.Duration, f func()) {
	w.loops.Go(func() {
		for !w.stopping.Load() {
			f()
			if more > 0 {
				time.Sleep(low + rand.N(more))
			}
		}
	})
}

// firstShared is the first subject that all loops share. Those below are for commands.
const firstShared = 1_000_000

// some are subjects, of a range that grows. Most are of those that came last.
func (w *worker) some(n int) []int64 {
	size := 60 + int64((now()-w.Begin)*40/time.Second)
	ids := make([]int64, n)
	for i := range ids {
		ids[i] = firstShared + size - 1 - rand.Int64N(min(size, 300))
		if rand.IntN(4) == 0 {
			ids[i] = firstShared + rand.Int64N(size)
		}
	}
	return ids
}

// kinds are what an error can be, the one that is told first if it is several: nothing
// that must alarm hides behind an outage.
var kinds = []struct {
	err  error
	kind what
}{
	{errDamaged, wrong},
	{keystore.ErrTampered, wrong},
	{keystore.ErrUnknownKey, wrong},
	{keystore.ErrUnknownSubject, wrong},
	{keystore.ErrBehind, wrong},
	{keystore.ErrMismatch, wrong},
	{keystore.ErrNotFound, wrong},
	{keystore.ErrErased, dark},
	{keystore.ErrWithdrawn, wrong},
	{keystore.ErrErasing, withheld},
	{keystore.ErrUnavailable, away},
	{context.DeadlineExceeded, away},
}

func kindOf(err error) what {
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k.kind
		}
	}
	return wrong
}

// failed notes that a call failed as a whole, which nothing but an outage may make it.
func (w *worker) failed(doing string, began time.Duration, err error) {
	kind := kindOf(err)
	if kind != away {
		kind = wrong
	}
	w.journal.write(entry{what: kind, began: began, note: fmt.Sprintf("%s: %v", doing, err)})
	time.Sleep(5 * time.Millisecond)
}
