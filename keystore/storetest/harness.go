package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/oubli/oubli/keystore"
)

// harness is the backend of one case, with what the cases say again and again.
type harness struct {
	keystore.Backend
	suite  *Suite
	closed bool
}

// end is behind every key that begins with a letter.
var end = []byte{0xff}

func put(key string, old, rev keystore.Rev, value string) keystore.Write {
	return keystore.Write{Op: keystore.Put, Key: []byte(key), If: old, Rev: rev, Value: []byte(value)}
}

func del(key string, old keystore.Rev) keystore.Write {
	return keystore.Write{Op: keystore.Delete, Key: []byte(key), If: old}
}

func guard(key string, rev keystore.Rev) keystore.Write {
	return keystore.Write{Op: keystore.Guard, Key: []byte(key), If: rev}
}

func randomRev() keystore.Rev { return keystore.Rev(rand.Uint64() | 1) }

// commit commits groups, which must succeed.
func (h *harness) commit(ctx context.Context, groups ...keystore.Group) error {
	done, err := h.Commit(ctx, groups)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if done != len(groups) {
		return fmt.Errorf("commit says that %d groups are done, want %d", done, len(groups))
	}
	return nil
}

// refuse commits groups, which must stop with a conflict after done of them.
func (h *harness) refuse(ctx context.Context, done int, groups ...keystore.Group) error {
	n, err := h.Commit(ctx, groups)
	if !errors.Is(err, keystore.ErrConflict) {
		return fmt.Errorf("commit on a revision that does not hold: got %v, want ErrConflict", err)
	}
	if n != done {
		return fmt.Errorf("commit with a conflict says that %d groups are done, want %d", n, done)
	}
	return nil
}

// one reads one record.
func (h *harness) one(ctx context.Context, key string) (keystore.Record, error) {
	rs, err := h.Get(ctx, [][]byte{[]byte(key)})
	if err != nil {
		return keystore.Record{}, fmt.Errorf("get %x: %w", key, err)
	}
	if len(rs) != 1 {
		return keystore.Record{}, fmt.Errorf("get of one key returns %d records", len(rs))
	}
	return rs[0], nil
}

// want checks what stands under key; rev 0: nothing.
func (h *harness) want(ctx context.Context, key string, rev keystore.Rev, value string) error {
	r, err := h.one(ctx, key)
	if err != nil {
		return err
	}
	return same(r, key, rev, value)
}

func same(r keystore.Record, key string, rev keystore.Rev, value string) error {
	switch {
	case r.Rev != rev:
		return fmt.Errorf("record %x has revision %d, want %d", key, r.Rev, rev)
	case rev != 0 && !bytes.Equal(r.Key, []byte(key)):
		return fmt.Errorf("record %x calls itself %x", key, r.Key)
	case rev != 0 && string(r.Value) != value:
		return fmt.Errorf("record %x has another value than was written, %d bytes, want %d", key, len(r.Value), len(value))
	}
	return nil
}

// scanKeys checks that a scan finds just keys.
func (h *harness) scanKeys(ctx context.Context, from, to string, limit int, keys ...string) error {
	rs, err := h.Scan(ctx, []byte(from), []byte(to), limit)
	if err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	var got []string
	for _, r := range rs {
		got = append(got, string(r.Key))
	}
	if fmt.Sprintf("%x", got) != fmt.Sprintf("%x", keys) {
		return fmt.Errorf("scan from %x to %x, at most %d: got keys %x, want %x", from, to, limit, got, keys)
	}
	return nil
}

// first returns the first error: the steps of a case, in which later ones make no
// sense after one that failed.
func first(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
