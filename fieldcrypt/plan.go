package fieldcrypt

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"

	"github.com/oubli/oubli/keystore"
)

// plan is what the tags of a struct say, read once.
type plan struct {
	*table
	subjectAt []int
	idKind    reflect.Kind // of the subject's id, if it needs no NewSubject; else Invalid
	keyAt     []int        // nil: rows have no key
	statusAt  []int        // nil: there is no Status
	usual     usual
	inText    bool       // some string holds its envelope in place
	inBytes   bool       // so do some bytes
	pointers  [][]int    // pointers to structs that hold personal fields, outer ones first
	others    []plain    // fields that are not personal, and the subject and key, for Export
	order     []exported // all of them in struct order
}

// inPlace: an empty field may be one that was withheld.
func (p *plan) inPlace() bool { return p.inText || p.inBytes }

// plain is a field that is not personal.
type plain struct {
	name string
	path []int
}

// exported is one field in struct order: personal by index, or plain by index.
type exported struct {
	personal bool
	index    int
}

// fieldKind is how a Go field holds a personal value.
type fieldKind uint8

const (
	kindCell fieldKind = iota // RowCodec
	kindString
	kindStringPointer
	kindBytes
	kindPrivate
)

var (
	statusType  = reflect.TypeFor[Status]()
	marshalText = reflect.TypeFor[encoding.TextMarshaler]()
)

// readPlan reads the tags of a struct. Its error joins all mistakes.
func readPlan(t *table, row reflect.Type) (*plan, error) {
	if row.Kind() != reflect.Struct {
		return nil, fmt.Errorf("%w: rows are structs, not %s", keystore.ErrInvalid, row)
	}
	w := &walker{plan: &plan{table: t}, row: row, walking: map[reflect.Type]bool{}}
	if err := checkName("table name", t.name); err != nil {
		w.mistakes = append(w.mistakes, err)
	}
	w.walk(row, "", nil, true)
	w.finish()
	if len(w.mistakes) > 0 {
		return nil, fmt.Errorf("%w: tags of %s:\n%w", keystore.ErrInvalid, row, errors.Join(w.mistakes...))
	}
	w.findUsual(row)
	return w.plan, nil
}

type walker struct {
	*plan
	row      reflect.Type
	walking  map[reflect.Type]bool // structs that are being walked: types may contain themselves
	subjects int
	statuses int
	mistakes []error
}

func (w *walker) mistake(field, format string, args ...any) {
	w.mistakes = append(w.mistakes, fmt.Errorf("%s: %w", field, fmt.Errorf(format, args...)))
}

func (w *walker) walk(t reflect.Type, prefix string, path []int, settable bool) {
	w.walking[t] = true
	defer delete(w.walking, t)
	for i := range t.NumField() {
		f := t.Field(i)
		w.visit(f, prefix+f.Name, append(path[:len(path):len(path)], i), settable)
	}
}

func (w *walker) visit(f reflect.StructField, name string, path []int, settable bool) {
	text, tagged := f.Tag.Lookup("oubli")
	inner := f.Type
	if inner.Kind() == reflect.Pointer {
		inner = inner.Elem()
	}
	// Reflection may set the exported fields of an embedded struct, whatever its name,
	// but cannot replace an embedded pointer whose type is not exported.
	settable = settable && (f.IsExported() || f.Anonymous && f.Type.Kind() == reflect.Struct)
	if tagged {
		w.tagged(f, text, name, path, settable)
		return
	}
	switch {
	case f.Type == statusType:
		if w.statuses++; w.statuses > 1 {
			w.mistake(name, "a second field of type fieldcrypt.Status")
		} else if !f.IsExported() {
			w.mistake(name, "a Status that is not exported cannot be filled")
		}
		w.statusAt = path
	case reflect.PointerTo(inner).Implements(privateType):
		w.mistake(name, "a Private without a tag would never be sealed: add `oubli:\"name\"`")
	case inner.Kind() == reflect.Struct && inner != timeType && holdsTags(inner, nil):
		if w.walking[inner] {
			w.mistake(name, "%s contains itself: personal fields of nested rows cannot be told apart", inner)
			return
		}
		if f.Type.Kind() == reflect.Pointer {
			w.pointers = append(w.pointers, path)
		}
		w.walk(inner, name+".", path, settable)
	default:
		if e := elemOf(inner); e != nil && holdsTags(e, nil) {
			w.mistake(name, "personal fields inside a %s are not supported: give them a row of their own, or one Private[%s]", inner.Kind(), inner)
		} else if f.IsExported() && settable {
			w.plain(f, path)
		}
	}
}

// plain notes a field that is not personal.
func (w *walker) plain(f reflect.StructField, path []int) {
	w.order = append(w.order, exported{index: len(w.others)})
	w.others = append(w.others, plain{columnName(f), path})
}

// columnName is what a field without a logical name is called.
func columnName(f reflect.StructField) string {
	for _, key := range []string{"db", "json"} {
		if name := firstOption(f.Tag.Get(key)); name != "" && name != "-" {
			return name
		}
	}
	return f.Name
}

