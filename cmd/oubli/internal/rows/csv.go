package rows

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/oubli/oubli/fieldcrypt"
)

var bom = []byte("\xef\xbb\xbf")

// csvReader reads RFC 4180 with a header, cells separated by commas, lines ended by LF
// or CRLF. encoding/csv is not used because it turns CRLF inside quotes into LF, drops
// blank lines and which cells were quoted.
type csvReader struct {
	in     *bufio.Reader
	file   string
	line   int // the line that the next byte stands in
	head   []byte
	header []string
	cols   []int // where the wanted columns stand in the header
	order  []int // indexes of cols, from left to right
}

func newCSV(r io.Reader, file string, c Columns) (*csvReader, error) {
	x := &csvReader{in: bufio.NewReaderSize(r, 64<<10), file: file, line: 1}
	mark, err := skipMark(x.in, file)
	if err != nil {
		return nil, err
	}
	raw, spans, err := x.record()
	if err == io.EOF {
		return nil, &Error{File: file, What: "the file is empty: a header line with the names of the columns is needed"}
	}
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(raw) {
		return nil, &Error{File: file, Line: 1, What: "the header is not valid UTF-8"}
	}
	x.head = append(mark, raw...)
	if len(x.head) > 0 && x.head[len(x.head)-1] != '\n' {
		x.head = append(x.head, '\n') // a header alone, without a line end: rows may follow in the output
	}
	for _, s := range spans {
		x.header = append(x.header, unquote(raw[s.start:s.end]))
	}
	return x, x.bind(c)
}

// skipMark takes a byte order mark off the input and returns it.
func skipMark(in *bufio.Reader, file string) ([]byte, error) {
	start, err := in.Peek(3)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	switch {
	case bytes.Equal(start, bom):
		in.Discard(3)
		return bytes.Clone(bom), nil
	case bytes.HasPrefix(start, []byte("\xff\xfe")), bytes.HasPrefix(start, []byte("\xfe\xff")):
		return nil, &Error{File: file, Line: 1, What: "this is UTF-16: convert the file to UTF-8 first"}
	}
	return nil, nil
}

func (x *csvReader) bind(c Columns) error {
	at := make(map[string]int, len(x.header))
	var wrong []error
	for i, name := range x.header {
		if first, twice := at[name]; twice {
			wrong = append(wrong, &Error{File: x.file, Line: 1, Column: quoteName(name),
				What: fmt.Sprintf("the header has this name twice, as column %d and %d", first+1, i+1)})
			continue
		}
		at[name] = i
	}
	for _, name := range c.Names() {
		i, ok := at[name]
		if !ok {
			what := "the header has no such column, the data map names it"
			if len(x.header) == 1 && strings.ContainsAny(x.header[0], ";\t") {
				what += " (cells must be separated by commas)"
			}
			wrong = append(wrong, &Error{File: x.file, Line: 1, Column: quoteName(name), What: what})
		}
		x.order = append(x.order, len(x.cols))
		x.cols = append(x.cols, i)
	}
	slices.SortFunc(x.order, func(a, b int) int { return x.cols[a] - x.cols[b] })
	return errors.Join(wrong...)
}

func quoteName(s string) string {
	if len(s) > 80 {
		s = strings.ToValidUTF8(s[:80], "") + "…"
	}
	return strconv.Quote(s)
}

func (x *csvReader) Head() []byte { return x.head }

