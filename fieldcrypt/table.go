package fieldcrypt

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/oubli/oubli/keystore"
)

// Options of a Codec or RowCodec. nil means the defaults.
type Options struct {
	// Strict makes it an error to open what is withheld or erased.
	Strict bool
	// AllowAt accepts subject ids with an @, see keystore.AllowAt.
	AllowAt bool
	// Adopting names the columns (logical names) in which plaintext may still stand,
	// while a database that was full of it is being sealed. There, what has not the form
	// of an envelope or a blank reads as the value that it is, an empty text included,
	// and is counted: see Plaintext. Everywhere else plaintext is refused as tampered.
	// Values that have the form of an envelope must authenticate all the same.
	Adopting []string
}

// table is what Codec and RowCodec share: the fields of one table and how to seal and
// open a row of them, wherever its values stand. It does not change once made.
type table struct {
	store    *keystore.Store
	name     string
	kind     string
	fields   []field
	purposes []string // each once
	keyed    bool     // values are bound to the row
	strict   bool
	adopting []string // columns that may hold plaintext
	allow    []keystore.SubjectOption
	scratch  sync.Pool // of *scratch
	subjects memo
}

// field is one personal field.
type field struct {
	Field
	rule    rule
	purpose int    // index into table.purposes
	suffix  []byte // the end of its associated data

	path      []int // Codec: see reflect.Value.FieldByIndex
	kind      fieldKind
	offset    uintptr       // usual: in the struct
	binary    bool          // RowCodec: cells hold bytes
	plaintext *atomic.Int64 // being adopted: how many values were read as plaintext; else nil
}

func newTable(store *keystore.Store, name string, o *Options) *table {
	t := &table{store: store, name: name}
	t.subjects.seed = maphash.MakeSeed()
	if o != nil {
		t.strict = o.Strict
		t.adopting = o.Adopting
		if o.AllowAt {
			t.allow = append(t.allow, keystore.AllowAt())
		}
	}
	t.scratch.New = func() any { return new(scratch) }
	return t
}

// add appends a field, whose rule follows from its options: what cannot be NULL keeps
// its replacement.
func (t *table) add(f field, nullable bool) error {
	for _, other := range t.fields {
		if other.Name == f.Name {
			return fmt.Errorf("the name %s stands twice", f.Name)
		}
	}
	switch {
	case f.Blank != "":
		r, err := parseRule(f.Blank)
		if err != nil {
			return err
		}
		if r.kind == ruleNull && !nullable {
			return errors.New("blank=null: a string cannot be NULL, and two empty ones collide under UNIQUE: make it a *string or a Private")
		}
		f.rule = r
	case f.Replace != "" || !nullable:
		f.rule.kind = ruleConstant
	}
	f.purpose = -1
	for i, p := range t.purposes {
		if p == f.Purpose {
			f.purpose = i
		}
	}
	if f.purpose < 0 {
		f.purpose = len(t.purposes)
		t.purposes = append(t.purposes, f.Purpose)
	}
	f.suffix = appendFieldAAD(nil, t.name, f.Name, f.Purpose)
	t.fields = append(t.fields, f)
	return nil
}

// describe gives the personal fields in order.
func (t *table) describe() []Field {
	fs := make([]Field, len(t.fields))
	for i, f := range t.fields {
		fs[i] = f.Field
	}
	return fs
}

// replacement is what the field reads as when s is erased.
func (f *field) replacement(s keystore.Subject) string {
	return strings.ReplaceAll(f.Replace, "{id}", s.ID())
}

// readsErased tells whether v is something that the erased field reads as.
func (f *field) readsErased(v string, s keystore.Subject) bool {
	return v == "" || v == f.replacement(s) || f.rule.generalizes() && f.rule.generalize(v) == v
}

// blankReads is what a blank with this value reads as. Only a generalized value counts;
// a constant is what the tag says today.
func (f *field) blankReads(v string, s keystore.Subject) string {
	if v != "" && f.rule.generalizes() && f.rule.generalize(v) == v {
		return v
	}
	return f.replacement(s)
}

// slot is the value of one field on its way through sealing or opening.
type slot struct {
	state  slotState
	bin    bool   // a []byte column
	plain  bool   // opened: it was plaintext, in a column that is being adopted
	status Status // opened: how
	from   int    // opened: where its plaintext stands in the scratch
	to     int    // sealed: where its text does
	text   string // in: as stored, or in the clear; out: what to store, or what was read
	data   []byte // the same for a binary column, and for an encoded Private
	box    any    // opened: what a Private takes
}

type slotState uint8

const (
	slotAbsent  slotState = iota // NULL
	slotPlain                    // sealing: in the clear, in text
	slotEncoded                  // sealing: in the clear, in data
	slotStored                   // as stored
	slotKeep                     // done: the field stays as it is
	slotDone                     // done: write text, or data where bin
	slotNull                     // done: write NULL
)

// scratch holds what one call needs for a row and is used again for the next.
type scratch struct {
	general bool  // slots were used
	inSlots bool  // the caller reads the slots: no short cut past them
	sizes   []int // usual.go
	slots   []slot
	prime   []prime
	aad     []byte
	bin     []byte // envelopes
	text    []byte // texts of envelopes
	plain   []byte // plaintexts; wiped after use
	nonces  []byte
	met     []int64 // plaintext that was read, by field; nil unless columns are being adopted

	todo     []int              // the rows of the call that are to be done
	subjects []keystore.Subject // theirs
	once     []keystore.Subject // each subject once
	at       []int              // where the subject of each row is in once
	found    []keystore.Keys
	keys     []keystore.Keys
}

