package pgrows

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// layout is how the fields of a struct are columns: the rules of pgx.RowToStructByName,
// and what the oubli tags say of them.
type layout struct {
	row     reflect.Type
	columns []column
	subject int // index of the column with the subject's id
	key     int // of the one that binds values to the row, -1: none
}

// column is a field that is a column.
type column struct {
	field    string // as people write it: Name, or Address.City
	tag      string // the db tag's name; empty: none
	typ      reflect.Type
	offset   uintptr
	names    []string // logical names: its own, or those of the fields in it
	personal bool     // it is a personal field, or holds some
	hold     holding  // how it is one itself
}

// holding is how a field holds an envelope.
type holding uint8

const (
	holdsNone holding = iota // not personal, or personal fields further down
	holdsString
	holdsStringPointer
	holdsBytes
	holdsPrivate
)

var statusType = reflect.TypeFor[fieldcrypt.Status]()

// private is what tells a Private of any type.
type private interface {
	IsNull() bool
	Status() fieldcrypt.Status
	Scan(src any) error
}

var privateType = reflect.TypeFor[private]()

// layoutOf reads the tags of a struct. Its error joins all mistakes. The tags are
// those that a Codec has accepted.
func layoutOf(row reflect.Type, fields []fieldcrypt.Field) (*layout, error) {
	w := &walker{layout: layout{row: row, subject: -1, key: -1}}
	w.walk(row, "", 0)
	for _, f := range fields {
		if !slices.ContainsFunc(w.columns, func(c column) bool { return slices.Contains(c.names, f.Name) }) {
			w.mistake("the personal field %s is in no column: embed its struct by value, or give it a column", f.Name)
		}
	}
	if w.subject < 0 {
		w.mistake("the subject's id must be a column of its own, so that a person's rows can be found")
	}
	for i, c := range w.columns {
		for _, other := range w.columns[:i] {
			if c.tag != "" && c.tag == other.tag {
				w.mistake("%s and %s are both column %s", other.field, c.field, c.tag)
			}
		}
	}
	if len(w.mistakes) > 0 {
		return nil, fmt.Errorf("%w: columns of %s:\n%w", keystore.ErrInvalid, row, errors.Join(w.mistakes...))
	}
	return &w.layout, nil
}

type walker struct {
	layout
	mistakes []error
}

func (w *walker) mistake(format string, args ...any) {
	w.mistakes = append(w.mistakes, fmt.Errorf(format, args...))
}

func (w *walker) walk(t reflect.Type, prefix string, offset uintptr) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag := parseTag(f.Tag)
		if f.Anonymous && f.Type.Kind() == reflect.Struct && !tag.tagged {
			w.walk(f.Type, prefix+f.Name+".", offset+f.Offset)
			continue
		}
		db, _, _ := strings.Cut(f.Tag.Get("db"), ",")
		switch {
		case !f.IsExported(), f.Type == statusType && db == "":
		case db == "-":
			if tag.tagged {
				w.mistake("%s is tagged oubli, and by its db tag it is no column", prefix+f.Name)
			}
		default:
			w.add(column{field: prefix + f.Name, tag: db, typ: f.Type, offset: offset + f.Offset}, tag)
		}
	}
}

func (w *walker) add(c column, tag tag) {
	if tag.subject {
		w.subject = len(w.columns)
	}
	if tag.key {
		w.key = len(w.columns)
	}
	if tag.name != "" {
		c.names = []string{tag.name}
	}
	switch {
	case tag.subject, tag.key:
	case tag.tagged:
		c.personal = true
		c.hold = holdingOf(c.typ)
	default:
		w.nested(&c, c.typ, nil)
	}
	w.columns = append(w.columns, c)
}

// nested notes the personal fields inside a column, as one of type jsonb may have some.
func (w *walker) nested(c *column, t reflect.Type, seen []reflect.Type) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || slices.Contains(seen, t) {
		return
	}
	for i := range t.NumField() {
		f := t.Field(i)
		switch tag := parseTag(f.Tag); {
		case tag.subject || tag.key:
			w.mistake("%s holds the subject's id or the row's key: these must be columns of their own", c.field)
		case tag.tagged:
			c.personal = true
			c.names = append(c.names, tag.name)
		case !tag.skip:
			w.nested(c, f.Type, append(seen, t))
		}
	}
}

func holdingOf(t reflect.Type) holding {
	switch {
	case reflect.PointerTo(t).Implements(privateType):
		return holdsPrivate
	case t.Kind() == reflect.String:
		return holdsString
	case t.Kind() == reflect.Pointer:
		return holdsStringPointer
	}
	return holdsBytes
}

// tag is what matters here of an oubli tag.
type tag struct {
	tagged       bool
	skip         bool
	name         string
	subject, key bool
}

func parseTag(st reflect.StructTag) tag {
	text, ok := st.Lookup("oubli")
	if !ok || text == "-" {
		return tag{skip: text == "-"}
	}
	options := strings.Split(text, ",")
	t := tag{tagged: true, name: options[0]}
	for _, o := range options[1:] {
		t.key = t.key || o == "key"
		t.subject = t.subject || strings.HasPrefix(o, "subject=")
	}
	return t
}

// find returns the column that a caller's name means: a logical name, then the name of a
// column, then that of a field; -1 if none.
func (l *layout) find(name string) int {
	for i := range l.columns {
		if slices.Contains(l.columns[i].names, name) {
			return i
		}
	}
	if i := l.best(func(c *column) int { return c.fits(name) }); i >= 0 {
		return i
	}
	return slices.IndexFunc(l.columns, func(c column) bool { return c.goName() == name })
}

// best returns the column that fits best, -1 if none does.
func (l *layout) best(fit func(*column) int) int {
	at, most := -1, 0
	for i := range l.columns {
		if f := fit(&l.columns[i]); f > most {
			at, most = i, f
		}
	}
	return at
}

// fits tells how well the name of a column in the database fits the field, 0 if not.
// A db tag must be that name, but for its case; a Go name also but for underscores.
func (c *column) fits(name string) int {
	switch {
	case c.tag == name:
		return 4
	case c.tag != "" && strings.EqualFold(c.tag, name):
		return 3
	case c.tag != "":
		return 0
	}
	switch own := c.goName(); {
	case own == name:
		return 2
	case strings.EqualFold(strings.ReplaceAll(own, "_", ""), strings.ReplaceAll(name, "_", "")):
		return 1
	}
	return 0
}

func (c *column) goName() string { return c.field[strings.LastIndexByte(c.field, '.')+1:] }