func (x *csvReader) Read() (*Row, error) {
	line := x.line
	raw, spans, err := x.record()
	if err != nil {
		return nil, err
	}
	bad := func(column, what string) (*Row, error) {
		return nil, &RowError{File: x.file, Line: line, Column: column, What: what}
	}
	if len(spans) != len(x.header) {
		if len(spans) == 1 && spans[0].start == spans[0].end {
			return bad("", "the line is blank")
		}
		return bad("", fmt.Sprintf("%d cells, the header has %d", len(spans), len(x.header)))
	}
	if !utf8.Valid(raw) {
		for i, s := range spans {
			if !utf8.Valid(raw[s.start:s.end]) {
				return bad(quoteName(x.header[i]), "not valid UTF-8")
			}
		}
	}
	row := &Row{Line: line, raw: raw, spans: spans, Cells: make([]fieldcrypt.Cell, len(x.cols), 2*len(x.cols))}
	for i, col := range x.cols {
		text := unquote(raw[spans[col].start:spans[col].end])
		row.Cells[i] = fieldcrypt.Cell{Text: text, Null: text == ""}
	}
	row.was = append(row.Cells[len(row.Cells):], row.Cells...)
	return row, nil
}

func (x *csvReader) Append(dst []byte, r *Row) ([]byte, error) {
	from := 0
	for _, i := range x.order {
		if !r.changed(i) {
			continue
		}
		s := r.spans[x.cols[i]]
		dst = append(dst, r.raw[from:s.start]...)
		dst = appendCell(dst, r.Cells[i])
		from = s.end
	}
	return append(dst, r.raw[from:]...), nil
}

// record reads one record with its line end. Its errors are final.
func (x *csvReader) record() (raw []byte, spans []span, err error) {
	line := x.line
	fail := func(what string) ([]byte, []span, error) {
		return nil, nil, &Error{File: x.file, Line: x.line, Column: strconv.Itoa(len(spans) + 1), What: what}
	}
	const (
		cellStart = iota
		plain
		quoted
		closed // after a quote inside quotes: the end, or the first of two
	)
	state, start := cellStart, 0
	for {
		c, err := x.in.ReadByte()
		if err == io.EOF {
			switch {
			case len(raw) == 0:
				return nil, nil, io.EOF
			case state == quoted:
				return fail(fmt.Sprintf("a quote is never closed (the row begins in line %d)", line))
			}
			return raw, append(spans, span{start, len(raw)}), nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", x.file, err)
		}
		if len(raw) == MaxRow {
			return fail(fmt.Sprintf("the row that begins in line %d has more than %d MiB", line, MaxRow>>20))
		}
		raw = append(raw, c)
		if c == '\n' {
			x.line++
		}
		if state == quoted {
			if c == '"' {
				state = closed
			}
			continue
		}
		switch c {
		case ',':
			spans = append(spans, span{start, len(raw) - 1})
			state, start = cellStart, len(raw)
		case '\n':
			end := len(raw) - 1
			return raw, append(spans, span{start, end}), nil
		case '\r':
			if next, _ := x.in.Peek(1); len(next) == 0 || next[0] != '\n' {
				return fail("a carriage return stands outside quotes")
			}
			x.in.Discard(1)
			x.line++
			return append(raw, '\n'), append(spans, span{start, len(raw) - 1}), nil
		case '"':
			if state == plain {
				return fail("a quote stands inside a cell that does not begin with one")
			}
			state = quoted // the first of the cell, or the second of two
		default:
			if state == closed {
				return fail("text follows a closing quote")
			}
			state = plain
		}
	}
}

// unquote returns what a cell says.
func unquote(cell []byte) string {
	if len(cell) < 2 || cell[0] != '"' {
		return string(cell)
	}
	return strings.ReplaceAll(string(cell[1:len(cell)-1]), `""`, `"`)
}

// appendCell writes a cell. An empty text that is not NULL gets quotes, to tell it apart.
func appendCell(dst []byte, c fieldcrypt.Cell) []byte {
	if c.Null {
		return dst
	}
	first, _ := utf8.DecodeRuneInString(c.Text)
	if c.Text != "" && c.Text != `\.` && !strings.ContainsAny(c.Text, "\",\r\n") && !unicode.IsSpace(first) {
		return append(dst, c.Text...)
	}
	dst = append(dst, '"')
	dst = append(dst, strings.ReplaceAll(c.Text, `"`, `""`)...)
	return append(dst, '"')
}
