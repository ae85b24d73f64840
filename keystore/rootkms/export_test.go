package rootkms

import "github.com/oubli/oubli/keystore"

// Wrapped returns the wrapped roots in a head.
func Wrapped(doc []byte) (blobs [][]byte) {
	h, err := decodeHead(doc)
	if err != nil {
		panic(err)
	}
	for i := range h.roots {
		if len(h.roots[i].wrapped) > 0 {
			blobs = append(blobs, h.roots[i].wrapped)
		}
	}
	return blobs
}

// WithStore returns the head as it would stand on another keystore's shelf.
func WithStore(doc []byte, id keystore.StoreID) []byte {
	h, err := decodeHead(doc)
	if err != nil {
		panic(err)
	}
	h.store = id
	return h.encode()
}

// Keys and Shelf return what a Store was made of.
func (s *Store) Keys() Keys   { return s.keys }
func (s *Store) Shelf() Shelf { return s.shelf }
