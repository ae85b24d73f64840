package fieldcrypt

import (
	"fmt"
	"reflect"
	"strings"
	"sync"

	"github.com/oubli/oubli/keystore"
)

// Codec seals and opens the personal fields of rows of type T, a struct whose tags the
// package comment describes. It is safe for concurrent use.
type Codec[T any] struct {
	*plan
	rows   sync.Pool // of *T
	before sync.Pool // of *[chunk]T
}

// NewCodec reads the tags of T. table is the logical name of the table: it is part of
// what every value is bound to, the same in Go and in a data map, and stays when the
// physical table is renamed. o may be nil. The error names all mistakes of the struct
// and wraps keystore.ErrInvalid.
func NewCodec[T any](keys *keystore.Store, table string, o *Options) (*Codec[T], error) {
	p, err := readPlan(newTable(keys, table, o), reflect.TypeFor[T]())
	if err != nil {
		return nil, err
	}
	c := &Codec[T]{plan: p}
	c.rows.New = func() any { return new(T) }
	c.before.New = func() any { return new([chunk]T) }
	return c, nil
}

// Table returns the logical name of the table.
func (c *Codec[T]) Table() string { return c.name }

// Kind returns the kind of the rows' subjects.
func (c *Codec[T]) Kind() string { return c.kind }

// Fields returns the personal fields in struct order.
func (c *Codec[T]) Fields() []Field { return c.describe() }

// Plaintext tells how many values were read as plaintext since the codec was made, by
// column that is being adopted: see Options.Adopting. Whose cannot be shown any more, or
// not to that context, count as well.
func (c *Codec[T]) Plaintext() map[string]int64 { return c.plaintexts() }

// SubjectOf returns whose row it is. The error wraps keystore.ErrInvalid: an id that is
// empty or zero is one that the database has not made yet.
func (c *Codec[T]) SubjectOf(row *T) (keystore.Subject, error) {
	return c.subjectOf(reflect.ValueOf(row).Elem())
}

func (p *plan) subjectOf(row reflect.Value) (keystore.Subject, error) {
	v, ok := at(row, p.subjectAt)
	if !ok {
		return keystore.Subject{}, fmt.Errorf("%w: the subject's id stands in a struct that is nil", keystore.ErrInvalid)
	}
	switch p.idKind {
	case reflect.String:
		return p.subjectOfText(v.String())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return p.subjects.get(plainID{n: uint64(v.Int())}, func(id plainID) (keystore.Subject, error) {
			return p.subject(int64(id.n))
		})
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return p.subjects.get(plainID{n: v.Uint()}, func(id plainID) (keystore.Subject, error) {
			return p.subject(id.n)
		})
	}
	return p.subject(v.Interface())
}

// rowKey is the text of the row's key, empty if rows have none.
func (p *plan) rowKey(row reflect.Value) (string, error) {
	if !p.keyed {
		return "", nil
	}
	v, ok := at(row, p.keyAt)
	if !ok {
		return "", fmt.Errorf("%w: the row's key stands in a struct that is nil", keystore.ErrInvalid)
	}
	return rowKey(v.Interface())
}

// at is FieldByIndex without its panic at a nil pointer on the way.
func at(v reflect.Value, path []int) (reflect.Value, bool) {
	for i, x := range path {
		if i > 0 && v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return reflect.Value{}, false
			}
			v = v.Elem()
		}
		v = v.Field(x)
	}
	return v, true
}

// own gives the row structs of its own where it points to some, so that writing to its
// personal fields reaches nobody else's.
func (p *plan) own(row reflect.Value) {
	for _, path := range p.pointers {
		v, ok := at(row, path)
		if !ok || v.IsNil() {
			continue
		}
		c := reflect.New(v.Type().Elem())
		c.Elem().Set(v.Elem())
		v.Set(c)
	}
}

