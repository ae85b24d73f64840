package rows

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/oubli/oubli/fieldcrypt"
)

// How a personal value of NDJSON is sealed. A string becomes the text of its envelope,
// as the Go codec writes it. A number, a boolean, an array or an object is sealed as
// the JSON text that it is, and stands as {"oubli_json":"…"}, so that it opens as
// the same JSON; the text alone could not tell 42 from "42". {"oubli":"…"}, which Go's
// Private writes, opens as a string. null, and a field that is not there, stay so.
type form uint8

const (
	asString form = iota
	asJSON
)

const (
	jsonKey    = "oubli_json"
	privateKey = "oubli"
)

// ndjsonReader reads one JSON object a line.
type ndjsonReader struct {
	in    *bufio.Reader
	file  string
	line  int
	head  []byte
	names []string
	ids   int // how many of the names identify the row
	dir   Direction
}

func newNDJSON(r io.Reader, file string, c Columns, d Direction) (*ndjsonReader, error) {
	x := &ndjsonReader{in: bufio.NewReaderSize(r, 64<<10), file: file, names: c.Names(), ids: len(c.IDs), dir: d}
	var err error
	x.head, err = skipMark(x.in, file)
	return x, err
}

func (x *ndjsonReader) Head() []byte { return x.head }

func (x *ndjsonReader) Read() (*Row, error) {
	raw, err := x.readLine()
	if err != nil {
		return nil, err
	}
	row := &Row{Line: x.line, raw: raw}
	if column, what := x.parse(row); what != "" {
		return nil, &RowError{File: x.file, Line: x.line, Column: column, What: what}
	}
	return row, nil
}

func (x *ndjsonReader) readLine() ([]byte, error) {
	var raw []byte
	x.line++
	for {
		part, err := x.in.ReadSlice('\n')
		if len(raw)+len(part) > MaxRow {
			return nil, &Error{File: x.file, Line: x.line, What: fmt.Sprintf("the line has more than %d MiB", MaxRow>>20)}
		}
		raw = append(raw, part...)
		switch {
		case err == nil, err == io.EOF && len(raw) > 0:
			return raw, nil
		case err == io.EOF:
			return nil, io.EOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("read %s: %w", x.file, err)
		}
	}
}

// parse fills the row's cells from its raw text. what tells what is wrong with it.
func (x *ndjsonReader) parse(row *Row) (column, what string) {
	switch {
	case len(bytes.TrimSpace(row.raw)) == 0:
		return "", "the line is blank"
	case !utf8.Valid(row.raw):
		return "", "not valid UTF-8"
	case !json.Valid(row.raw):
		return "", "not valid JSON"
	}
	fields, ok := scanObject(row.raw)
	if !ok {
		return "", "not a JSON object: one object a line is needed"
	}
	at := make(map[string]span, len(fields))
	for _, f := range fields {
		if _, twice := at[f.name]; twice {
			return quoteName(f.name), "the object has this field twice"
		}
		at[f.name] = f.value
	}
	row.Cells = make([]fieldcrypt.Cell, len(x.names), 2*len(x.names))
	row.spans = make([]span, len(x.names))
	row.forms = make([]form, len(x.names))
	for i, name := range x.names {
		s, ok := at[name]
		if !ok {
			row.spans[i].start = -1
			row.Cells[i].Null = true
			continue
		}
		row.spans[i] = s
		value := row.raw[s.start:s.end]
		switch {
		case i < x.ids:
			row.Cells[i], what = idCell(value)
		case x.dir == Seal:
			row.Cells[i], row.forms[i], what = plainCell(value)
		default:
			row.Cells[i], row.forms[i], what = sealedCell(value)
		}
		if what != "" {
			return quoteName(name), what
		}
	}
	row.was = append(row.Cells[len(row.Cells):], row.Cells...)
	return "", ""
}

