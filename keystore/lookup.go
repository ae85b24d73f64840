package keystore

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/maypok86/otter/v2"
)

// entry is a subject's ring in the cache, ready for use. It is immutable. stamp is that
// of the subject's shard, read before the ring was: an entry with an older stamp is not
// used, so that a load which began before a change can never put a key back.
type entry struct {
	shard uint16
	state State
	stamp uint64
	one   [1]dataKey // the usual case, without another allocation
	keys  []dataKey
	*special
}

// special is what few entries have; all others share the zero one.
type special struct {
	kept    bool
	listed  []string
	dropped []droppedKey
	gone    []string
	bad     error // the ring does not authenticate; nothing else is set, and it is never used from the cache
}

var plain special // never written

type dataKey struct {
	id      uint32
	purpose string
	*lazyAEAD
}

// lazyAEAD makes a key's cipher when it is first used: most of a batch that is created
// or of a ring that was rotated never is.
type lazyAEAD struct {
	once sync.Once
	key  Secret
	aead cipher.AEAD
}

func (l *lazyAEAD) cipher() cipher.AEAD {
	l.once.Do(func() {
		l.aead = newDataAEAD(&l.key)
		l.key = Secret{}
	})
	return l.aead
}

func newEntry(r *ring, stamp uint64) *entry {
	e := &entry{shard: r.shard, state: r.state, stamp: stamp, special: &plain}
	if r.state != StateActive || len(r.dropped)+len(r.gone) > 0 {
		e.special = &special{kept: r.kept, listed: r.purposes, dropped: r.dropped, gone: r.gone}
	}
	if len(r.keys) == 1 {
		e.keys = e.one[:]
	} else {
		e.keys = make([]dataKey, len(r.keys))
	}
	for i := range r.keys {
		k := &r.keys[i]
		e.keys[i] = dataKey{id: k.id, purpose: k.purpose, lazyAEAD: &lazyAEAD{key: k.key}}
	}
	return e
}

func (e *entry) withdrawn(purpose string) bool {
	return slices.Contains(e.gone, purpose) || e.kept && !slices.Contains(e.listed, purpose)
}

// Keys is one subject's unlocked keys, as the context that looked them up may use them.
// It is a small value; copy it freely, but do not keep it beyond the row at hand.
type Keys struct {
	s       *Store
	e       *entry // nil for an unknown subject
	subject Subject
	reveal  *reveal // the receiver's capability that the context carried, nil if none
	listed  bool    // the context named a purpose that a restricted subject lists
}

// Subject returns whose keys these are.
func (k Keys) Subject() Subject { return k.subject }

// State returns the subject's state when it was looked up.
func (k Keys) State() State {
	if k.e == nil {
		return StateUnknown
	}
	return k.e.state
}

// Err tells why the context may not read the subject, wrapping ErrUnknownSubject,
// ErrRestricted, ErrErasing, ErrErased or, for a ring that does not authenticate,
// ErrTampered; nil if it may.
func (k Keys) Err() error {
	switch k.State() {
	case StateActive:
		return nil
	case StateRestricted:
		if k.listed {
			return nil
		}
		return k.error(ErrRestricted, "read with a purpose that it lists")
	case StateErasing:
		if k.reveal != nil && !k.reveal.ended.Load() {
			return nil
		}
		return k.error(ErrErasing, "")
	case StateErased:
		return k.error(ErrErased, "")
	}
	if k.e != nil {
		return k.error(k.e.bad, "run oubli verify")
	}
	return k.error(ErrUnknownSubject, "no key was ever made for it in this keystore; is it the right one?")
}

// WriteErr tells why the context may not seal for the subject: as Err, and an erasing
// subject takes no new content from anybody.
func (k Keys) WriteErr() error {
	if k.State() == StateErasing {
		return k.error(ErrErasing, "")
	}
	return k.Err()
}

func (k Keys) error(err error, hint string) error {
	return &Error{Op: "use the keys of", Subject: k.subject, Err: err, Hint: hint}
}

// Withdrawn tells whether the keys of a purpose were destroyed while the subject lives on.
func (k Keys) Withdrawn(purpose string) bool { return k.e != nil && k.e.withdrawn(purpose) }

// WasErased tells whether keys were destroyed with the whole subject, which may have
// been readmitted since.
func (k Keys) WasErased() bool {
	return k.State() != StateUnknown && slices.ContainsFunc(k.e.dropped, func(d droppedKey) bool { return d.erased })
}

