package keystore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Options of a [Store]. The zero value, and nil, are the defaults.
type Options struct {
	// ReadOnly opens without writing: nothing is recovered, no due root is destroyed,
	// no key is made. Methods that write fail with ErrReadOnly.
	ReadOnly bool

	// NextRoots is another place for the root: one to which it may be moved while this Store
	// is open, or from which it was. Open uses whichever of the two the keystore names, and
	// the Store goes on at the other by itself when another process moves the root there.
	// Without it, a process that others leave behind in a move is refused with ErrMismatch.
	// Restore and Create do not look at it. Default: none.
	NextRoots RootStore

	// CacheSize is how many subjects' keys are kept unwrapped, at most 1 KB each.
	// Default 100,000.
	CacheSize int

	// Clock tells the time; tests set it. Default time.Now.
	Clock func() time.Time

	// Logger is told what happens in the background of a call, such as a superseded
	// root that could not be destroyed yet. Default: nothing is logged.
	Logger *slog.Logger
}

// Store is an open keystore. It is safe for concurrent use.
type Store struct {
	backend  Backend
	roots    atomic.Pointer[RootStore] // a move changes it
	opened   bool                      // by Open: only the place that the record names will do
	readOnly bool
	clock    func() time.Time
	log      *slog.Logger

	id     StoreID
	layout layout
	grace  time.Duration

	cache  *otter.Cache[Subject, *entry]
	stamps []atomic.Uint64 // by shard: raised when a subject of it changes; see entry
	pages  []atomic.Pointer[page]
	lease  lease

	mu          sync.Mutex
	places      []RootStore // where else the root may be; replaced, never changed
	rootAEADs   map[RootID]tink.AEAD
	rootFlights map[RootID]*rootFlight
	flights     map[Subject]*flight // loads under way
	reveals     map[Subject]int     // contexts of receivers that have not ended
	revealed    chan struct{}       // closed and renewed when one ends

	advancing  chan struct{} // holds one token: who takes it may advance
	looked     time.Time     // when dying roots were last asked about; who may advance owns it
	newcomers  newcomers
	moveBudget int      // the constant, but in tests
	manyShards int      // so is this
	floor      []uint64 // in a restore: by page, the number that no new event may reuse
	closed     atomic.Bool
}

// StoreInfo is what is fixed about a keystore.
type StoreInfo struct {
	ID      StoreID       `json:"id"`
	Name    string        `json:"name"`
	Shards  int           `json:"shards"`
	Pages   int           `json:"pages"`
	Grace   time.Duration `json:"grace"`
	Lease   time.Duration `json:"lease,omitzero"` // see CreateOptions; 0 where no other process shares the keystore
	Root    Place         `json:"root"`
	Created time.Time     `json:"created"`
}

func newStore(b Backend, r RootStore, o *Options) *Store {
	if o == nil {
		o = &Options{}
	}
	s := &Store{backend: b, readOnly: o.ReadOnly, clock: o.Clock, log: o.Logger,
		rootAEADs: map[RootID]tink.AEAD{}, rootFlights: map[RootID]*rootFlight{}, flights: map[Subject]*flight{}, reveals: map[Subject]int{}, revealed: make(chan struct{}),
		advancing: make(chan struct{}, 1), moveBudget: moveBudget, manyShards: manyShards}
	s.roots.Store(&r)
	if o.NextRoots != nil {
		s.places = []RootStore{r, o.NextRoots}
	}
	s.lease.clocks = clocks{boot: bootTime, wall: time.Now}
	if s.clock == nil {
		s.clock = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	size := o.CacheSize
	if size <= 0 {
		size = 100_000
	}
	s.cache = otter.Must(&otter.Options[Subject, *entry]{MaximumSize: size})
	return s
}

// configure takes over what the epoch record fixes.
func (s *Store) configure(e *epochRecord) {
	s.id, s.layout, s.grace = e.store, e.layout, e.grace
	s.stamps = make([]atomic.Uint64, e.layout.shards)
	s.pages = make([]atomic.Pointer[page], e.layout.pages)
}

// now is the time in whole seconds, as records keep it.
func (s *Store) now() time.Time { return s.clock().UTC().Truncate(time.Second) }

// Close releases the keystore and forgets its keys. What is being read fails.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.lease.leave()
	s.cache.InvalidateAll()
	s.mu.Lock()
	clear(s.rootAEADs)
	s.mu.Unlock()
	for i := range s.pages {
		s.pages[i].Store(nil)
	}
	return s.backend.Close()
}

func (s *Store) check(write bool) error {
	if s.closed.Load() {
		return ErrClosed
	}
	if write && s.readOnly {
		return ErrReadOnly
	}
	return nil
}

