package fieldcrypt

import (
	"context"

	"github.com/oubli/oubli/keystore"
)

// Content is what stands in a cell, found without giving any of it away.
type Content uint8

const (
	ContentNull     Content = iota // nothing; also an empty text, unless the column is being adopted
	ContentSealed                  // an envelope of this very cell, which opens
	ContentWithheld                // an envelope of somebody restricted or being erased; whether it would open was not looked at
	ContentErased                  // an envelope whose key was destroyed, with its person or with its purpose
	ContentBlank                   // a blank, where one may stand
	ContentPlain                   // plaintext: neither an envelope nor a blank, of any version
	ContentBad                     // what Found.Err says
)

// String gives a word for messages.
func (c Content) String() string {
	names := [...]string{"null", "sealed", "withheld", "erased", "blank", "plain", "bad"}
	if int(c) < len(names) {
		return names[c]
	}
	return "invalid"
}

// Found is what BoundRows found in one cell. It holds no value.
type Found struct {
	Content Content
	Adopted bool           // Adopt has sealed it
	State   keystore.State // of the row's subject; StateUnknown if the row names nobody
	KeyID   uint32         // the data key that an envelope names, else 0
	Err     error          // ContentBad: a *RowError: unknown key or subject, tampered, forged blank, ErrVersion
}

// Inspect tells what stands in stored rows, by row and by field in the order of
// Spec.Fields, with one round trip to the keystore. Envelopes are opened, and what they
// hold is thrown away. The error is about the keystore as a whole.
func (b *BoundRows) Inspect(ctx context.Context, rows [][]Cell) ([][]Found, error) {
	x := b.examine("inspect", rows)
	defer b.t.giveBack(x.sc)
	return x.run(ctx, false, nil)
}

// Adopt seals in place the cells that hold plaintext, in columns that are being adopted,
// and tells what stood in every cell before, as Inspect does. Nothing is ever sealed
// twice: what has the form of an envelope is an envelope, or bad. Plaintext of somebody
// who may not be written for, being restricted, being erased or erased, or whose purpose
// was withdrawn, is left: it is ContentPlain without being Adopted. In other columns
// plaintext is bad.
//
// Keys are made for those people only who have something to seal, before anything is
// sealed. Those are asked for in one round trip, and all others in a second, so that it
// is one where all rows hold plaintext, or none does.
func (b *BoundRows) Adopt(ctx context.Context, rows [][]Cell) ([][]Found, error) {
	x := b.examine("adopt", rows)
	sc := x.sc
	defer b.t.giveBack(sc)
	var rest []int
	var others []keystore.Subject
	n := 0
	for at, i := range sc.todo {
		if s := sc.subjects[at]; b.holdsPlaintext(sc, rows[i]) {
			sc.todo[n], sc.subjects[n] = i, s
			n++
		} else {
			rest, others = append(rest, i), append(others, s)
		}
	}
	sc.todo, sc.subjects = sc.todo[:n], sc.subjects[:n]
	if _, err := x.run(ctx, true, b.adoptSlots); err != nil {
		return nil, err
	}
	sc.todo, sc.subjects = append(sc.todo[:0], rest...), append(sc.subjects[:0], others...)
	return x.run(ctx, false, b.adoptSlots)
}

// Reconcile blanks in place the envelopes whose keys were destroyed, for rows that came
// back from a backup of the application's database. With plaintext, it also blanks
// plaintext of somebody who is erased or whose purpose was withdrawn. It tells what stood
// in every cell before, as Inspect does. What is bad is left: above all what was sealed
// with a key that the keystore does not know, or for somebody whom it does not know.
func (b *BoundRows) Reconcile(ctx context.Context, rows [][]Cell, plaintext bool) ([][]Found, error) {
	x := b.examine("reconcile", rows)
	defer b.t.giveBack(x.sc)
	return x.run(ctx, false, func(sc *scratch, keys keystore.Keys, _ int, found []Found) {
		for i := range b.t.fields {
			f, s := &b.t.fields[i], &sc.slots[i]
			dead := found[i].Content == ContentErased ||
				plaintext && found[i].Content == ContentPlain && (keys.State() == keystore.StateErased || keys.Withdrawn(f.Purpose))
			if s.state = slotKeep; dead && blankAllowed(keys, f) {
				s.blankBy(f.rule, f.replacement(keys.Subject()))
			}
		}
	})
}

