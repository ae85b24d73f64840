package anonymize

import (
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/oubli/oubli/fieldcrypt"
)

// unopened lists the columns of a stored row in the order and with the names of
// [fieldcrypt.Codec.Export], without what is personal. It reads tags that a codec has
// found to be right.
func unopened[T any](row *T) []fieldcrypt.NamedValue {
	return appendUnopened(nil, reflect.TypeFor[T](), reflect.ValueOf(row).Elem())
}

// appendUnopened appends the columns of a struct type; v is not valid where a pointer to it
// is nil.
func appendUnopened(dst []fieldcrypt.NamedValue, t reflect.Type, v reflect.Value) []fieldcrypt.NamedValue {
	for i := range t.NumField() {
		f := t.Field(i)
		var fv reflect.Value
		if v.IsValid() {
			fv = v.Field(i)
		}
		text, tagged := f.Tag.Lookup("oubli")
		name, options, _ := strings.Cut(text, ",")
		switch {
		case tagged && name == "-", f.Type == reflect.TypeFor[fieldcrypt.Status]():
		case tagged && !identity(options):
			dst = append(dst, fieldcrypt.NamedValue{Name: name, Personal: true})
		case !tagged && tags(f.Type):
			dst = appendUnopened(dst, target(f.Type), deref(fv))
		case f.IsExported():
			if name == "" {
				name = columnName(f)
			}
			n := fieldcrypt.NamedValue{Name: name, State: fieldcrypt.StatusOpen}
			if fv = deref(fv); fv.IsValid() {
				n.Value = fv.Interface()
			}
			dst = append(dst, n)
		}
	}
	return dst
}

// identity tells whether a tag's options make a subject's id or a row's key.
func identity(options string) bool {
	return slices.ContainsFunc(strings.Split(options, ","), func(o string) bool { return o == "key" || strings.HasPrefix(o, "subject=") })
}

// columnName is what a field without a logical name is called.
func columnName(f reflect.StructField) string {
	for _, key := range []string{"db", "json"} {
		if name, _, _ := strings.Cut(f.Tag.Get(key), ","); name != "" && name != "-" {
			return name
		}
	}
	return f.Name
}

// tags tells whether a struct, or what is pointed to, has tagged fields.
func tags(t reflect.Type, within ...reflect.Type) bool {
	if t = target(t); t.Kind() != reflect.Struct || t == reflect.TypeFor[time.Time]() || slices.Contains(within, t) {
		return false
	}
	for i := range t.NumField() {
		f := t.Field(i)
		text, ok := f.Tag.Lookup("oubli")
		if ok && text != "-" || f.Type == reflect.TypeFor[fieldcrypt.Status]() || !ok && tags(f.Type, append(within, t)...) {
			return true
		}
	}
	return false
}

func target(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

// deref is what a pointer points to, not valid if that is nothing.
func deref(v reflect.Value) reflect.Value {
	if v.IsValid() && v.Kind() == reflect.Pointer {
		return v.Elem()
	}
	return v
}