func (w *walker) tagged(f reflect.StructField, text, name string, path []int, settable bool) {
	tag, mistakes := parseTag(text)
	for _, m := range mistakes {
		w.mistake(name, "%w", m)
	}
	if tag.skip {
		return
	}
	if !f.IsExported() || !settable {
		w.mistake(name, "a tagged field must be exported")
		return
	}
	if tag.subject != "" || tag.key {
		w.identity(f, tag, name, path)
		return
	}
	kind, err := kindOf(f.Type)
	if err != nil {
		w.mistake(name, "%w", err)
		return
	}
	if kind == kindPrivate {
		if err := checkPrivate(f.Type, tag.Field); err != nil {
			w.mistake(name, "%w", err)
		}
	}
	w.inText = w.inText || kind == kindString || kind == kindStringPointer
	w.inBytes = w.inBytes || kind == kindBytes
	if len(mistakes) > 0 {
		return
	}
	if err := w.add(field{Field: tag.Field, path: path, kind: kind}, kind != kindString); err != nil {
		w.mistake(name, "%w", err)
		return
	}
	w.order = append(w.order, exported{personal: true, index: len(w.fields) - 1})
}

// identity notes the subject's id or the row's key.
func (w *walker) identity(f reflect.StructField, tag tag, name string, path []int) {
	if err := checkID(f.Type); err != nil {
		w.mistake(name, "%w", err)
	}
	if tag.subject != "" {
		if w.subjects++; w.subjects > 1 {
			w.mistake(name, "a second subject: a row belongs to one person; split the struct")
		}
		w.kind, w.subjectAt = tag.subject, path
		if !f.Type.Implements(marshalText) {
			w.idKind = f.Type.Kind()
		}
	}
	if tag.key {
		if w.keyed {
			w.mistake(name, "a second key: bind the row to one value")
		}
		w.keyed, w.keyAt = true, path
	}
	if tag.name != "" {
		w.order = append(w.order, exported{index: len(w.others)})
		w.others = append(w.others, plain{tag.name, path})
		return
	}
	w.plain(f, path)
}

// finish finds what is wrong with the struct as a whole.
func (w *walker) finish() {
	if w.subjects == 0 {
		w.mistake(w.row.Name(), "no subject: tag the person's id with `oubli:\",subject=customer\"`")
	}
	if len(w.fields) == 0 && len(w.mistakes) == 0 {
		w.mistake(w.row.Name(), "no personal field: tag one with `oubli:\"name\"`")
	}
	for _, err := range w.adopt() {
		w.mistake(w.row.Name(), "%w", err)
	}
	if w.inPlace() && w.statuses == 0 && !w.strict {
		w.mistake(w.row.Name(), "strings and bytes that are withheld read as empty, and only a field of type fieldcrypt.Status tells them from those that are: add one, or set Options.Strict")
	}
}

// kindOf tells how a Go type holds a personal value.
func kindOf(t reflect.Type) (fieldKind, error) {
	switch {
	case reflect.PointerTo(t).Implements(privateType):
		return kindPrivate, nil
	case t.Kind() == reflect.String:
		return kindString, nil
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.String:
		return kindStringPointer, nil
	case isByteSlice(t):
		return kindBytes, nil
	}
	return 0, fmt.Errorf("type %s cannot hold an envelope: use string, *string, []byte or fieldcrypt.Private[%s]", t, t)
}

// checkPrivate finds what is wrong with a Private's type, or with its options for it.
func checkPrivate(t reflect.Type, f Field) error {
	p := reflect.New(t).Interface().(private)
	v := p.valueType()
	if err := checkValueType(v); err != nil {
		return err
	}
	if r, err := parseRule(f.Blank); err == nil && r.generalizes() && v.Kind() != reflect.String && (r.kind != ruleYear || v != timeType) {
		return fmt.Errorf("blank=%s does not fit values of type %s", f.Blank, v)
	}
	if f.Replace != "" {
		if _, err := p.opened(f.Replace); err != nil {
			return fmt.Errorf("replace=%s is not a %s", f.Replace, v)
		}
	}
	return nil
}

// checkID tells whether a type can be an id. It tries one that is not zero.
func checkID(t reflect.Type) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t.Implements(marshalText) || reflect.PointerTo(t).Implements(marshalText):
		return nil
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64, t.Kind() == reflect.String:
		return nil
	case t.Kind() == reflect.Array && t.Len() == 16 && t.Elem().Kind() == reflect.Uint8:
		return nil
	}
	return fmt.Errorf("ids of type %s are not supported: use an integer, a string, a UUID or a TextMarshaler", t)
}

// elemOf is what a slice, array or map holds, nil for other types.
func elemOf(t reflect.Type) reflect.Type {
	switch t.Kind() {
	case reflect.Slice, reflect.Array, reflect.Map:
		e := t.Elem()
		for e.Kind() == reflect.Pointer || e.Kind() == reflect.Slice || e.Kind() == reflect.Array || e.Kind() == reflect.Map {
			e = e.Elem()
		}
		return e
	}
	return nil
}

// holdsTags tells whether a struct type has oubli tags, a Private or a Status somewhere.
func holdsTags(t reflect.Type, seen map[reflect.Type]bool) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if e := elemOf(t); e != nil {
		t = e
	}
	if t.Kind() != reflect.Struct || seen[t] {
		return false
	}
	if seen == nil {
		seen = map[reflect.Type]bool{}
	}
	seen[t] = true
	if reflect.PointerTo(t).Implements(privateType) {
		return true
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if text, ok := f.Tag.Lookup("oubli"); ok && text != "-" || f.Type == statusType || !ok && holdsTags(f.Type, seen) {
			return true
		}
	}
	return false
}
