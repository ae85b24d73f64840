package storetest_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/storetest"
)

// faults are the promises that a broken backend does not keep.
type faults struct {
	unlockedGuard   bool // guards are checked, then let go before the write
	unlockedCheck   bool // so is every revision
	unlockedAbsence bool // so are guards that name an absence
	guardIgnored    bool
	lostWrite       bool // the last of several writes of a group
	tornBatch       bool // a group with a conflict leaves its first write
	conflictApplied bool // a group with a conflict is applied, though it is reported
	goesOn          bool // groups after a failed one are applied
	stopsEarly      bool // a conflict undoes the groups before it
	oldRevisions    bool // all groups are checked against the state before the call
	wrongDone       bool // done counts the failed group
	insertionOrder  bool // scans
	toIncluded      bool // scan bounds
	limitIgnored    bool
	keepsValues     bool // slices passed in
	sharesValues    bool // slices passed out
	sharedArena     bool // appending to a record runs into the next
	swallowsCancel  bool // a canceled read finds nothing
	swallowsClosed  bool // so does a closed backend
	commitsCanceled bool
	staleReads      bool // a read sees the state before the last commit
	emptyIsAbsent   bool
	textKeys        bool // keys end at a zero byte
	sortedGet       bool // records come in key order
	forgets         bool // nothing survives a reopening
	skipsAbsent     bool // records that come one by one are those that there are
	ownOrder        bool // their places are those of another order
	deafStream      bool // a canceled context does not stop them
}

// broken is a small, correct backend but for its faults.
type broken struct {
	faults
	mu       sync.Mutex
	records  map[string]keystore.Record
	previous map[string]keystore.Record // before the last commit
	inserted []string
	closed   bool
}

func (b *broken) Name() string { return "broken:" }

func (b *broken) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

func (b *broken) reopen() *broken {
	again := &broken{faults: b.faults, records: map[string]keystore.Record{}}
	if !b.forgets {
		again.records, again.inserted = maps.Clone(b.records), slices.Clone(b.inserted)
	}
	return again
}

func (b *broken) usable(ctx context.Context) error {
	if b.closed {
		return keystore.ErrClosed
	}
	return ctx.Err()
}

func (b *broken) key(k []byte) string {
	if i := bytes.IndexByte(k, 0); b.textKeys && i >= 0 {
		k = k[:i]
	}
	return string(k)
}

func (b *broken) out(key string, from map[string]keystore.Record) keystore.Record {
	r := from[key]
	if b.emptyIsAbsent && len(r.Value) == 0 {
		r.Rev = 0
	}
	r.Key = []byte(key)
	if !b.sharesValues {
		r.Value = bytes.Clone(r.Value)
	}
	return r
}

func (b *broken) Get(ctx context.Context, keys [][]byte) ([]keystore.Record, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]keystore.Record, len(keys))
	if err := b.usable(ctx); err != nil {
		if b.swallowsCancel && !b.closed || b.swallowsClosed && b.closed {
			return out, nil
		}
		return nil, err
	}
	from := b.records
	if b.staleReads && b.previous != nil {
		from = b.previous
	}
	for i, k := range keys {
		out[i] = b.out(b.key(k), from)
	}
	if b.sortedGet {
		slices.SortFunc(out, func(x, y keystore.Record) int { return bytes.Compare(x.Key, y.Key) })
	}
	if b.sharedArena {
		var arena []byte
		for _, r := range out {
			arena = append(append(arena, r.Key...), r.Value...)
		}
		for i, r := range out {
			k, v := len(r.Key), len(r.Value)
			out[i].Key, out[i].Value, arena = arena[:k], arena[k:k+v], arena[k+v:]
		}
	}
	return out, nil
}

func (b *broken) Each(ctx context.Context, keys [][]byte, f func(int, keystore.Record)) error {
	if b.deafStream {
		ctx = context.WithoutCancel(ctx)
	}
	rs, err := b.Get(ctx, keys)
	if err != nil {
		return err
	}
	for i, r := range rs {
		if b.ownOrder {
			i = len(rs) - 1 - i
		}
		if r.Rev != 0 || !b.skipsAbsent {
			f(i, r)
		}
	}
	return nil
}

func (b *broken) Scan(ctx context.Context, from, to []byte, limit int) ([]keystore.Record, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.usable(ctx); err != nil {
		return nil, err
	}
	keys := slices.Clone(b.inserted)
	if !b.insertionOrder {
		slices.Sort(keys)
	}
	var out []keystore.Record
	for _, k := range keys {
		past := k >= string(to)
		if b.toIncluded {
			past = k > string(to)
		}
		if k < string(from) || past || len(out) == limit && !b.limitIgnored {
			continue
		}
		out = append(out, b.out(k, b.records))
	}
	return out, nil
}

func (b *broken) Commit(ctx context.Context, groups []keystore.Group) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.usable(ctx); err != nil && !b.commitsCanceled {
		return 0, err
	}
	before := maps.Clone(b.records)
	conflict, done := error(nil), 0
	for _, g := range groups {
		if !b.holds(g, before) {
			conflict = fmt.Errorf("broken: %w", keystore.ErrConflict)
			switch {
			case b.tornBatch:
				b.apply(g[:1])
			case b.conflictApplied:
				b.apply(g)
			case b.stopsEarly:
				b.restore(before)
				done = 0
			case b.wrongDone:
				done++
			}
			if b.goesOn {
				continue
			}
			break
		}
		b.letGo()
		b.apply(g)
		done++
	}
	b.previous = before
	return done, conflict
}