// Primary returns the key that seals for a purpose. The error wraps what WriteErr says,
// or ErrWithdrawn, or ErrUnknownKey where the purpose has no key yet; Ensure makes it.
func (k Keys) Primary(purpose string) (id uint32, key cipher.AEAD, err error) {
	if k.State() != StateActive {
		if err := k.WriteErr(); err != nil {
			return 0, nil, err
		}
	}
	for i := len(k.e.keys) - 1; i >= 0; i-- {
		if d := &k.e.keys[i]; d.purpose == purpose {
			return d.id, d.cipher(), nil
		}
	}
	if k.e.withdrawn(purpose) {
		return 0, nil, k.error(ErrWithdrawn, "")
	}
	return 0, nil, k.error(ErrUnknownKey, "the subject has no key for this purpose")
}

// Key returns the key that sealed under id, and its purpose. The error wraps ErrErased
// or ErrWithdrawn where the key was destroyed, what Err says where the state forbids
// reading, and ErrUnknownKey for an id that never was the subject's.
func (k Keys) Key(id uint32) (purpose string, key cipher.AEAD, err error) {
	if k.State() == StateUnknown {
		return "", nil, k.Err()
	}
	for i := range k.e.keys {
		if d := &k.e.keys[i]; d.id == id {
			if k.e.state != StateActive {
				if err := k.Err(); err != nil {
					return "", nil, err
				}
			}
			return d.purpose, d.cipher(), nil
		}
	}
	cause := ErrUnknownKey
	hint := "the subject never had it in this keystore; was the keystore restored, or is it another one?"
	for _, d := range k.e.dropped {
		if d.id == id {
			cause, hint = ErrWithdrawn, ""
			if d.erased {
				cause = ErrErased
			}
		}
	}
	return "", nil, &Error{Op: "use the keys of", Subject: k.subject, KeyID: id, Err: cause, Hint: hint}
}

// Fresh tells whether what Keys saw still holds. Ask after decrypting and before the
// plaintext leaves; when it is false, look up again.
func (k Keys) Fresh() bool {
	if k.s.closed.Load() {
		return false
	}
	if k.State() == StateUnknown {
		return true
	}
	return k.s.stamps[k.e.shard].Load() == k.e.stamp && (k.reveal == nil || !k.reveal.ended.Load())
}

// reveal is the capability that a pre-anonymize receiver's context carries.
type reveal struct {
	store   *Store
	subject Subject
	ended   atomic.Bool
}

// keys binds an entry to what the context may do.
func (s *Store) keys(ctx context.Context, sub Subject, e *entry) Keys {
	k := Keys{s: s, e: e, subject: sub}
	if e == nil || e.state == StateActive {
		return k
	}
	switch e.state {
	case StateRestricted:
		if p, ok := ctx.Value(ctxPurpose).(string); ok {
			k.listed = slices.Contains(e.listed, p)
		}
	case StateErasing:
		if r, ok := ctx.Value(ctxReveal).(*reveal); ok && r.store == s && r.subject == sub && !r.ended.Load() {
			k.reveal = r
		}
	}
	return k
}

// staleTries bounds how often a subject is loaded again because it changed meanwhile.
const staleTries = 100

// Lookup appends the keys of subjects to dst, in their order. What is not cached is
// read in one round trip; one that is being loaded already is waited for. The error is
// about the call as a whole and wraps ErrUnavailable, ErrTampered or ErrInvalid; what
// is the matter with one subject, Keys.Err tells.
func (s *Store) Lookup(ctx context.Context, dst []Keys, subjects ...Subject) ([]Keys, error) {
	if s.closed.Load() {
		return dst, ErrClosed
	}
	start := len(dst)
	var missing []int
	for i, sub := range subjects {
		e, ok := s.cache.GetIfPresent(sub)
		if !ok || !s.valid(e) {
			missing = append(missing, i)
			e = nil
		}
		dst = append(dst, s.keys(ctx, sub, e))
	}
	if len(missing) == 0 {
		return dst, nil
	}
	found := make([]*entry, len(subjects))
	if err := s.fetch(ctx, subjects, missing, found); err != nil {
		return dst[:start], err
	}
	for i, e := range found {
		if e != nil {
			dst[start+i] = s.keys(ctx, subjects[i], e)
		}
	}
	return dst, nil
}

// valid tells whether an entry is what the subject's record says now, as far as this
// process knows.
func (s *Store) valid(e *entry) bool { return s.stamps[e.shard].Load() == e.stamp }