func (x *ndjsonReader) Append(dst []byte, r *Row) ([]byte, error) {
	type change struct {
		span
		text []byte
	}
	changes := make([]change, 0, len(x.names))
	for i, cell := range r.Cells {
		if r.spans[i].start < 0 || !r.changed(i) {
			continue
		}
		text, err := x.value(cell, r.forms[i])
		if err != nil {
			return dst, &RowError{File: x.file, Line: r.Line, Column: quoteName(x.names[i]), What: err.Error()}
		}
		at := len(changes)
		for at > 0 && changes[at-1].start > r.spans[i].start {
			at--
		}
		changes = append(changes, change{})
		copy(changes[at+1:], changes[at:])
		changes[at] = change{r.spans[i], text}
	}
	from := 0
	for _, c := range changes {
		dst = append(append(dst, r.raw[from:c.start]...), c.text...)
		from = c.end
	}
	return append(dst, r.raw[from:]...), nil
}

// value writes a cell as JSON.
func (x *ndjsonReader) value(c fieldcrypt.Cell, f form) ([]byte, error) {
	switch {
	case c.Null:
		return []byte("null"), nil
	case !utf8.ValidString(c.Text):
		return nil, errors.New("the opened value is not valid UTF-8, which JSON cannot hold")
	case f == asJSON && x.dir == Seal:
		return fmt.Appendf(nil, `{"%s":%s}`, jsonKey, quoteJSON(c.Text)), nil
	case f == asJSON && json.Valid([]byte(c.Text)):
		return []byte(c.Text), nil
	}
	return quoteJSON(c.Text), nil
}

func quoteJSON(s string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.Encode(s) // a string and a buffer: it cannot fail
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// idCell reads a value that identifies the row: a string, or an integer as it stands.
func idCell(value []byte) (c fieldcrypt.Cell, what string) {
	switch value[0] {
	case 'n':
		return fieldcrypt.Cell{Null: true}, ""
	case '"':
		c.Text, what = decodeString(value)
		return c, what
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		if !bytes.ContainsAny(value, ".eE") {
			return fieldcrypt.Cell{Text: string(value)}, ""
		}
	}
	return c, "an id must be a string or an integer"
}

// plainCell reads a value that is to be sealed.
func plainCell(value []byte) (c fieldcrypt.Cell, f form, what string) {
	switch value[0] {
	case 'n':
		return fieldcrypt.Cell{Null: true}, asString, ""
	case '"':
		c.Text, what = decodeString(value)
		return c, asString, what
	case '{':
		if _, _, ok := envelope(value); ok {
			return c, asJSON, "the value is sealed already"
		}
	}
	return fieldcrypt.Cell{Text: string(value)}, asJSON, ""
}

// sealedCell reads a value that is to be opened.
func sealedCell(value []byte) (c fieldcrypt.Cell, f form, what string) {
	switch value[0] {
	case 'n':
		return fieldcrypt.Cell{Null: true}, asString, ""
	case '"':
		c.Text, what = decodeString(value)
		return c, asString, what
	}
	text, f, ok := envelope(value)
	if !ok {
		return c, asString, `the value is not sealed: a string, null or {"oubli_json":"…"} is expected`
	}
	return fieldcrypt.Cell{Text: text}, f, ""
}

// envelope reads {"oubli":"…"} and {"oubli_json":"…"}.
func envelope(value []byte) (text string, f form, ok bool) {
	if value[0] != '{' {
		return "", asString, false
	}
	fields, _ := scanObject(value)
	if len(fields) != 1 || value[fields[0].value.start] != '"' {
		return "", asString, false
	}
	text, what := decodeString(value[fields[0].value.start:fields[0].value.end])
	switch fields[0].name {
	case jsonKey:
		return text, asJSON, what == ""
	case privateKey:
		return text, asString, what == ""
	}
	return "", asString, false
}

// decodeString reads a JSON string. encoding/json turns half a surrogate pair into
// U+FFFD, which would not come back as it was.
func decodeString(value []byte) (s, what string) {
	if err := json.Unmarshal(value, &s); err != nil {
		return "", "not a valid JSON string"
	}
	if !strings.ContainsRune(s, utf8.RuneError) {
		return s, ""
	}
	fffd := bytes.Count(value, []byte("\ufffd")) + bytes.Count(bytes.ToLower(value), []byte(`\ufffd`))
	if strings.Count(s, "\ufffd") > fffd {
		return "", "the string has half a surrogate pair"
	}
	return s, ""
}