// prime is how a purpose is sealed for one subject.
type prime struct {
	id   uint32
	aead cipher.AEAD
	err  error
}

func (t *table) borrow() *scratch {
	sc := t.scratch.Get().(*scratch)
	if sc.slots == nil {
		sc.slots = make([]slot, len(t.fields))
		sc.prime = make([]prime, len(t.purposes))
		if len(t.adopting) > 0 {
			sc.met = make([]int64, len(t.fields))
		}
	}
	return sc
}

func (t *table) giveBack(sc *scratch) {
	if sc.general {
		clear(sc.slots)
		sc.general = false
	}
	for i := range sc.prime {
		if sc.prime[i].aead != nil || sc.prime[i].err != nil {
			sc.prime[i] = prime{}
		}
	}
	clear(sc.plain[:cap(sc.plain)])
	clear(sc.found)
	clear(sc.keys)
	t.scratch.Put(sc)
}

// subject makes a subject from its id.
func (t *table) subject(id any) (keystore.Subject, error) {
	return keystore.NewSubject(t.kind, id, t.allow...)
}

// subjectOfText is subject for ids that are strings.
func (t *table) subjectOfText(id string) (keystore.Subject, error) {
	return t.subjects.get(plainID{s: id}, func(id plainID) (keystore.Subject, error) { return t.subject(id.s) })
}

// rowKey is the text of a row's key. Like a subject's id it cannot be empty or zero.
func rowKey(v any) (string, error) {
	s, err := keystore.NewSubject("key", v, keystore.AllowAt())
	if err != nil {
		return "", fmt.Errorf("%w: the row's key is empty, zero, too long or of no supported type", keystore.ErrInvalid)
	}
	return s.ID(), nil
}

// rowError completes an error about a row.
func (t *table) rowError(op string, row int, s keystore.Subject, f *field, id uint32, err error) *RowError {
	e := &RowError{Op: op, Row: row, Subject: s, Table: t.name, KeyID: id, Err: err}
	if f != nil {
		e.Field = f.Name
	}
	// What a keystore.Error says about the subject and the key stands here already.
	for ke := (*keystore.Error)(nil); errors.As(e.Err, &ke); {
		if e.Err = ke.Err; e.Hint == "" {
			e.Hint = ke.Hint
		}
	}
	if e.Hint == "" {
		e.Hint = hint(err)
	}
	return e
}

func hint(err error) string {
	switch {
	case errors.Is(err, ErrVersion):
		return "upgrade this program"
	case errors.Is(err, keystore.ErrUnknownSubject), errors.Is(err, keystore.ErrUnknownKey):
		return "is this the keystore that the row was sealed with? This is not an erasure"
	case errors.Is(err, keystore.ErrTampered):
		return "the value was altered, or never was sealed, or belongs to another person, column, table or row"
	}
	return ""
}

// maxAttempts bounds how often a call looks keys up again because a subject's state
// changed meanwhile.
const maxAttempts = 100

var errRestless = fmt.Errorf("%w: the subject's state changed at every attempt; try again", keystore.ErrUnavailable)

// withKeys calls do for the rows in sc.todo, each with the keys of its subject in
// sc.subjects, from one round trip. do returns false when the keys were no longer fresh
// after its work and nothing has left the scratch: then it is called again with new ones.
func (t *table) withKeys(ctx context.Context, sc *scratch, write bool, do func(row int, keys keystore.Keys) (fresh bool)) error {
	for range maxAttempts {
		if len(sc.todo) == 0 {
			return nil
		}
		keys, err := t.lookup(ctx, sc, write)
		if err != nil {
			return err
		}
		left := 0
		for i, row := range sc.todo {
			if !do(row, keys[i]) {
				sc.todo[left], sc.subjects[left] = row, sc.subjects[i]
				left++
			}
		}
		sc.todo, sc.subjects = sc.todo[:left], sc.subjects[:left]
	}
	if len(sc.todo) > 0 {
		return restless(sc.subjects[0])
	}
	return nil
}

func restless(s keystore.Subject) error {
	return &keystore.Error{Op: "keys of", Subject: s, Err: errRestless}
}

// lookup gets the keys of sc.subjects, asking once for each subject.
func (t *table) lookup(ctx context.Context, sc *scratch, write bool) ([]keystore.Keys, error) {
	ask := sc.subjects
	at := sc.at
	if len(ask) > 1 {
		ask, at = sc.once[:0], at[:0]
		index := make(map[keystore.Subject]int, len(sc.subjects))
		for _, s := range sc.subjects {
			i, ok := index[s]
			if !ok {
				i = len(ask)
				index[s] = i
				ask = append(ask, s)
			}
			at = append(at, i)
		}
		sc.once, sc.at = ask, at
	}
	var err error
	if write {
		sc.found, err = t.store.Ensure(ctx, sc.found[:0], t.purposes, ask...)
	} else {
		sc.found, err = t.store.Lookup(ctx, sc.found[:0], ask...)
	}
	if err != nil || len(sc.subjects) <= 1 {
		return sc.found, err
	}
	sc.keys = sc.keys[:0]
	for _, i := range at {
		sc.keys = append(sc.keys, sc.found[i])
	}
	return sc.keys, nil
}
