package enginetest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"regexp"
	"slices"
	"time"

	"github.com/oubli/oubli/internal/oracle"
	"github.com/oubli/oubli/keystore"
)

// What an attacker reads who holds the storage of Vault and its unseal keys. Nothing here
// calls the code that is under test, or Vault's: the documents of the transit engine are
// JSON with 32 bytes in base64 for each key version; its ciphertext is "vault:vN:" and, in
// base64, nonce, AES-256-GCM and tag; the documents on the shelf and the associated data are
// read from docs/format.md.

// stored is a document of the engines' storage while it stood there.
type stored struct {
	Document
	from, until time.Time // until is zero while it stands
}

// seen follows an engine's storage. Its time is that of the test.
type seen struct {
	record *Record
	mount  func(mount string) bool // whether it is of interest
	read   int
	docs   []*stored
	latest map[string]*stored
}

// update takes over what was stored since.
func (s *seen) update(now time.Time) {
	s.record.mu.Lock()
	news := s.record.every[s.read:]
	s.record.mu.Unlock()
	s.read += len(news)
	for _, d := range news {
		if !s.mount(d.Mount) {
			continue
		}
		name := d.Mount + d.Key
		if old := s.latest[name]; old != nil {
			old.until = now
			delete(s.latest, name)
		}
		if d.Value != nil {
			doc := &stored{Document: d, from: now}
			s.docs = append(s.docs, doc)
			s.latest[name] = doc
		}
	}
}

// transitKeys are the key versions in the documents of transit engines that which says true
// for: every 32 bytes in them, whatever they are called.
func (s *seen) transitKeys(which func(*stored) bool) (keys []keystore.Secret) {
	have := map[keystore.Secret]bool{}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, v := range v {
				walk(v)
			}
		case []any:
			for _, v := range v {
				walk(v)
			}
		case string:
			if b, err := base64.StdEncoding.DecodeString(v); err == nil && len(b) == 32 && !have[keystore.Secret(b)] {
				have[keystore.Secret(b)] = true
				keys = append(keys, keystore.Secret(b))
			}
		}
	}
	for _, d := range s.docs {
		var v any
		if d.Engine == "transit" && which(d) && json.Unmarshal(d.Value, &v) == nil {
			walk(v)
		}
	}
	return keys
}

// standing tells of a document whether it is in the storage, or in a copy that was made not
// longer ago than copies.
func standing(now time.Time, copies time.Duration) func(*stored) bool {
	return func(d *stored) bool { return d.until.IsZero() || copies > 0 && d.until.Add(copies).After(now) }
}

func everOne(*stored) bool { return true }

// loot is what lies about of wrapped roots, wherever.
type loot struct {
	blobs    map[string][]byte // nonce, ciphertext and tag, by what stands in the document
	known    map[string]bool   // the bindings
	bindings [][]byte          // associated data that something was wrapped with
	bound    map[string]bool   // by blob that was opened: whether one of the bindings is its own
}

func newLoot() *loot {
	return &loot{blobs: map[string][]byte{}, known: map[string]bool{}, bound: map[string]bool{}}
}

var (
	ciphertext = regexp.MustCompile(`vault:v[0-9]+:([A-Za-z0-9+/]+=*)`)
	encoded    = regexp.MustCompile(`[A-Za-z0-9+/]{40,}=*`)
)

// take takes what is in raw: in it as it is, or in what is base64 in it.
func (l *loot) take(raw []byte) {
	l.takeRaw(raw)
	for _, text := range encoded.FindAll(raw, -1) {
		for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding} {
			if b, err := e.DecodeString(string(text)); err == nil {
				l.takeRaw(b)
			}
		}
	}
}