// record reads and authenticates the epoch record.
func (s *Store) record(ctx context.Context) (*epochRecord, error) {
	var last Rev
	for {
		e, check, err := readEpoch(ctx, s.backend)
		if err != nil {
			return nil, err
		}
		root, err := s.rootAEAD(ctx, e.current)
		if errors.Is(err, ErrMismatch) && e.rev != last {
			last = e.rev // another process may have advanced, and destroyed it, meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		return e, check(root)
	}
}

func readEpoch(ctx context.Context, b Backend) (e *epochRecord, check func(tink.AEAD) error, err error) {
	recs, err := b.Get(ctx, [][]byte{epochKey})
	if err != nil {
		return nil, nil, err
	}
	if recs[0].Rev == 0 {
		return nil, nil, fmt.Errorf("%w: %s holds no keystore; make one with oubli init", ErrNotFound, b.Name())
	}
	return parseEpoch(recs[0])
}

// openPage opens a page as stored, and remembers it for readers.
func (s *Store) openPage(ctx context.Context, number uint8, rec Record) (*page, error) {
	if rec.Rev == 0 {
		return nil, fmt.Errorf("%w: page %d of %s is missing", ErrTampered, number, s.backend.Name())
	}
	if p := s.pages[number].Load(); p != nil && p.rev == rec.Rev {
		return p, nil
	}
	h, err := parsePageHeader(number, rec.Value)
	if err != nil {
		return nil, err
	}
	root, err := s.rootAEAD(ctx, h.root)
	if errors.Is(err, ErrMismatch) { // another process may have advanced, and destroyed it, meanwhile
		recs, err := s.backend.Get(ctx, [][]byte{pageKey(number)})
		if err != nil {
			return nil, err
		}
		if recs[0].Rev != rec.Rev {
			return nil, errStaleGeneration
		}
	}
	if err != nil {
		return nil, fmt.Errorf("page %d: %w", number, err)
	}
	p, err := h.open(s.id, s.layout, number, rec.Rev, root)
	if err != nil {
		return nil, err
	}
	if !s.closed.Load() {
		s.pages[number].Store(p)
	}
	return p, nil
}

// loadPage returns a page, from memory unless fresh is asked for.
func (s *Store) loadPage(ctx context.Context, number uint8, fresh bool) (*page, error) {
	if p := s.pages[number].Load(); p != nil && !fresh {
		return p, nil
	}
	for try := 0; ; try++ {
		recs, err := s.backend.Get(ctx, [][]byte{pageKey(number)})
		if err != nil {
			return nil, err
		}
		p, err := s.openPage(ctx, number, recs[0])
		if try < staleTries && errors.Is(err, errStaleGeneration) {
			continue
		}
		return p, err
	}
}

// loadPages reads all pages, in one round trip.
func (s *Store) loadPages(ctx context.Context) ([]*page, error) {
	keys := make([][]byte, s.layout.pages)
	for p := range keys {
		keys[p] = pageKey(uint8(p))
	}
	recs, err := s.backend.Get(ctx, keys)
	if err != nil {
		return nil, err
	}
	pages := make([]*page, len(recs))
	for p, rec := range recs {
		pages[p], err = s.openPage(ctx, uint8(p), rec)
		if errors.Is(err, errStaleGeneration) {
			pages[p], err = s.loadPage(ctx, uint8(p), true)
		}
		if err != nil {
			return nil, err
		}
	}
	return pages, nil
}

// decodeRing opens a ring as stored. It reads the page again when it does not hold the
// ring's generation: an advance may have come between.
func (s *Store) decodeRing(ctx context.Context, sub Subject, shard uint16, rec Record) (*ring, error) {
	h, err := parseRingHeader(rec.Value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", sub, err)
	}
	number := s.layout.page(shard)
	for fresh := false; ; fresh = true {
		p, err := s.loadPage(ctx, number, fresh)
		if err != nil {
			return nil, err
		}
		a, ok, err := p.aead(shard, h.gen)
		if err != nil {
			return nil, err
		}
		if ok {
			return openRing(s.id, sub, shard, rec, a)
		}
		if fresh {
			return nil, errStaleGeneration
		}
	}
}

// errStaleGeneration: ring or page was read before a re-key finished, or no page holds the
// ring's generation, which would be a loss. Reading both again tells which.
var errStaleGeneration = errors.New("the ring is under a generation that its page does not hold")

// Info tells what is fixed about the keystore.
func (s *Store) Info(ctx context.Context) (StoreInfo, error) {
	e, err := s.record(ctx)
	if err != nil {
		return StoreInfo{}, err
	}
	root := e.place
	if here := s.rootStore().Place(); here.URL == root.URL {
		root.Delay = here.Delay // the record has none
	}
	return StoreInfo{ID: s.id, Name: s.backend.Name(), Shards: s.layout.shards, Pages: s.layout.pages,
		Grace: s.grace, Lease: s.lease.length, Root: root, Created: e.created}, nil
}
