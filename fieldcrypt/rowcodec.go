package fieldcrypt

import (
	"context"
	"errors"
	"fmt"

	"github.com/oubli/oubli/keystore"
)

// Spec says what in a table is personal, where there is no struct: what a data map
// holds. Its names are the logical ones of a Codec's tags, so that each opens what the
// other sealed.
type Spec struct {
	Table         string // logical name
	Kind          string // kind of the subjects
	SubjectColumn string // holds the subjects' ids
	Key           string // column that binds values to the row; empty: none
	Fields        []FieldSpec
	AllowAt       bool // accept subject ids with an @
}

// FieldSpec is one personal column. See Field for the options.
type FieldSpec struct {
	Name    string // of the column, and logical name
	Purpose string
	Replace string
	Blank   string
}

// Cell is one value of a row. Null means that there is none, and Text is not looked at;
// that is also what an empty CSV cell means. An empty Text is a value like any other
// when sealing, and none when opening.
type Cell struct {
	Text string
	Null bool
}

// RowCodec seals and opens rows that are lists of cells. It is safe for concurrent use.
type RowCodec struct {
	t    *table
	spec Spec
}

// NewRowCodec checks a spec. o may be nil. The error names all mistakes and wraps
// keystore.ErrInvalid.
func NewRowCodec(keys *keystore.Store, spec Spec, o *Options) (*RowCodec, error) {
	t := newTable(keys, spec.Table, o)
	if spec.AllowAt && t.allow == nil {
		t.allow = append(t.allow, keystore.AllowAt())
	}
	t.kind, t.keyed = spec.Kind, spec.Key != ""
	var mistakes []error
	add := func(err error) {
		if err != nil {
			mistakes = append(mistakes, err)
		}
	}
	add(checkName("table name", spec.Table))
	add(keystore.CheckKind(spec.Kind))
	add(checkName("subject column", spec.SubjectColumn))
	if len(spec.Fields) == 0 {
		add(errors.New("no personal column"))
	}
	for _, f := range spec.Fields {
		if err := checkFieldSpec(f, spec); err != nil {
			add(err)
			continue
		}
		if err := t.add(field{Field: Field(f)}, true); err != nil {
			add(fmt.Errorf("column %s: %w", f.Name, err))
		}
	}
	if mistakes != nil {
		return nil, fmt.Errorf("%w: data map of table %q:\n%w", keystore.ErrInvalid, spec.Table, errors.Join(mistakes...))
	}
	return &RowCodec{t: t, spec: spec}, nil
}

func checkFieldSpec(f FieldSpec, spec Spec) error {
	if err := checkName("column name", f.Name); err != nil {
		return err
	}
	if f.Name == spec.SubjectColumn || f.Name == spec.Key {
		return fmt.Errorf("column %s is the subject's id or the row's key: it cannot be personal", f.Name)
	}
	if f.Purpose != "" {
		if err := checkName("purpose", f.Purpose); err != nil {
			return fmt.Errorf("column %s: %w", f.Name, err)
		}
	}
	return nil
}

// Table returns the logical name of the table.
func (c *RowCodec) Table() string { return c.t.name }

// Kind returns the kind of the rows' subjects.
func (c *RowCodec) Kind() string { return c.t.kind }

// Fields returns the personal columns.
func (c *RowCodec) Fields() []Field { return c.t.describe() }

// BoundRows is a RowCodec that knows where the columns stand. It is safe for concurrent
// use.
type BoundRows struct {
	t       *table
	subject int
	key     int   // -1: none
	columns []int // by field
	width   int
}

// Bind tells the codec the header of the rows. The error names the columns that are
// missing or stand twice, and wraps keystore.ErrInvalid.
func (c *RowCodec) Bind(columns []string) (*BoundRows, error) {
	var mistakes []error
	find := func(name string) int {
		at := -1
		for i, col := range columns {
			if col != name {
				continue
			}
			if at >= 0 {
				mistakes = append(mistakes, fmt.Errorf("column %s stands twice", name))
				break
			}
			at = i
		}
		if at < 0 {
			mistakes = append(mistakes, fmt.Errorf("column %s is missing", name))
		}
		return at
	}
	b := &BoundRows{t: c.t, subject: find(c.spec.SubjectColumn), key: -1, width: len(columns)}
	if c.spec.Key != "" {
		b.key = find(c.spec.Key)
	}
	for _, f := range c.t.fields {
		b.columns = append(b.columns, find(f.Name))
	}
	if mistakes != nil {
		return nil, fmt.Errorf("%w: table %s: %w", keystore.ErrInvalid, c.t.name, errors.Join(mistakes...))
	}
	return b, nil
}

