package fieldcrypt_test

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// Whoever has nothing to seal gets no key, whoever else stands in the batch.
func TestAdoptMakesKeysOnlyWhereItSeals(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	_, b := boundContacts(t, keys, "name", "photo")
	null := fieldcrypt.Cell{Null: true}
	rows := [][]fieldcrypt.Cell{
		contact(1, null, null), contact(2, text("Ada"), null), contact(3, text("oubli1~0123456789~x"), null), contact(2, null, null), contact(4, null, text("")),
	}
	found, err := b.Adopt(ctx, rows)
	require.NoError(t, err)
	require.Equal(t, fieldcrypt.ContentBad, found[2][0].Content)
	known, err := keys.Lookup(ctx, nil, subject(t, 1), subject(t, 2), subject(t, 3), subject(t, 4))
	require.NoError(t, err)
	for i, want := range []keystore.State{keystore.StateUnknown, keystore.StateActive, keystore.StateUnknown, keystore.StateActive} {
		require.Equal(t, want, known[i].State())
	}
	require.NotEmpty(t, rows[4][2].Text, "an empty text is sealed, too")
}

// Blanking many rows generalizes from plaintext, and names the rows that it cannot.
func TestBlankingCells(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	spec := fieldcrypt.Spec{Table: "people", Kind: "customer", SubjectColumn: "id",
		Fields: []fieldcrypt.FieldSpec{{Name: "born", Blank: "year"}, {Name: "zip", Blank: "first:2", Purpose: "tax"}}}
	codec, err := fieldcrypt.NewRowCodec(keys, spec, &fieldcrypt.Options{Adopting: []string{"born", "zip"}})
	require.NoError(t, err)
	b, err := codec.Bind([]string{"zip", "id", "born"})
	require.NoError(t, err)
	rows := [][]fieldcrypt.Cell{cells("12345", "1", "1990-05-17"), cells("12345", "2", "1990-05-17"), cells("", "3", "")}
	require.NoError(t, b.Seal(ctx, [][]fieldcrypt.Cell{slices.Clone(rows[1])}))
	require.NoError(t, joined(keys.Restrict(ctx, nil, subject(t, 2))))
	changed, err := b.Blank(ctx, rows, []string{"tax"})
	var bad *fieldcrypt.BatchError
	require.ErrorAs(t, err, &bad)
	require.Len(t, bad.Rows, 1)
	require.Equal(t, 1, bad.Rows[0].Row)
	require.ErrorIs(t, err, keystore.ErrRestricted)
	require.Equal(t, [][]bool{{true, false}, {false, false}, {false, false}}, changed)
	require.Equal(t, cells("12345", "2", "1990-05-17"), rows[1])
	require.Equal(t, "12345", rows[0][0].Text)
	require.Regexp(t, `^oubli1~[\w-]{12}~1990$`, rows[0][2].Text)
	changed, err = b.Blank(ctx, rows[:1], nil)
	require.NoError(t, err)
	require.Equal(t, [][]bool{{false, true}}, changed)
	require.Regexp(t, `^oubli1~[\w-]{12}~12$`, rows[0][0].Text)
}

// Adopting any values and opening them gives the same values, adopting twice changes
// nothing, and nothing is sealed twice.
func TestAdoptAndOpen(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	_, b := boundContacts(t, keys, "name", "photo")
	_, strict := boundContacts(t, keys)
	like := rapid.SampledFrom([]string{"", "oubli1.", "oubli1~", "oubli1.sQAAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "oubli1.sQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"oubli2.x", "oubli1~0123456789~", "\xB1\x00\x00\x00\x01aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "\xB1\x00\x00\x00\x00aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "\xB2"})
	value := rapid.Custom(func(t *rapid.T) fieldcrypt.Cell {
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			return fieldcrypt.Cell{Null: true}
		case 1:
			return text(like.Draw(t, "like"))
		case 2:
			return text(like.Draw(t, "begin") + rapid.String().Draw(t, "end"))
		}
		return text(rapid.String().Draw(t, "text"))
	})
	rapid.Check(t, func(t *rapid.T) {
		var rows [][]fieldcrypt.Cell
		for range rapid.IntRange(1, 6).Draw(t, "rows") {
			rows = append(rows, contact(rapid.IntRange(1, 8).Draw(t, "id"), value.Draw(t, "name"), value.Draw(t, "photo")))
		}
		stored := copyRows(rows)
		sealed := copyRows(rows)
		if err := b.Seal(ctx, sealed); err != nil {
			t.Fatal(err)
		}
		for i := range rows { // some cells are sealed already
			for n := 1; n <= 2; n++ {
				if rapid.Bool().Draw(t, "sealed") && !sealed[i][n].Null {
					rows[i][n] = sealed[i][n]
				}
			}
		}
		before := copyRows(rows)
		found, err := b.Adopt(ctx, rows)
		if err != nil {
			t.Fatal(err)
		}
		once := copyRows(rows)
		again, err := b.Adopt(ctx, rows)
		if err != nil {
			t.Fatal(err)
		}
		for i := range rows {
			for n, f := range found[i] {
				was, now := before[i][1+n], rows[i][1+n]
				if now != once[i][1+n] || again[i][n].Adopted {
					t.Fatal("adopted twice")
				}
				if (was != now) != f.Adopted || f.Adopted != (f.Content == fieldcrypt.ContentPlain) {
					t.Fatalf("%s, adopted %t, and the cell changed: %t", f.Content, f.Adopted, was != now)
				}
				if sealedBefore := !was.Null && was == sealed[i][1+n]; sealedBefore != (f.Content == fieldcrypt.ContentSealed) {
					t.Fatalf("sealed before: %t, and found %s", sealedBefore, f.Content)
				}
				if want := again[i][n].Content; want != f.Content && !(f.Adopted && want == fieldcrypt.ContentSealed) {
					t.Fatalf("found %s, then %s", f.Content, want)
				}
				if f.Content == fieldcrypt.ContentBad {
					rows[i][1+n], stored[i][1+n] = fieldcrypt.Cell{Null: true}, fieldcrypt.Cell{Null: true}
				}
			}
		}
		if _, err := strict.Open(ctx, rows); err != nil {
			t.Fatal(err)
		}
		for i := range rows {
			for n := 1; n <= 2; n++ {
				if rows[i][n].Text != stored[i][n].Text || rows[i][n].Null != stored[i][n].Null {
					t.Fatal("another value came back")
				}
			}
		}
	})
}