// examination is one call of Inspect, Adopt or Reconcile.
type examination struct {
	*BoundRows
	op    string
	sc    *scratch
	rows  [][]Cell
	keys  []string // of the rows
	found [][]Found
}

// examine begins an examination: the rows that name somebody are to be done, and the
// cells of the others are bad.
func (b *BoundRows) examine(op string, rows [][]Cell) *examination {
	x := &examination{BoundRows: b, op: op, sc: b.t.borrow(), rows: rows, found: byField[Found](len(rows), len(b.columns))}
	x.keys = b.identify(x.sc, rows, func(row int, s keystore.Subject, err error) {
		for i, col := range b.columns {
			if len(rows[row]) == b.width && (rows[row][col].Null || rows[row][col].Text == "" && !b.t.fields[i].adopting()) {
				continue
			}
			x.found[row][i] = Found{Content: ContentBad, Err: b.t.rowError(op, row, s, &b.t.fields[i], 0, err)}
		}
	})
	return x
}

// run looks at the rows that are to be done. change, if there is one, decides with what
// was found on the slots of a row, whose cells they then become.
func (x *examination) run(ctx context.Context, write bool, change func(sc *scratch, keys keystore.Keys, rowAAD int, found []Found)) ([][]Found, error) {
	t, sc := x.t, x.sc
	err := t.withKeys(ctx, sc, write, func(row int, keys keystore.Keys) bool {
		x.load(sc, x.rows[row], false)
		sc.aad = appendRowAAD(sc.aad[:0], keys.Subject().String(), x.keys[row], t.keyed)
		rowAAD := len(sc.aad)
		sc.plain = sc.plain[:0]
		found := x.found[row]
		for i := range t.fields {
			f := &t.fields[i]
			content, id, err := t.contentOf(sc, keys, f, &sc.slots[i], rowAAD)
			found[i] = Found{Content: content, State: keys.State(), KeyID: id, Err: err}
		}
		if change != nil {
			change(sc, keys, rowAAD, found)
		}
		if !keystore.Fresh(keys) {
			return false
		}
		for i := range found {
			if err := found[i].Err; err != nil {
				found[i].Err = t.rowError(x.op, row, keys.Subject(), &t.fields[i], found[i].KeyID, err)
			}
		}
		if change != nil {
			x.store(sc, x.rows[row])
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	return x.found, nil
}

// contentOf tells what stands in a slot that is as stored.
func (t *table) contentOf(sc *scratch, keys keystore.Keys, f *field, s *slot, rowAAD int) (c Content, id uint32, err error) {
	if s.state != slotStored {
		return ContentNull, 0, nil
	}
	r := s.read(sc)
	switch r.form {
	case formOther:
		return ContentPlain, 0, nil
	case formNewer:
		return ContentBad, 0, ErrVersion
	case formBlank:
		if !blankAllowed(keys, f) {
			return ContentBad, 0, errForged
		}
		return ContentBlank, 0, nil
	}
	switch id, err = t.check(sc, keys, f, r.envelope, rowAAD); {
	case err == nil:
		return ContentSealed, id, nil
	case isDead(err):
		return ContentErased, id, nil
	case isWithheld(err):
		return ContentWithheld, id, nil
	}
	return ContentBad, id, err
}

// holdsPlaintext tells whether a row has plaintext to adopt.
func (b *BoundRows) holdsPlaintext(sc *scratch, row []Cell) bool {
	b.load(sc, row, false)
	for i := range b.t.fields {
		if s := &sc.slots[i]; s.state == slotStored && b.t.fields[i].adopting() && s.read(sc).form == formOther {
			return true
		}
	}
	return false
}

// adoptSlots seals the slots of a row that were found to hold plaintext.
func (b *BoundRows) adoptSlots(sc *scratch, keys keystore.Keys, rowAAD int, found []Found) {
	t := b.t
	t.primes(sc, keys)
	for i := range t.fields {
		f, s, p := &t.fields[i], &sc.slots[i], &sc.prime[t.fields[i].purpose]
		if s.state = slotKeep; found[i].Content != ContentPlain {
			continue
		}
		switch {
		case !f.adopting():
			found[i].Content, found[i].Err = ContentBad, errNoEnvelope
		case p.err == nil && s.bin:
			s.state, found[i].Adopted = slotEncoded, true
		case p.err == nil:
			s.state, found[i].Adopted = slotPlain, true
		case !isDead(p.err) && !isWithheld(p.err):
			found[i].Content, found[i].Err = ContentBad, p.err
		}
	}
	t.sealSlots(sc, rowAAD)
}