// keep puts an entry into the cache, unless it is outdated. A change raises the stamp
// before it drops the entry, so that after an erasure no key is left there: what is put
// in too late for the one is seen by the other.
func (s *Store) keep(sub Subject, e *entry) {
	s.cache.Set(sub, e)
	if !s.valid(e) || s.closed.Load() {
		s.cache.ComputeIfPresent(sub, func(now *entry) (*entry, otter.ComputeOp) {
			if now == e {
				return nil, otter.InvalidateOp
			}
			return now, otter.CancelOp
		})
	}
}

// flight is a load under way. Who needs one of its subjects meanwhile waits for it.
type flight struct{ done chan struct{} }

// fetch loads the subjects at the given places, into found at the same places; an
// unknown one stays nil. One flight per miss; an entry that is outdated by the time it
// arrives is loaded again.
//
// The cache's own loader is not used: for a batch it costs more than the unwrapping.
func (s *Store) fetch(ctx context.Context, subjects []Subject, at []int, found []*entry) error {
	for range staleTries {
		mine, others, f := s.takeOff(subjects, at)
		again := at[:0:0]
		if len(mine) > 0 {
			err := s.fly(ctx, f, subjects, mine, found)
			if err != nil {
				return err
			}
			for _, i := range mine {
				if e := found[i]; e != nil && e.bad == nil && !s.valid(e) {
					found[i] = nil
					again = append(again, i)
				}
			}
		}
		for _, i := range others {
			if err := s.await(ctx, subjects[i]); err != nil {
				return err
			}
			if e, ok := s.cache.GetIfPresent(subjects[i]); ok && s.valid(e) {
				found[i] = e
			} else { // unknown, evicted, outdated, or its load failed
				again = append(again, i)
			}
		}
		if len(again) == 0 {
			return nil
		}
		at = again
	}
	return fmt.Errorf("%w: subjects kept changing while they were read", ErrUnavailable)
}

// takeOff divides what is to be loaded into what this call loads, entered as one
// flight, and what others are loading.
func (s *Store) takeOff(subjects []Subject, at []int) (mine, others []int, f *flight) {
	f = &flight{done: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range at {
		if other, ok := s.flights[subjects[i]]; ok && other != f {
			others = append(others, i)
			continue
		}
		s.flights[subjects[i]] = f
		mine = append(mine, i)
	}
	return mine, others, f
}

func (s *Store) fly(ctx context.Context, f *flight, subjects []Subject, mine []int, found []*entry) error {
	defer func() {
		s.mu.Lock()
		for _, i := range mine {
			delete(s.flights, subjects[i])
		}
		s.mu.Unlock()
		close(f.done)
	}()
	if err := s.load(ctx, subjects, mine, found); err != nil {
		return err
	}
	for _, i := range mine {
		if e := found[i]; e != nil && e.bad == nil && s.valid(e) && !s.closed.Load() {
			s.keep(subjects[i], e)
		}
	}
	return nil
}

// await waits until nobody is loading the subject.
func (s *Store) await(ctx context.Context, sub Subject) error {
	s.mu.Lock()
	f, ok := s.flights[sub]
	s.mu.Unlock()
	if !ok {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-f.done:
		return nil
	}
}

// load reads rings and makes entries of them. Unknown subjects stay nil, and so are
// never cached.
func (s *Store) load(ctx context.Context, subjects []Subject, at []int, found []*entry) error {
	for range staleTries {
		shards := make([]uint16, len(at))
		stamps := make([]uint64, len(at))
		keys := make([][]byte, len(at))
		for n, i := range at {
			if subjects[i].IsZero() {
				return fmt.Errorf("%w: the zero subject", ErrInvalid)
			}
			shards[n] = s.layout.shard(subjects[i])
			stamps[n] = s.stamps[shards[n]].Load()
			keys[n] = s.layout.ringKey(shards[n], subjects[i])
		}
		recs, err := s.backend.Get(ctx, keys)
		if err != nil {
			return err
		}
		again := at[:0:0]
		for n, i := range at {
			if recs[n].Rev == 0 {
				found[i] = nil
				continue
			}
			r, err := s.decodeRing(ctx, subjects[i], shards[n], recs[n])
			switch {
			case errors.Is(err, errStaleGeneration):
				again = append(again, i)
			case errors.Is(err, ErrTampered): // one bad ring keeps nobody else from reading
				found[i] = badEntry(err)
			case err != nil:
				return err
			default:
				found[i] = newEntry(r, stamps[n])
			}
		}
		if len(again) == 0 {
			return nil
		}
		at = again
	}
	for _, i := range at {
		found[i] = badEntry(fmt.Errorf("%w: %w", ErrTampered, errStaleGeneration))
	}
	return nil
}

func badEntry(err error) *entry { return &entry{stamp: ^uint64(0), special: &special{bad: err}} }
