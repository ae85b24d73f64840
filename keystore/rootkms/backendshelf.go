package rootkms

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/oubli/oubli/keystore"
)

// BackendShelf returns a shelf whose documents are records of b: for those who have a key
// management service, and no place of its own for a few documents. b MUST NOT be the
// backend of a keystore, which is refused with [keystore.ErrMismatch], nor be restored
// together with one. It is the caller's to close.
func BackendShelf(b keystore.Backend) Shelf { return &backendShelf{b} }

type backendShelf struct{ b keystore.Backend }

// epochKey stands in every keystore, and in nothing else.
var epochKey = []byte{0xff, 'e'}

func docKey(name string) []byte { return append([]byte{'d'}, name...) }

func (s *backendShelf) Get(ctx context.Context, name string) ([]byte, string, error) {
	recs, err := s.b.Get(ctx, [][]byte{docKey(name), epochKey})
	if err != nil {
		return nil, "", err
	}
	if recs[1].Rev != 0 {
		return nil, "", fmt.Errorf("%w: %s holds a keystore; what stands beside its roots needs a place of its own, which is not restored with it", keystore.ErrMismatch, s.b.Name())
	}
	if recs[0].Rev == 0 {
		return nil, "", nil
	}
	return recs[0].Value, strconv.FormatUint(uint64(recs[0].Rev), 16), nil
}

func (s *backendShelf) Put(ctx context.Context, name string, value []byte, rev string) (string, error) {
	var r [8]byte
	rand.Read(r[:])
	next := keystore.Rev(binary.BigEndian.Uint64(r[:]) | 1)
	err := s.commit(ctx, keystore.Write{Op: keystore.Put, Key: docKey(name), Rev: next, Value: value}, rev)
	return strconv.FormatUint(uint64(next), 16), err
}

func (s *backendShelf) Delete(ctx context.Context, name string, rev string) error {
	return s.commit(ctx, keystore.Write{Op: keystore.Delete, Key: docKey(name)}, rev)
}

func (s *backendShelf) commit(ctx context.Context, w keystore.Write, rev string) error {
	if rev != "" {
		is, err := strconv.ParseUint(rev, 16, 64)
		if err != nil {
			return fmt.Errorf("%w: %q is no revision of %s", keystore.ErrInvalid, rev, s.b.Name())
		}
		w.If = keystore.Rev(is)
	}
	_, err := s.b.Commit(ctx, []keystore.Group{{w}})
	return err
}

func (s *backendShelf) Name() string { return s.b.Name() }
