package keystore

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/maypok86/otter/v2"
)

// entry is a subject's ring in the cache, ready for use. It is immutable. stamp is that
// of the subject's shard, read before the ring was: an entry with an older stamp is not
// used, so that a load which began before a change can never put a key back.
type entry struct {
	shard   uint16
	state   State
	kept    bool
	stamp   uint64
	one     [1]dataKey // the usual case, without another allocation
	keys    []dataKey
	listed  []string
	dropped []droppedKey
	gone    []string
	bad     error // the ring does not authenticate; nothing else is set, and it is never used from the cache
}

type dataKey struct {
	id      uint32
	purpose string
	aead    cipher.AEAD
}

func newEntry(r *ring, stamp uint64) (*entry, error) {
	e := &entry{shard: r.shard, state: r.state, kept: r.kept, stamp: stamp,
		listed: r.purposes, dropped: r.dropped, gone: r.gone}
	if len(r.keys) == 1 {
		e.keys = e.one[:]
	} else {
		e.keys = make([]dataKey, len(r.keys))
	}
	for i := range r.keys {
		k := &r.keys[i]
		a, err := newDataAEAD(&k.key)
		if err != nil {
			return nil, err
		}
		e.keys[i] = dataKey{id: k.id, purpose: k.purpose, aead: a}
	}
	return e, nil
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
			return d.id, d.aead, nil
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
			return d.purpose, d.aead, nil
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
		if r, ok := ctx.Value(ctxReveal).(*reveal); ok && r.store == s && r.subject == sub {
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
	if len(subjects) == 1 { // the hot path
		e, err := s.cached(ctx, subjects[0])
		if err != nil {
			return dst, err
		}
		return append(dst, s.keys(ctx, subjects[0], e)), nil
	}
	start := len(dst)
	var missing []Subject
	for _, sub := range subjects {
		e, ok := s.cache.GetIfPresent(sub)
		if !ok || s.stamps[e.shard].Load() != e.stamp {
			missing = append(missing, sub)
			e = nil
		}
		dst = append(dst, s.keys(ctx, sub, e))
	}
	if len(missing) == 0 {
		return dst, nil
	}
	found, err := s.cachedAll(ctx, missing)
	if err != nil {
		return dst[:start], err
	}
	for i, sub := range subjects {
		if dst[start+i].e == nil {
			dst[start+i] = s.keys(ctx, sub, found[sub])
		}
	}
	return dst, nil
}

// cached returns a subject's entry, loading it if need be; nil for an unknown one.
func (s *Store) cached(ctx context.Context, sub Subject) (*entry, error) {
	if e, ok := s.cache.GetIfPresent(sub); ok && s.stamps[e.shard].Load() == e.stamp {
		return e, nil
	}
	found, err := s.cachedAll(ctx, []Subject{sub})
	return found[sub], err
}

// cachedAll loads what is not in the cache or stale there. One flight per miss; an
// entry whose stamp is old by the time it arrives is loaded again.
func (s *Store) cachedAll(ctx context.Context, subjects []Subject) (map[Subject]*entry, error) {
	for _, sub := range subjects {
		if sub.IsZero() {
			return nil, fmt.Errorf("%w: the zero subject", ErrInvalid)
		}
	}
	all := make(map[Subject]*entry, len(subjects))
	for range staleTries {
		for _, sub := range subjects {
			s.dropStale(sub)
		}
		var err error
		if len(subjects) == 1 {
			var e *entry
			e, err = s.cache.Get(ctx, subjects[0], otter.LoaderFunc[Subject, *entry](s.loadOne))
			if err == nil {
				all[subjects[0]] = e
			} else if errors.Is(err, otter.ErrNotFound) {
				err = nil
			}
		} else {
			var found map[Subject]*entry
			found, err = s.cache.BulkGet(ctx, subjects, otter.BulkLoaderFunc[Subject, *entry](s.load))
			for sub, e := range found {
				all[sub] = e
			}
		}
		if err != nil {
			// Whoever waited for another's load gets that one's cancellation, too.
			if ctx.Err() == nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
				continue
			}
			return nil, err
		}
		var again []Subject
		for _, sub := range subjects {
			if e := all[sub]; e != nil && e.bad == nil && s.stamps[e.shard].Load() != e.stamp {
				delete(all, sub)
				again = append(again, sub)
			}
		}
		if len(again) == 0 {
			return all, nil
		}
		subjects = again
	}
	return nil, fmt.Errorf("%w: subjects kept changing while they were read", ErrUnavailable)
}

// dropStale removes an entry that is no longer valid, and only that one.
func (s *Store) dropStale(sub Subject) {
	s.cache.ComputeIfPresent(sub, func(old *entry) (*entry, otter.ComputeOp) {
		if s.stamps[old.shard].Load() != old.stamp {
			return nil, otter.InvalidateOp
		}
		return old, otter.CancelOp
	})
}

func (s *Store) loadOne(ctx context.Context, sub Subject) (*entry, error) {
	found, err := s.load(ctx, []Subject{sub})
	if err != nil {
		return nil, err
	}
	if e := found[sub]; e != nil {
		return e, nil
	}
	return nil, otter.ErrNotFound
}

// load reads rings and makes entries of them. Unknown subjects are not among them, and
// so are never cached.
func (s *Store) load(ctx context.Context, subjects []Subject) (map[Subject]*entry, error) {
	found := make(map[Subject]*entry, len(subjects))
	for range staleTries {
		shards := make([]uint16, len(subjects))
		stamps := make([]uint64, len(subjects))
		keys := make([][]byte, len(subjects))
		for i, sub := range subjects {
			shards[i] = s.layout.shard(sub)
			stamps[i] = s.stamps[shards[i]].Load()
			keys[i] = s.layout.ringKey(shards[i], sub)
		}
		recs, err := s.backend.Get(ctx, keys)
		if err != nil {
			return nil, err
		}
		var again []Subject
		for i, rec := range recs {
			if rec.Rev == 0 {
				continue
			}
			r, err := s.decodeRing(ctx, subjects[i], shards[i], rec)
			if errors.Is(err, errStaleGeneration) {
				again = append(again, subjects[i])
				continue
			}
			if errors.Is(err, ErrTampered) { // one bad ring keeps nobody else from reading
				found[subjects[i]] = badEntry(err)
				continue
			}
			if err != nil {
				return nil, err
			}
			if found[subjects[i]], err = newEntry(r, stamps[i]); err != nil {
				return nil, err
			}
		}
		if len(again) == 0 {
			return found, nil
		}
		subjects = again
	}
	for _, sub := range subjects {
		found[sub] = badEntry(fmt.Errorf("%w: %w", ErrTampered, errStaleGeneration))
	}
	return found, nil
}

func badEntry(err error) *entry { return &entry{stamp: ^uint64(0), bad: err} }