func (l *loot) takeRaw(raw []byte) {
	for _, m := range ciphertext.FindAllSubmatch(raw, -1) {
		if b, err := base64.StdEncoding.DecodeString(string(m[1])); err == nil {
			l.blobs[string(m[0])] = b
		}
	}
	for {
		i := bytes.Index(raw, []byte(shelfMagic))
		if i < 0 {
			return
		}
		raw = raw[i:]
		for _, ad := range bindings(raw) {
			if !l.known[string(ad)] {
				l.known[string(ad)] = true
				l.bindings = append(l.bindings, ad)
			}
		}
		raw = raw[len(shelfMagic):]
	}
}

// open returns the roots that keys open, as far as they are known to be some; known nil: any.
// AES-GCM decrypts without the associated data, which only authenticates: an attacker needs
// none. That it is as docs/format.md says is checked besides.
func (l *loot) open(keys []keystore.Secret, known func(keystore.Secret) bool) (roots []keystore.Root) {
	for _, k := range keys {
		gcm := oracle.GCM(k)
		block, err := aes.NewCipher(k[:])
		if err != nil {
			panic(err) // the length is right
		}
		for name, b := range l.blobs {
			var root keystore.Secret
			if len(b) != gcm.NonceSize()+len(root)+gcm.Overhead() {
				continue
			}
			counter := append(slices.Clone(b[:gcm.NonceSize()]), 0, 0, 0, 2)
			cipher.NewCTR(block, counter).XORKeyStream(root[:], b[gcm.NonceSize():][:len(root)])
			if known != nil && !known(root) {
				continue
			}
			bound := known != nil && l.bound[name] || slices.ContainsFunc(l.bindings, func(ad []byte) bool {
				_, err := gcm.Open(nil, b[:gcm.NonceSize()], b[gcm.NonceSize():], ad)
				return err == nil
			})
			if known != nil {
				l.bound[name] = bound
			}
			if bound || known != nil {
				roots = append(roots, keystore.Root{Key: root})
			}
		}
	}
	return roots
}

// unbound are the wrapped roots that were opened, and are not bound to what a document says.
func (l *loot) unbound() (list []string) {
	for name, bound := range l.bound {
		if !bound {
			list = append(list, name)
		}
	}
	return list
}

const shelfMagic = "oubliKH\n"

// bindings reads a head document, which begins raw, and makes the associated data of each
// root in it, by every key that the document names for it.
func bindings(raw []byte) (list [][]byte) {
	const header, optional = 8 + 2, 0x80
	in := input{b: raw}
	in.take(header)
	store := in.take(16)
	for !in.bad && len(in.b) > 0 {
		tag := in.take(1)[0]
		section := input{b: in.text()}
		if in.bad || tag >= 7 && tag < optional {
			return list // what follows is the checksum
		}
		if tag != 2 {
			continue
		}
		for range section.num() {
			id, epoch := section.take(16), section.num()
			section.num() // created
			section.take(1)
			names := [][]byte{section.text()}
			section.text() // wrapped: found as it is
			for range section.num() {
				names = append(names, section.text())
			}
			for range 3 {
				section.num()
			}
			if section.bad {
				return list
			}
			for _, name := range names {
				b := slices.Concat([]byte("oubli wrapped root\x01"), []byte{16}, store, []byte{16}, id, []byte{8})
				b = binary.BigEndian.AppendUint64(b, epoch)
				list = append(list, slices.Concat(binary.AppendUvarint(b, uint64(len(name))), name))
			}
		}
	}
	return list
}

// input takes bytes apart; after the first mistake it returns zeros.
type input struct {
	b   []byte
	bad bool
}

func (in *input) take(n uint64) []byte {
	if n > uint64(len(in.b)) {
		in.bad, in.b = true, nil
		return make([]byte, min(n, 32))
	}
	p := in.b[:n:n]
	in.b = in.b[n:]
	return p
}

func (in *input) num() uint64 {
	v, n := binary.Uvarint(in.b)
	if n <= 0 {
		in.bad, in.b = true, nil
		return 0
	}
	in.b = in.b[n:]
	return v
}

func (in *input) text() []byte {
	n := in.num()
	if n > uint64(len(in.b)) {
		in.bad, in.b = true, nil
		return nil
	}
	return in.take(n)
}
