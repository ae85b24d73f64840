package anonymize

import (
	"bytes"
	"context"
	"encoding"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strconv"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// Document is what is held about one subject, readable: for its right of access (GDPR
// art. 15) and to take its data elsewhere (art. 20). It is all plaintext. Handle it so.
type Document struct {
	Subject keystore.Subject
	State   keystore.State
	Tables  []TableData
}

// TableData is the subject's rows in one table.
type TableData struct {
	Table string
	Rows  [][]fieldcrypt.NamedValue // the columns of each row, in the order of the struct or of the database
}

// Export returns a subject's own data from all registered tables of its kind. It
// follows the subject's state: what this context may not read is marked withheld, what
// was erased is marked erased. Name a purpose in the context ([keystore.WithPurpose])
// to read what a restricted subject keeps for it. It fails with
// [keystore.ErrUnknownSubject] if there is neither a key nor a row.
func (e *Eraser) Export(ctx context.Context, s keystore.Subject) (*Document, error) {
	if err := e.Check(); err != nil {
		return nil, err
	}
	if s.IsZero() {
		return nil, invalid("the subject is the zero Subject")
	}
	st, err := e.status(ctx, s)
	if err != nil {
		return nil, err
	}
	d := &Document{Subject: s, State: st.State}
	rows := 0
	for _, t := range e.tablesOf(s.Kind()) {
		data, err := t.export(ctx, s)
		if err != nil {
			return nil, err
		}
		d.Tables = append(d.Tables, data...)
		for _, table := range data {
			rows += len(table.Rows)
		}
	}
	if rows == 0 && st.State == keystore.StateUnknown {
		return nil, &keystore.Error{Op: "export", Subject: s, Err: keystore.ErrUnknownSubject, Hint: "no key was ever made and no table has a row"}
	}
	return d, nil
}

func (t *Table[T]) export(ctx context.Context, s keystore.Subject) ([]TableData, error) {
	data := TableData{Table: t.name()}
	rows, err := t.collect(ctx, s)
	if err != nil {
		return nil, err
	}
	for i := range rows {
		values, err := t.codec.Export(ctx, &rows[i])
		if err != nil {
			return nil, err
		}
		data.Rows = append(data.Rows, values)
	}
	return []TableData{data}, nil
}

// MarshalJSON writes subject, state and tables; for each row the values by name, in the
// order of TableData, and the names of those that are erased or withheld, whose
// values are replacements or null. Bytes are base64, as in encoding/json.
func (d *Document) MarshalJSON() ([]byte, error) {
	type row struct {
		Values   ordered  `json:"values"`
		Erased   []string `json:"erased"`
		Withheld []string `json:"withheld"`
	}
	type table struct {
		Table string `json:"table"`
		Rows  []row  `json:"rows"`
	}
	tables := []table{}
	for _, t := range d.Tables {
		rows := []row{}
		for _, values := range t.Rows {
			r := row{Values: values, Erased: []string{}, Withheld: []string{}}
			for _, v := range values {
				switch v.State {
				case fieldcrypt.StatusErased:
					r.Erased = append(r.Erased, v.Name)
				case fieldcrypt.StatusWithheld:
					r.Withheld = append(r.Withheld, v.Name)
				}
			}
			rows = append(rows, r)
		}
		tables = append(tables, table{t.Table, rows})
	}
	return encode(struct {
		Subject keystore.Subject `json:"subject"`
		State   string           `json:"state"`
		Tables  []table          `json:"tables"`
	}{d.Subject, d.State.String(), tables})
}

// WriteJSON writes the document as indented JSON.
func (d *Document) WriteJSON(w io.Writer) error {
	raw, err := d.MarshalJSON()
	if err != nil {
		return fmt.Errorf("anonymize: export %s: %w", d.Subject, err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return fmt.Errorf("anonymize: export %s: %w", d.Subject, err)
	}
	b.WriteByte('\n')
	_, err = w.Write(b.Bytes())
	return err
}

// WriteCSV writes one line for each value: table, row (from 1), field, state, value.
// The state is open, erased, withheld, null, or plain for what is not personal. So
// all tables fit into one file, and an empty text is not a missing one.
//
// Values are exact. A spreadsheet takes a text that begins with = + - or @ for a
// formula when it opens such a file: nothing is put before it, for that would be
// another value. Import the columns as text, or use JSON.
func (d *Document) WriteCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	out.Write([]string{"table", "row", "field", "state", "value"}) // errors stay until Flush
	for _, t := range d.Tables {
		for i, values := range t.Rows {
			for _, v := range values {
				text, null, err := cell(v.Value)
				if err != nil {
					return fmt.Errorf("anonymize: export %s: table %q, field %q: %w", d.Subject, t.Table, v.Name, err)
				}
				state := string(v.State)
				switch {
				case v.State == fieldcrypt.StatusErased, v.State == fieldcrypt.StatusWithheld:
				case null:
					state = "null"
				case !v.Personal:
					state = "plain"
				}
				out.Write([]string{t.Table, strconv.Itoa(i + 1), v.Name, state, text})
			}
		}
	}
	out.Flush()
	return out.Error()
}

// cell renders a value for CSV: text as it is, what has a text form in it, and
// everything else as JSON (so bytes are base64).
func cell(v any) (text string, null bool, err error) {
	for rv := reflect.ValueOf(v); ; rv = rv.Elem() {
		if !rv.IsValid() || (rv.Kind() == reflect.Pointer || rv.Kind() == reflect.Slice || rv.Kind() == reflect.Map) && rv.IsNil() {
			return "", true, nil
		}
		if m, ok := rv.Interface().(encoding.TextMarshaler); ok {
			b, err := m.MarshalText()
			return string(b), false, err
		}
		if rv.Kind() == reflect.String {
			return rv.String(), false, nil
		}
		if b, ok := rv.Interface().([]byte); ok {
			v = b
		}
		if rv.Kind() != reflect.Pointer && rv.Kind() != reflect.Interface {
			break
		}
	}
	raw, err := encode(v)
	if err != nil {
		return "", false, err
	}
	var s string
	if json.Unmarshal(raw, &s) == nil { // bytes: base64 without the quotes
		return s, false, nil
	}
	return string(raw), string(raw) == "null", nil
}

// ordered is a JSON object whose names keep their order.
type ordered []fieldcrypt.NamedValue

// MarshalJSON writes the object.
func (o ordered) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, v := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := encode(v.Name)
		if err != nil {
			return nil, err
		}
		value, err := encode(v.Value)
		if err != nil {
			return nil, fmt.Errorf("field %q: %w", v.Name, err)
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// encode is json.Marshal without its escapes for HTML, for these texts are for people.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
