package fieldcrypt

import (
	"context"
	"reflect"
	"slices"

	"github.com/oubli/oubli/keystore"
)

// Blank puts blanks in the place of the personal fields of a row as it is stored, all
// but those whose purposes stand in keep, and returns the logical names of the columns
// that it changed. What is NULL or blank already is left alone: twice is once.
//
// A field becomes NULL, its replacement, or the part of its value that its tag keeps
// for statistics. That part needs the plaintext, which ctx must be able to read: the
// context of keystore's Reveal. Where it cannot be had because the key is destroyed or
// the value was altered, the replacement takes its place.
func (c *Codec[T]) Blank(ctx context.Context, row *T, keep []string) (columns []string, err error) {
	v := reflect.ValueOf(row).Elem()
	sc := c.borrow()
	defer c.giveBack(sc)
	s, err := c.subjectOf(v)
	if err != nil {
		return nil, c.rowError("blank", 0, s, nil, 0, err)
	}
	key, err := c.rowKey(v)
	if err != nil {
		return nil, c.rowError("blank", 0, s, nil, 0, err)
	}
	var bad *RowError
	sc.todo, sc.subjects = append(sc.todo[:0], 0), append(sc.subjects[:0], s)
	err = c.withKeys(ctx, sc, false, func(_ int, keys keystore.Keys) bool {
		columns, bad = c.blankRow(sc, v, keys, key, keep)
		return keystore.Fresh(keys)
	})
	if err != nil {
		return nil, err
	}
	if bad != nil {
		return nil, bad
	}
	c.own(v)
	c.storeBlanks(sc, v)
	return columns, nil
}

// blankRow turns the slots of a stored row into blanks.
func (p *plan) blankRow(sc *scratch, row reflect.Value, keys keystore.Keys, key string, keep []string) (columns []string, bad *RowError) {
	f, err := p.load(sc, row, false)
	id := uint32(0)
	if err == nil {
		f, id, err = p.blankSlots(sc, keys, key, keep)
	}
	if err != nil {
		return nil, p.rowError("blank", 0, keys.Subject(), f, id, err)
	}
	for i := range p.fields {
		if sc.slots[i].blanked() {
			columns = append(columns, p.fields[i].Name)
		}
	}
	return columns, nil
}

// blankSlots turns stored slots into blanks or NULL, or keeps them.
func (t *table) blankSlots(sc *scratch, keys keystore.Keys, key string, keep []string) (bad *field, id uint32, err error) {
	sc.aad = appendRowAAD(sc.aad[:0], keys.Subject().String(), key, t.keyed)
	rowAAD := len(sc.aad)
	for i := range t.fields {
		f, s := &t.fields[i], &sc.slots[i]
		if s.state != slotStored {
			continue
		}
		if slices.Contains(keep, f.Purpose) || s.read(sc).form == formBlank {
			s.state = slotKeep
			continue
		}
		value := f.replacement(keys.Subject())
		if f.rule.generalizes() {
			sc.plain = sc.plain[:0]
			id, err := t.openSlot(sc, keys, f, s, rowAAD)
			switch {
			case err == nil && s.status == StatusOpen:
				if part := f.rule.generalize(string(sc.plain)); part != "" {
					value = part
				}
			case s.status == StatusWithheld:
				return f, id, keys.Err()
			}
		}
		s.blankBy(f.rule, value)
	}
	return nil, 0, nil
}

// blankBy makes the slot NULL or a new blank.
func (s *slot) blankBy(r rule, value string) {
	if s.state = slotNull; r.kind != ruleNull {
		s.blank(value)
	}
}

// blanked tells whether the slot was made NULL or a blank.
func (s *slot) blanked() bool { return s.state == slotDone || s.state == slotNull }

func (p *plan) storeBlanks(sc *scratch, row reflect.Value) {
	p.storeSealed(sc, row)
	for i := range p.fields {
		if sc.slots[i].state == slotNull {
			v, _ := at(row, p.fields[i].path)
			v.SetZero()
		}
	}
}
