// Package rows reads and writes the files of the command line, CSV and NDJSON, row by
// row. A caller names the columns that it wants; it gets their cells as text, may
// change them, and has the row appended to its output. Whatever it does not change
// comes out as it went in, byte for byte: quotes, spaces, order, unknown fields, line
// ends and a byte order mark. What could not come back as it was is refused.
//
// Memory is bounded by the longest row, which may have [MaxRow] bytes.
package rows

import (
	"fmt"
	"io"
	"slices"

	"github.com/oubli/oubli/fieldcrypt"
)

// MaxRow is how many bytes a row may have.
const MaxRow = 16 << 20

// Format names a kind of file.
type Format string

// The formats.
const (
	CSV    Format = "csv"
	NDJSON Format = "ndjson"
)

// Direction tells what is to be done with the cells. NDJSON reads a sealed value
// differently from a plain one; CSV does not care.
type Direction int

// The directions.
const (
	Seal Direction = iota
	Open
)

// Columns are the columns that a caller wants, in the order in which Row.Cells has them.
type Columns struct {
	IDs      []string // identify the row: the subject, the row's key
	Personal []string // are sealed or opened
}

// Names returns all of them in the order of Row.Cells.
func (c Columns) Names() []string {
	return slices.Concat(c.IDs, c.Personal)
}

// Row is one row of a file.
type Row struct {
	Line  int               // where it begins, from 1
	Cells []fieldcrypt.Cell // the wanted columns; may be changed

	raw   []byte            // the row as read, with its line end
	spans []span            // where the cells stand in raw; start -1: nowhere
	was   []fieldcrypt.Cell // Cells as read
	forms []form            // NDJSON: how each value is written
}

type span struct{ start, end int }

// Reader reads a file row by row. It is not safe for concurrent use.
type Reader interface {
	// Head returns what stands before the first row.
	Head() []byte
	// Read returns the next row, or io.EOF. After a [*RowError] reading can go on with
	// the row that follows; every other error is final.
	Read() (*Row, error)
	// Append appends the row with its cells as they are now.
	Append(dst []byte, r *Row) ([]byte, error)
	// Values returns all columns of the row, wanted or not, as they are now.
	Values(r *Row) ([]Value, error)
}

// changed tells whether a cell is another than was read. How it was opened is no change.
func (r *Row) changed(i int) bool {
	return r.Cells[i].Null != r.was[i].Null || r.Cells[i].Text != r.was[i].Text
}

// New returns a Reader of r. file is its name for messages.
func New(f Format, r io.Reader, file string, c Columns, d Direction) (Reader, error) {
	switch f {
	case CSV:
		return newCSV(r, file, c)
	case NDJSON:
		return newNDJSON(r, file, c, d)
	}
	return nil, fmt.Errorf("format %q is not known: csv and ndjson are", string(f))
}

// Error says what is wrong with a file, and where. It holds no value of a cell.
type Error struct {
	File   string
	Line   int    // from 1; 0: the file as a whole
	Column string // name, or number where there is no name; may be empty
	What   string
}

func (e *Error) Error() string {
	where := e.File
	if e.Line > 0 {
		where += fmt.Sprintf(":%d", e.Line)
	}
	if e.Column != "" {
		where += ": column " + e.Column
	}
	return where + ": " + e.What
}

// RowError is an Error of one row; the rows after it can be read.
type RowError Error

func (e *RowError) Error() string { return (*Error)(e).Error() }

// Size is how many bytes the row has, about.
func (r *Row) Size() int { return len(r.raw) }
