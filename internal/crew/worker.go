//go:build linux

package crew

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
)

// workerVariable makes the test binary a worker; it holds a Config.
const workerVariable = "OUBLI_CREW_WORKER"

// Opener opens the root store that a Config names, in the process that will use it. It may
// make steps of its own for the gate.
type Opener func(c Config, g *Gate) (keystore.RootStore, error)

// Main is the TestMain of a package: in a process that a test started it does the work, in
// others it runs the tests with [pgtest.Main]. It does not return.
func Main(m *testing.M, open Opener) {
	text, is := os.LookupEnv(workerVariable)
	if !is {
		pgtest.Main(m)
	}
	var c Config
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		panic(err)
	}
	if err := work(c, open); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Config is what a process is told.
type Config struct {
	DSN      string        // of the database with the keystore and the rows
	Roots    []string      // for the Opener
	Standbys []string      // see pgstore.Options
	Chance   int           // one of so many steps of an advance is the last of the process; 0: none
	Idle     bool          // does only what it is commanded
	Name     string        // set by Hire, as is what follows
	Index    int64         // of this process among all; its rows have their own numbers
	Journal  string        // the file
	Begin    time.Duration // of the run, by boot time
}

// worker is one of the processes.
type worker struct {
	Config
	gate    *Gate
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

// connect opens the keystore and the rows of a worker.
func (w *worker) connect(ctx context.Context, open Opener) error {
	pool, err := pgxpool.New(ctx, w.DSN)
	if err != nil {
		return err
	}
	roots, err := open(w.Config, w.gate)
	if err == nil {
		w.keys, err = Open(ctx, w.Config, watched{roots: roots, journal: w.journal, chance: w.Chance}, w.gate)
	}
	if err != nil {
		pool.Close()
		return err
	}
	w.table = table{pool}
	return nil
}

// Open opens a keystore as a process that is told c does. The gate may be nil.
func Open(ctx context.Context, c Config, roots keystore.RootStore, g *Gate) (*keystore.Store, error) {
	if g == nil {
		g = &Gate{}
	}
	backend, err := pgstore.Open(ctx, c.DSN, &pgstore.Options{Standbys: c.Standbys})
	if err != nil {
		return nil, err
	}
	keys, err := keystore.Open(ctx, gated{backend, g}, roots, nil)
	if err != nil {
		return nil, errors.Join(err, backend.Close())
	}
	return keys, nil
}

// work is a worker from its start to its end.
func work(c Config, open Opener) error {
	ctx := context.Background()
	w := &worker{Config: c, gate: &Gate{}, mine: map[int64]note{}}
	var err error
	if w.journal, err = openJournal(c.Journal); err != nil {
		return err
	}
	unfinished, err := w.remember()
	if err != nil {
		return err
	}
	for { // the database or the root store may be away
		began := Now()
		if err = w.connect(ctx, open); err == nil {
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
	size := 60 + int64((Now()-w.Begin)*40/time.Second)
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
