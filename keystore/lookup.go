package keystore

import (
	"context"
	"crypto/cipher"
	"slices"
	"sync/atomic"
)

// Keys is one subject's unlocked keys, as the context that looked them up may use them.
// It is a small value; copy it freely, but do not keep it beyond the row at hand.
type Keys struct {
	s       *Store
	e       *entry // nil for an unknown subject
	subject Subject
	reveal  *reveal // the receiver's capability that the context carried, nil if none
	listed  bool    // the context named a purpose that a restricted subject lists
	read    bool    // from the backend since the call began, not from the cache

	// Of an unknown subject that was looked up: its shard's stamp from before.
	absent bool
	shard  uint16
	stamp  uint64
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
	for _, d := range k.e.dropped {
		if d.id == id {
			cause := ErrWithdrawn
			if d.erased {
				cause = ErrErased
			}
			return "", nil, &Error{Op: "use the keys of", Subject: k.subject, KeyID: id, Err: cause}
		}
	}
	if k.s.lease.shared() && !k.read {
		// Another process may have made it since this one read the ring: nothing of the
		// shard passes for fresh now, and who asks again has it read.
		k.s.stamps[k.e.shard].Add(1)
	}
	hint := "the subject never had it in this keystore; was the keystore restored, or is it another one?"
	return "", nil, &Error{Op: "use the keys of", Subject: k.subject, KeyID: id, Err: ErrUnknownKey, Hint: hint}
}

// Fresh tells whether what keys saw still holds, for all of them. Ask after decrypting
// and before the plaintext leaves, once for a batch: where the keystore is shared it looks
// at clocks. When it is false, look up again.
func Fresh(keys ...Keys) bool {
	var s *Store
	for i := range keys {
		k := &keys[i]
		if k.s != s {
			if s = k.s; s.closed.Load() || !s.lease.holds() {
				return false
			}
		}
		if k.absent && s.stamps[k.shard].Load() != k.stamp {
			return false // it may be known by now, and even erased
		}
		if k.State() != StateUnknown && (s.stamps[k.e.shard].Load() != k.e.stamp || k.reveal != nil && k.reveal.ended.Load()) {
			return false
		}
	}
	return true
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

// Cached returns the keys of a subject if they are at hand and the subject is active: what
// Lookup would give whatever its context allows, at less cost.
func (s *Store) Cached(sub Subject) (keys Keys, ok bool) {
	e, ok := s.cache.GetIfPresent(sub)
	if !ok || e.state != StateActive || !s.valid(e) || s.closed.Load() {
		return Keys{}, false
	}
	return Keys{s: s, e: e, subject: sub}, true
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
	if err := s.renew(ctx); err != nil {
		return dst, err
	}
	start := len(dst)
	var missing []int
	for i, sub := range subjects {
		e, ok := s.cache.GetIfPresent(sub)
		if ok && s.valid(e) {
			dst = append(dst, s.keys(ctx, sub, e))
			continue
		}
		missing = append(missing, i)
		k := s.keys(ctx, sub, nil)
		k.absent, k.shard = true, s.layout.shard(sub)
		k.stamp = s.stamps[k.shard].Load()
		dst = append(dst, k)
	}
	if len(missing) == 0 {
		return dst, nil
	}
	found := make([]*entry, len(subjects))
	joined, err := s.fetch(ctx, subjects, missing, found)
	if err != nil {
		return dst[:start], err
	}
	for i, e := range found {
		if e != nil {
			dst[start+i] = s.keys(ctx, subjects[i], e)
			dst[start+i].read = true
		}
	}
	for _, i := range joined {
		dst[start+i].read = false
	}
	return dst, nil
}