// load fills the scratch's slots with the row's personal fields, for sealing or opening.
func (p *plan) load(sc *scratch, row reflect.Value, seal bool) (*field, error) {
	sc.general = true
	sc.plain = sc.plain[:0]
	inClear := slotStored
	if seal {
		inClear = slotPlain
	}
	for i := range p.fields {
		f, s := &p.fields[i], &sc.slots[i]
		*s = slot{}
		v, ok := at(row, f.path)
		if !ok {
			continue
		}
		switch f.kind {
		case kindString:
			// An empty string to be sealed is content; a stored one was NULL, unless it
			// may be plaintext.
			if s.text = v.String(); seal || s.text != "" || f.adopting() {
				s.state = inClear
			}
		case kindStringPointer:
			if !v.IsNil() {
				if s.text = v.Elem().String(); seal || s.text != "" || f.adopting() {
					s.state = inClear
				}
			}
		case kindBytes:
			s.bin = true
			if s.data = v.Bytes(); s.data != nil && (seal || len(s.data) > 0 || f.adopting()) {
				if s.state = inClear; seal {
					s.state = slotEncoded
				}
			}
		case kindPrivate:
			if err := loadPrivate(sc, f, s, v.Addr().Interface().(private), seal); err != nil {
				return f, err
			}
		}
	}
	return nil, nil
}

func loadPrivate(sc *scratch, f *field, s *slot, p private, seal bool) (err error) {
	text, stored := p.storedText()
	switch {
	case stored && (text != "" || f.adopting()):
		s.state, s.text = slotStored, text
	case stored, p.IsNull():
	case !seal:
		return fmt.Errorf("%w: the value is in the clear already", keystore.ErrInvalid)
	default:
		from := len(sc.plain)
		if sc.plain, err = p.appendPlain(sc.plain); err != nil {
			return err
		}
		s.state, s.data = slotEncoded, sc.plain[from:]
	}
	return nil
}

// storeSealed writes the slots that sealRow has done into the row, which must be a copy.
func (p *plan) storeSealed(sc *scratch, row reflect.Value) {
	for i := range p.fields {
		f, s := &p.fields[i], &sc.slots[i]
		if s.state != slotDone {
			continue
		}
		v, _ := at(row, f.path)
		switch f.kind {
		case kindString, kindStringPointer:
			setText(f, v, s.text)
		case kindBytes:
			v.SetBytes(s.data)
		case kindPrivate:
			v.Addr().Interface().(private).setStored(s.text)
		}
	}
}

// storeOpened writes what openRow found into the row. Pointers get new targets.
func (p *plan) storeOpened(sc *scratch, row reflect.Value) {
	p.own(row)
	// One piece of memory for all that leaves as text, and one for all bytes.
	var texts string
	var bytes []byte
	if p.inText {
		texts = string(sc.plain)
	}
	if p.inBytes {
		bytes = append([]byte{}, sc.plain...) // not nil: that would be NULL
	}
	for i := range p.fields {
		f, s := &p.fields[i], &sc.slots[i]
		if s.state != slotStored {
			continue
		}
		v, _ := at(row, f.path)
		open := s.status == StatusOpen
		switch {
		case f.kind == kindPrivate:
			v.Addr().Interface().(private).replace(s.box)
		case f.kind == kindBytes && open:
			v.SetBytes(bytes[s.from:s.to:s.to])
		case open:
			setText(f, v, texts[s.from:s.to])
		case s.text == "":
			v.SetZero()
		case f.kind == kindBytes:
			v.SetBytes([]byte(s.text))
		default:
			setText(f, v, s.text)
		}
	}
}

func setText(f *field, v reflect.Value, s string) {
	if f.kind == kindString {
		v.SetString(s)
		return
	}
	setStringPointer(v, s)
}

func setStringPointer(v reflect.Value, s string) {
	if p, ok := v.Addr().Interface().(**string); ok {
		*p = &s
		return
	}
	n := reflect.New(v.Type().Elem())
	n.Elem().SetString(s)
	v.Set(n)
}

func firstOption(tag string) string {
	name, _, _ := strings.Cut(tag, ",")
	return name
}
