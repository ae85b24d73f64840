package keystore

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// CreateOptions are fixed for the life of a keystore.
type CreateOptions struct {
	// Grace is how long a superseded root lives, so that keystore backups of that age
	// can be restored; an erasure is final when it ends. 0: an erasure is final at
	// once, and every earlier backup of the keystore is dead with it. Whole seconds.
	Grace time.Duration

	// Shards is how finely the keystore is divided, a power of two up to 65,536. An
	// erasure re-wraps all keys of its shard. Default 8,192.
	Shards int

	// Lease is L: how long after a subject became erasing or restricted another process
	// may still serve it from memory, so that whoever did it waits as long. All processes
	// poll twice in that time, and serve nobody when they can't for nine tenths of it.
	// For a Shared backend; others have no use for it. Whole milliseconds, at most a
	// minute. Default [DefaultLease].
	Lease time.Duration
}

// Create makes a keystore in an empty backend, and its first root in an empty root
// store. ErrExists says that either is not empty; nothing is then changed.
func Create(ctx context.Context, b Backend, roots RootStore, o *CreateOptions) error {
	if o == nil {
		o = &CreateOptions{}
	}
	shards := o.Shards
	if shards == 0 {
		shards = defaultShards
	}
	if shards < 1 || shards > maxShards || shards&(shards-1) != 0 {
		return fmt.Errorf("%w: %d shards: a power of two from 1 to %d is needed", ErrInvalid, shards, maxShards)
	}
	if o.Grace < 0 || o.Grace%time.Second != 0 {
		return fmt.Errorf("%w: a grace of %s: whole seconds from 0 are needed", ErrInvalid, o.Grace)
	}
	if err := checkLease(o.Lease); err != nil {
		return err
	}
	lease := o.Lease
	if _, ok := b.(Shared); ok && lease == 0 {
		lease = DefaultLease
	}
	recs, err := b.Scan(ctx, []byte{0}, []byte{globalPage, 0xff}, 1)
	if err != nil {
		return err
	}
	if len(recs) > 0 {
		return fmt.Errorf("%w: %s holds a keystore, or a part of one", ErrExists, b.Name())
	}

	s := newStore(b, roots, nil)
	now := s.now()
	l := newLayout(shards)
	root := Root{ID: newID(), Epoch: 1, Created: now, Key: newSecret()}
	e := &epochRecord{store: newID(), layout: l, grace: o.Grace, lease: lease, created: now, place: roots.Place(),
		epoch: 1, current: root.ID, roots: []rootInfo{{id: root.ID}}}
	s.configure(e)
	aead, err := s.rememberRoot(&root)
	if err != nil {
		return err
	}
	var groups []Group
	for n := range l.pages {
		value, err := newPage(l, uint8(n), e.epoch, root.ID).seal(s.id, aead)
		if err != nil {
			return err
		}
		groups = append(groups, Group{{Op: Put, Key: pageKey(uint8(n)), Rev: newRev(), Value: value}})
	}
	record, err := s.recordGroup(ctx, 0, e)
	if err != nil {
		return err
	}
	// The root first: a keystore without its root would be of no use. The record last:
	// it says that there is a keystore.
	if err := roots.Create(ctx, RootContents{Store: e.store, Living: []Root{root}, Anchor: Anchor{Epoch: 1, Counters: make([]uint64, l.pages)}}); err != nil {
		return err
	}
	if _, err := b.Commit(ctx, append(groups, record)); err != nil {
		if errors.Is(err, ErrConflict) {
			err = fmt.Errorf("%w: somebody else made a keystore in %s meanwhile", ErrExists, b.Name())
		}
		return fmt.Errorf("%w; the new root in %s serves nobody", err, roots.Place().URL)
	}
	return nil
}
