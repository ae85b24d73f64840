package fieldcrypt

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/oubli/oubli/keystore"
)

// memo remembers the subjects of ids seen lately: checking an id and making its text
// costs more than opening a field. Subjects are not secret. Its size is fixed.
type memo struct {
	seed    maphash.Seed
	entries [256]atomic.Pointer[memoEntry]
}

// plainID is an id as it stands in a row: an integer's bits or a string.
type plainID struct {
	n uint64
	s string
}

type memoEntry struct {
	id      plainID
	subject keystore.Subject
	aad     []byte // see appendSubjectAAD
}

// get returns the subject of an id, which make makes if it is not remembered.
func (m *memo) get(id plainID, make func(plainID) (keystore.Subject, error)) (keystore.Subject, error) {
	if e := m.seen(id); e != nil {
		return e.subject, nil
	}
	s, err := make(id)
	if err == nil {
		m.slot(id).Store(&memoEntry{id, s, appendSubjectAAD(nil, s.String())})
	}
	return s, err
}

// seen returns what is remembered of an id, nil if nothing is.
func (m *memo) seen(id plainID) *memoEntry {
	if e := m.slot(id).Load(); e != nil && e.id == id {
		return e
	}
	return nil
}

func (m *memo) slot(id plainID) *atomic.Pointer[memoEntry] {
	h := id.n * 0x9E3779B97F4A7C15 >> 32
	if id.s != "" {
		h = maphash.String(m.seed, id.s)
	}
	return &m.entries[h%uint64(len(m.entries))]
}
