package fieldcrypt

import (
	"context"
	"fmt"

	"github.com/oubli/oubli/keystore"
)

// Cell is one value of a row. Null means that there is none, and Text is not looked at;
// that is also what an empty CSV cell means. An empty Text is a value like any other
// when sealing, and none when opening, unless its column is being adopted.
type Cell struct {
	Text   string
	Null   bool
	Status Status // set by Open: how the value was read, empty for NULL; not looked at otherwise
}

// BoundRows is a RowCodec that knows where the columns stand. It is safe for concurrent
// use.
type BoundRows struct {
	t       *table
	subject int
	key     int   // -1: none
	columns []int // by field
	width   int
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
		b.load(sc, row, true)
		f, id, err := b.t.sealRow(sc, keys, key)
		return "", f, id, err
	}, func(sc *scratch, _ int, row []Cell, _ Status) { b.store(sc, row) })
}

// Open opens stored rows in place, with one round trip to the keystore, and sets the
// Status of each cell. Erased cells become their replacement; without one, and where they
// are withheld, they are Null. Rows that cannot be opened are left as they were, named by
// a *BatchError, and not counted; the others are open.
func (b *BoundRows) Open(ctx context.Context, rows [][]Cell) (OpenCounts, error) {
	var n OpenCounts
	err := b.do(ctx, "open", rows, func(sc *scratch, row []Cell, keys keystore.Keys, key string) (Status, *field, uint32, error) {
		b.load(sc, row, false)
		return b.t.openRow(sc, keys, key)
	}, func(sc *scratch, _ int, row []Cell, status Status) {
		sc.meet()
		b.t.count(sc)
		plain := string(sc.plain)
		for i, col := range b.columns {
			switch s := &sc.slots[i]; {
			case s.state != slotStored:
				row[col].Status = ""
			case s.status == StatusOpen:
				row[col] = Cell{Text: plain[s.from:s.to], Status: StatusOpen}
			default:
				row[col] = Cell{Text: s.text, Null: s.text == "", Status: s.status}
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

// Blank puts blanks in the place of the personal cells of stored rows, in place: all but
// those that are NULL or blank already and those whose purposes stand in keep. It tells
// what it changed, by row and by field in the order of Spec.Fields. Codec.Blank says what
// becomes of a cell. Rows that cannot be blanked are left as they were, with nothing
// changed, and named by a *BatchError.
func (b *BoundRows) Blank(ctx context.Context, rows [][]Cell, keep []string) (changed [][]bool, err error) {
	changed = byField[bool](len(rows), len(b.columns))
	return changed, b.do(ctx, "blank", rows, func(sc *scratch, row []Cell, keys keystore.Keys, key string) (Status, *field, uint32, error) {
		b.load(sc, row, false)
		f, id, err := b.t.blankSlots(sc, keys, key, keep)
		return "", f, id, err
	}, func(sc *scratch, i int, row []Cell, _ Status) {
		for n := range sc.slots {
			changed[i][n] = sc.slots[n].blanked()
		}
		b.store(sc, row)
	})
}

// byField makes a slice for each row with something for each field, in one piece.
func byField[E any](rows, fields int) [][]E {
	all, list := make([]E, rows*fields), make([][]E, rows)
	for i := range list {
		list[i] = all[i*fields : (i+1)*fields : (i+1)*fields]
	}
	return list
}

// load fills the scratch's slots with a row's personal cells, for sealing, or else as
// they are stored.
func (b *BoundRows) load(sc *scratch, row []Cell, seal bool) {
	sc.general = true
	for i, col := range b.columns {
		f, c := &b.t.fields[i], &row[col]
		s := slot{bin: f.binary}
		switch {
		case c.Null, c.Text == "" && !seal && !f.adopting():
		case f.binary && seal:
			s.state, s.data = slotEncoded, []byte(c.Text)
		case f.binary:
			s.state, s.data = slotStored, []byte(c.Text)
		case seal:
			s.state, s.text = slotPlain, c.Text
		default:
			s.state, s.text = slotStored, c.Text
		}
		sc.slots[i] = s
	}
}

// store writes what became of the slots into the row.
func (b *BoundRows) store(sc *scratch, row []Cell) {
	for i, col := range b.columns {
		switch s := &sc.slots[i]; {
		case s.state == slotNull:
			row[col] = Cell{Null: true}
		case s.state != slotDone:
		case s.bin:
			row[col] = Cell{Text: string(s.data)}
		default:
			row[col] = Cell{Text: s.text}
		}
	}
}

// do runs work on each row's slots, and then store once the keys were found fresh.
func (b *BoundRows) do(ctx context.Context, op string, rows [][]Cell,
	work func(*scratch, []Cell, keystore.Keys, string) (Status, *field, uint32, error),
	store func(*scratch, int, []Cell, Status),
) error {
	t := b.t
	sc := t.borrow()
	defer t.giveBack(sc)
	var bad []*RowError
	keys := b.identify(sc, rows, func(i int, s keystore.Subject, err error) {
		bad = append(bad, t.rowError(op, i, s, nil, 0, err))
	})
	err := t.withKeys(ctx, sc, op == "seal", func(i int, k keystore.Keys) bool {
		status, f, id, err := work(sc, rows[i], k, keys[i])
		if !keystore.Fresh(k) {
			return false
		}
		if err != nil {
			bad = append(bad, t.rowError(op, i, k.Subject(), f, id, err))
			return true
		}
		store(sc, i, rows[i], status)
		return true
	})
	if err != nil {
		return err
	}
	return batch(bad)
}

// ofNobody tells whether a row names nobody and holds nothing personal, as the order of a
// guest: there is nothing to seal, and nothing to open.
func (b *BoundRows) ofNobody(row []Cell) bool {
	if !row[b.subject].Null {
		return false
	}
	for _, col := range b.columns {
		if !row[col].Null {
			return false
		}
	}
	return true
}

// identify makes the rows that name a person, and a key where they need one, what the
// scratch has to do, and returns the keys by row. The others are bad, but for rows of
// nobody.
func (b *BoundRows) identify(sc *scratch, rows [][]Cell, bad func(row int, s keystore.Subject, err error)) (keys []string) {
	keys = make([]string, len(rows))
	sc.todo, sc.subjects = sc.todo[:0], sc.subjects[:0]
	for i, row := range rows {
		var s keystore.Subject
		err := b.checkWidth(row)
		if err == nil && b.ofNobody(row) {
			continue
		}
		if err == nil {
			s, err = b.t.subjectOfText(row[b.subject].value())
		}
		if err == nil && b.key >= 0 {
			keys[i], err = rowKey(row[b.key].value())
		}
		if err != nil {
			bad(i, s, err)
			continue
		}
		sc.todo, sc.subjects = append(sc.todo, i), append(sc.subjects, s)
	}
	return keys
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