// letGo gives others the chance that a missing lock gives them.
func (b *broken) letGo() {
	if b.unlockedGuard || b.unlockedCheck || b.unlockedAbsence {
		b.mu.Unlock()
		runtime.Gosched()
		b.mu.Lock()
	}
}

func (b *broken) holds(g keystore.Group, before map[string]keystore.Record) bool {
	now := b.records
	if b.oldRevisions {
		now = before
	}
	for _, w := range g {
		if w.Op == keystore.Guard && b.guardIgnored {
			continue
		}
		if b.out(b.key(w.Key), now).Rev != w.If {
			return false
		}
	}
	return true
}

func (b *broken) apply(g keystore.Group) {
	if (b.unlockedGuard || b.unlockedAbsence) && !b.unlockedCheck {
		// what is written is checked again, what is only named is not
		for _, w := range g {
			held := w.Op != keystore.Guard || b.unlockedAbsence && w.If != 0
			if held && b.records[string(w.Key)].Rev != w.If {
				return
			}
		}
	}
	if b.lostWrite && len(g) > 1 {
		g = g[:len(g)-1]
	}
	for _, w := range g {
		key, value := b.key(w.Key), w.Value
		if !b.keepsValues {
			value = bytes.Clone(value)
		}
		_, there := b.records[key]
		switch w.Op {
		case keystore.Put:
			b.records[key] = keystore.Record{Value: value, Rev: w.Rev}
			if !there {
				b.inserted = append(b.inserted, key)
			}
		case keystore.Delete:
			delete(b.records, key)
			b.inserted = slices.DeleteFunc(b.inserted, func(k string) bool { return k == key })
		}
	}
}

func (b *broken) restore(records map[string]keystore.Record) {
	b.records = maps.Clone(records)
	b.inserted = slices.DeleteFunc(b.inserted, func(k string) bool { _, there := records[k]; return !there })
}

func check(t *testing.T, f faults) error {
	s := &storetest.Suite{
		New: func() (keystore.Backend, error) {
			return &broken{faults: f, records: map[string]keystore.Record{}}, nil
		},
		Reopen: func(b keystore.Backend) (keystore.Backend, error) { return b.(*broken).reopen(), nil },
	}
	return s.Check(t.Context())
}

func TestPassesWhatIsRight(t *testing.T) {
	require.NoError(t, check(t, faults{}))
}

func TestCatchesWhatIsBroken(t *testing.T) {
	for name, c := range map[string]struct {
		faults faults
		want   string // the case that must catch it
	}{
		"unlocked guard":       {faults{unlockedGuard: true}, "guard held until the commit"},
		"unlocked check":       {faults{unlockedCheck: true}, "racing counter"},
		"unlocked absence":     {faults{unlockedAbsence: true}, "absence held until the commit"},
		"guard ignored":        {faults{guardIgnored: true}, "guards"},
		"lost write":           {faults{lostWrite: true}, "put, replace, delete"},
		"torn batch":           {faults{tornBatch: true}, "a group is whole"},
		"conflict applied":     {faults{conflictApplied: true}, "conflicts change nothing"},
		"goes on":              {faults{goesOn: true}, "groups stop at the first conflict"},
		"stops early":          {faults{stopsEarly: true}, "groups stop at the first conflict"},
		"old revisions":        {faults{oldRevisions: true}, "later groups build on earlier ones"},
		"wrong count":          {faults{wrongDone: true}, "groups stop at the first conflict"},
		"insertion order":      {faults{insertionOrder: true}, "scan order"},
		"bound included":       {faults{toIncluded: true}, "scan bounds"},
		"limit ignored":        {faults{limitIgnored: true}, "scan in steps"},
		"keeps what is passed": {faults{keepsValues: true}, "slices belong to the caller"},
		"shares what it holds": {faults{sharesValues: true}, "slices belong to the caller"},
		"records run together": {faults{sharedArena: true}, "slices belong to the caller"},
		"canceled reads":       {faults{swallowsCancel: true}, "canceled context"},
		"closed reads":         {faults{swallowsClosed: true}, "closed"},
		"canceled commits":     {faults{commitsCanceled: true}, "canceled context"},
		"stale reads":          {faults{staleReads: true}, "reads see the last commit"},
		"empty is absent":      {faults{emptyIsAbsent: true}, "empty and large values"},
		"text keys":            {faults{textKeys: true}, "binary keys"},
		"sorted get":           {faults{sortedGet: true}, "get in the order of keys"},
		"forgets":              {faults{forgets: true}, "durable"},
		"absent not called":    {faults{skipsAbsent: true}, "records as they come"},
		"other places":         {faults{ownOrder: true}, "records as they come"},
		"canceled stream":      {faults{deafStream: true}, "records as they come"},
	} {
		t.Run(name, func(t *testing.T) {
			err := check(t, c.faults)
			require.Error(t, err, "the suite passes a backend with this fault")
			require.Contains(t, err.Error(), c.want+": ", "another case was meant to catch it")
		})
	}
}