// OpenCounts counts rows by how they were read.
type OpenCounts struct {
	Open     int
	Withheld int
	Erased   int
}

// Seal seals rows in place, with one round trip to the keystore. Rows that cannot be
// sealed are left as they were and named by a *BatchError; the others are sealed.
// Codec.Seal says what is refused.
func (b *BoundRows) Seal(ctx context.Context, rows [][]Cell) error {
	return b.do(ctx, "seal", rows, func(sc *scratch, row []Cell, keys keystore.Keys, key string) (Status, *field, uint32, error) {
		for i, col := range b.columns {
			if sc.slots[i] = (slot{text: row[col].Text, state: slotPlain}); row[col].Null {
				sc.slots[i] = slot{}
			}
		}
		f, id, err := b.t.sealRow(sc, keys, key)
		return "", f, id, err
	}, func(sc *scratch, row []Cell, _ Status) {
		for i, col := range b.columns {
			if s := &sc.slots[i]; s.state == slotDone {
				row[col] = Cell{Text: s.text}
			}
		}
	})
}

// Open opens stored rows in place, with one round trip to the keystore. Erased cells
// become their replacement; without one, and where they are withheld, they are Null.
// Rows that cannot be opened are left as they were, named by a *BatchError, and not
// counted; the others are open.
func (b *BoundRows) Open(ctx context.Context, rows [][]Cell) (OpenCounts, error) {
	var n OpenCounts
	err := b.do(ctx, "open", rows, func(sc *scratch, row []Cell, keys keystore.Keys, key string) (Status, *field, uint32, error) {
		for i, col := range b.columns {
			if sc.slots[i] = (slot{text: row[col].Text, state: slotStored}); row[col].Null || row[col].Text == "" {
				sc.slots[i] = slot{}
			}
		}
		return b.t.openRow(sc, keys, key)
	}, func(sc *scratch, row []Cell, status Status) {
		plain := string(sc.plain)
		for i, col := range b.columns {
			switch s := &sc.slots[i]; {
			case s.state != slotStored:
			case s.status == StatusOpen:
				row[col] = Cell{Text: plain[s.from:s.to]}
			default:
				row[col] = Cell{Text: s.text, Null: s.text == ""}
			}
		}
		switch status {
		case StatusOpen:
			n.Open++
		case StatusWithheld:
			n.Withheld++
		case StatusErased:
			n.Erased++
		}
	})
	return n, err
}

// do runs work on each row's slots, and then store once the keys were found fresh.
func (b *BoundRows) do(ctx context.Context, op string, rows [][]Cell,
	work func(*scratch, []Cell, keystore.Keys, string) (Status, *field, uint32, error),
	store func(*scratch, []Cell, Status),
) error {
	t := b.t
	sc := t.borrow()
	defer t.giveBack(sc)
	sc.general = true
	var bad []*RowError
	sc.todo, sc.subjects = sc.todo[:0], sc.subjects[:0]
	keys := make([]string, len(rows))
	for i, row := range rows {
		var s keystore.Subject
		err := b.checkWidth(row)
		if err == nil {
			s, err = t.subjectOfText(row[b.subject].value())
		}
		if err == nil && b.key >= 0 {
			keys[i], err = rowKey(row[b.key].value())
		}
		if err != nil {
			bad = append(bad, t.rowError(op, i, s, nil, 0, err))
			continue
		}
		sc.todo, sc.subjects = append(sc.todo, i), append(sc.subjects, s)
	}
	err := t.withKeys(ctx, sc, op == "seal", func(i int, k keystore.Keys) bool {
		status, f, id, err := work(sc, rows[i], k, keys[i])
		if !keystore.Fresh(k) {
			return false
		}
		if err != nil {
			bad = append(bad, t.rowError(op, i, k.Subject(), f, id, err))
			return true
		}
		store(sc, rows[i], status)
		return true
	})
	if err != nil {
		return err
	}
	return batch(bad)
}

func (b *BoundRows) checkWidth(row []Cell) error {
	if len(row) != b.width {
		return fmt.Errorf("%w: the row has %d cells, the header %d", keystore.ErrInvalid, len(row), b.width)
	}
	return nil
}

// value is what an id's cell holds: no text where it is NULL.
func (c Cell) value() string {
	if c.Null {
		return ""
	}
	return c.Text
}
