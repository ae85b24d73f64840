package fieldcrypt_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// contacts has a column of text and one of bytes.
var contacts = fieldcrypt.Spec{Table: "contacts", Kind: "customer", SubjectColumn: "id", Fields: []fieldcrypt.FieldSpec{
	{Name: "name", Replace: "Erased"},
	{Name: "photo", Binary: true},
}}

var contactColumns = []string{"id", "name", "photo"}

func boundContacts(t testing.TB, keys *keystore.Store, adopting ...string) (*fieldcrypt.RowCodec, *fieldcrypt.BoundRows) {
	t.Helper()
	c, err := fieldcrypt.NewRowCodec(keys, contacts, &fieldcrypt.Options{Adopting: adopting})
	require.NoError(t, err)
	b, err := c.Bind(contactColumns)
	require.NoError(t, err)
	return c, b
}

func contact(id int, name, photo fieldcrypt.Cell) []fieldcrypt.Cell {
	return []fieldcrypt.Cell{{Text: fmt.Sprint(id)}, name, photo}
}

func text(s string) fieldcrypt.Cell { return fieldcrypt.Cell{Text: s} }

func copyRows(rows [][]fieldcrypt.Cell) [][]fieldcrypt.Cell {
	out := make([][]fieldcrypt.Cell, len(rows))
	for i := range rows {
		out[i] = slices.Clone(rows[i])
	}
	return out
}

// What stands in a cell, by what was put there and by the state of its person.
func TestContents(t *testing.T) {
	const (
		null = fieldcrypt.ContentNull
		seal = fieldcrypt.ContentSealed
		held = fieldcrypt.ContentWithheld
		gone = fieldcrypt.ContentErased
		blnk = fieldcrypt.ContentBlank
		text = fieldcrypt.ContentPlain
		bad  = fieldcrypt.ContentBad
	)
	//                         active unknown restricted erasing erased readmitted withdrawn
	want := map[string][people]fieldcrypt.Content{
		"null":             {null, null, null, null, null, null, null},
		"empty":            {text, text, text, text, text, text, text},
		"plaintext":        {text, text, text, text, text, text, text},
		"like an envelope": {text, text, text, text, text, text, text},
		"newer":            {bad, bad, bad, bad, bad, bad, bad},
		"sealed":           {seal, bad, held, held, gone, gone, gone},
		"altered":          {bad, bad, held, held, gone, gone, gone},
		"another's":        {bad, bad, bad, bad, bad, bad, bad},
		"blank":            {bad, bad, bad, blnk, blnk, blnk, blnk},
	}
	causes := map[string]map[int]error{
		"newer":     {0: fieldcrypt.ErrVersion},
		"sealed":    {unknown: keystore.ErrUnknownSubject},
		"altered":   {unknown: keystore.ErrUnknownSubject, active: keystore.ErrTampered},
		"another's": {0: keystore.ErrUnknownKey, unknown: keystore.ErrUnknownSubject},
		"blank":     {0: keystore.ErrTampered},
	}
	ctx := context.Background()
	keys := keystoretest.New(t)
	codec, b := boundContacts(t, keys, "name", "photo")
	_, notAdopting := boundContacts(t, keys)
	var sealed [][]fieldcrypt.Cell // by id
	bringAbout(t, keys, func() {
		for id := range people + 2 { // the last is nobody of the table
			who := id
			if id == 0 || id == unknown {
				who = 99 // an unknown person's envelope cannot be her own
			}
			sealed = append(sealed, contact(who, fieldcrypt.Cell{Text: "Ada"}, fieldcrypt.Cell{Text: "\x00Ada"}))
		}
		require.NoError(t, b.Seal(ctx, sealed))
	})
	put := map[string]func(id int) (name, photo fieldcrypt.Cell){
		"null":  func(int) (a, b fieldcrypt.Cell) { return fieldcrypt.Cell{Null: true}, fieldcrypt.Cell{Null: true} },
		"empty": func(int) (a, b fieldcrypt.Cell) { return },
		"plaintext": func(int) (a, b fieldcrypt.Cell) {
			return fieldcrypt.Cell{Text: "Ada"}, fieldcrypt.Cell{Text: "\x00Ada"}
		},
		"like an envelope": func(id int) (a, b fieldcrypt.Cell) {
			return fieldcrypt.Cell{Text: sealed[id][1].Text[:40]}, fieldcrypt.Cell{Text: sealed[id][2].Text[:32]}
		},
		"newer": func(id int) (a, b fieldcrypt.Cell) {
			return fieldcrypt.Cell{Text: "oubli3~x"}, fieldcrypt.Cell{Text: "\xB7" + sealed[id][2].Text[1:]}
		},
		"sealed": func(id int) (a, b fieldcrypt.Cell) { return sealed[id][1], sealed[id][2] },
		"altered": func(id int) (a, b fieldcrypt.Cell) {
			return fieldcrypt.Cell{Text: altered(sealed[id][1].Text)}, fieldcrypt.Cell{Text: altered(sealed[id][2].Text)}
		},
		"another's": func(int) (a, b fieldcrypt.Cell) { return sealed[people+1][1], sealed[people+1][2] },
		"blank": func(int) (a, b fieldcrypt.Cell) {
			return fieldcrypt.Cell{Text: "oubli1~0123456789~Erased"}, fieldcrypt.Cell{Text: "oubli1~0123456789~"}
		},
	}
	adopts := []int{active, unknown, readmitted}
	states, err := keys.Lookup(ctx, nil, subject(t, active), subject(t, unknown), subject(t, restricted), subject(t, beingErased), subject(t, erased), subject(t, readmitted), subject(t, withdrawn))
	require.NoError(t, err)

	for content, cells := range put {
		t.Run(content, func(t *testing.T) {
			stored := make([][]fieldcrypt.Cell, people)
			for i := range stored {
				name, photo := cells(active + i)
				stored[i] = contact(active+i, name, photo)
			}
			check := func(t *testing.T, op string, found [][]fieldcrypt.Found, err error) {
				t.Helper()
				require.NoError(t, err)
				require.Len(t, found, people)
				for i, row := range found {
					require.Len(t, row, 2)
					for n, f := range row {
						id := active + i
						what := fmt.Sprint(stateNames[id], " ", contacts.Fields[n].Name)
						require.Equal(t, want[content][i], f.Content, what)
						require.Equal(t, states[i].State(), f.State, what)
						if f.Content != bad {
							require.NoError(t, f.Err, what)
							continue
						}
						cause := causes[content][id]
						if cause == nil {
							cause = causes[content][0]
						}
						require.ErrorIs(t, f.Err, cause, what)
						var bad *fieldcrypt.RowError
						require.ErrorAs(t, f.Err, &bad)
						require.Equal(t, fieldcrypt.RowError{Op: op, Row: i, Subject: subject(t, id), Table: "contacts", Field: contacts.Fields[n].Name,
							KeyID: f.KeyID, Err: bad.Err, Hint: bad.Hint}, *bad)
						require.NotContains(t, f.Err.Error(), "Ada")
					}
				}
			}
			t.Run("inspect", func(t *testing.T) {
				rows := copyRows(stored)
				found, err := b.Inspect(ctx, rows)
				check(t, "inspect", found, err)
				require.Equal(t, stored, rows)
				for _, row := range found {
					for _, f := range row {
						require.False(t, f.Adopted)
					}
				}
				found, err = notAdopting.Inspect(ctx, rows)
				require.NoError(t, err)
				for i, row := range found {
					for _, f := range row {
						if content == "empty" {
							require.Equal(t, null, f.Content, "an empty text is NULL")
						} else {
							require.Equal(t, want[content][i], f.Content)
						}
					}
				}
			})
			t.Run("open", func(t *testing.T) {
				before := codec.Plaintext()["name"]
				for i := range stored {
					rows := copyRows(stored[i : i+1])
					_, err := b.Open(ctx, rows)
					switch want[content][i] {
					case bad:
						require.Error(t, err)
						require.Equal(t, stored[i], rows[0])
						continue
					case null:
						require.Equal(t, stored[i], rows[0])
						continue
					}
					require.NoError(t, err)
					for n, read := range rows[0][1:] {
						status := fieldcrypt.StatusOpen
						switch id := active + i; {
						case want[content][i] == blnk, want[content][i] == gone, id == erased, id == withdrawn:
							status = fieldcrypt.StatusErased
						case id == restricted, id == beingErased:
							status = fieldcrypt.StatusWithheld
						}
						require.Equal(t, status, read.Status, stateNames[active+i])
						if status == fieldcrypt.StatusOpen && content != "sealed" {
							require.Equal(t, stored[i][1+n].Text, read.Text)
						}
						if status != fieldcrypt.StatusOpen {
							require.NotContains(t, read.Text, "Ada")
						}
					}
				}
				n := codec.Plaintext()["name"] - before
				if want[content][0] == text {
					require.EqualValues(t, people, n)
				} else {
					require.Zero(t, n)
				}
			})
			t.Run("reconcile", func(t *testing.T) {
				for _, plaintext := range []bool{false, true} {
					rows := copyRows(stored)
					found, err := b.Reconcile(ctx, rows, plaintext)
					check(t, "reconcile", found, err)
					for i, row := range rows {
						dead := want[content][i] == gone || plaintext && want[content][i] == text && (active+i == erased || active+i == withdrawn)
						if !dead {
							require.Equal(t, stored[i], row, stateNames[active+i])
							continue
						}
						require.Regexp(t, `^oubli1~[\w-]{12}~Erased$`, row[1].Text)
						require.Equal(t, fieldcrypt.Cell{Null: true}, row[2])
					}
					again := copyRows(rows)
					_, err = b.Reconcile(ctx, again, plaintext)
					require.NoError(t, err)
					require.Equal(t, rows, again, "twice is once")
				}
			})
			t.Run("blank", func(t *testing.T) {
				rows := copyRows(stored)
				changed, err := b.Blank(ctx, rows, []string{"tax"})
				require.NoError(t, err)
				for i, row := range rows {
					if content == "null" || content == "blank" {
						require.Equal(t, []bool{false, false}, changed[i])
						require.Equal(t, stored[i], row)
						continue
					}
					require.Equal(t, []bool{true, true}, changed[i])
					require.Regexp(t, `^oubli1~[\w-]{12}~Erased$`, row[1].Text)
					require.Equal(t, fieldcrypt.Cell{Null: true}, row[2])
				}
				kept := copyRows(stored)
				changed, err = b.Blank(ctx, kept, []string{""})
				require.NoError(t, err)
				require.Equal(t, stored, kept)
				require.NotContains(t, changed[0], true)
			})
			t.Run("adopt of other columns", func(t *testing.T) {
				rows := copyRows(stored)
				found, err := notAdopting.Adopt(ctx, rows)
				require.NoError(t, err)
				require.Equal(t, stored, rows)
				if want[content][0] == text && content != "empty" {
					require.Equal(t, bad, found[0][0].Content)
					require.ErrorIs(t, found[0][0].Err, keystore.ErrTampered)
				}
			})
		})
	}
	// The unknown become known by what holds plaintext, which comes last.
	for _, content := range []string{"null", "newer", "sealed", "altered", "another's", "blank", "empty", "plaintext", "like an envelope"} {
		t.Run("adopt "+content, func(t *testing.T) {
			stored := make([][]fieldcrypt.Cell, people)
			for i := range stored {
				name, photo := put[content](active + i)
				stored[i] = contact(active+i, name, photo)
			}
			rows := copyRows(stored)
			found, err := b.Adopt(ctx, rows)
			require.NoError(t, err)
			for i, row := range found {
				id := active + i
				for n, f := range row {
					require.Equal(t, want[content][i], f.Content)
					may := want[content][i] == text && slices.Contains(adopts, id)
					require.Equal(t, may, f.Adopted, stateNames[id])
					if !may {
						require.Equal(t, stored[i][1+n], rows[i][1+n])
					}
				}
				if found[i][0].Adopted {
					require.True(t, strings.HasPrefix(rows[i][1].Text, "oubli1."))
					require.Equal(t, byte(0xB1), rows[i][2].Text[0])
				}
			}
			after, err := b.Inspect(ctx, rows)
			require.NoError(t, err)
			again := copyRows(rows)
			_, err = b.Adopt(ctx, again)
			require.NoError(t, err)
			require.Equal(t, rows, again, "twice is once")
			for i := range rows {
				if found[i][0].Adopted {
					require.Equal(t, seal, after[i][0].Content)
					require.Equal(t, seal, after[i][1].Content)
					require.NotZero(t, after[i][0].KeyID)
					open := copyRows(rows[i : i+1])
					_, err := notAdopting.Open(ctx, open)
					require.NoError(t, err)
					require.Equal(t, []string{stored[i][1].Text, stored[i][2].Text}, []string{open[0][1].Text, open[0][2].Text})
				}
			}
			known, err := keys.Lookup(ctx, nil, subject(t, unknown))
			require.NoError(t, err)
			if want[content][0] != text {
				require.Equal(t, keystore.StateUnknown, known[0].State(), "nobody got a key who has nothing to seal")
			}
		})
	}
}

func TestContentsOfRowsThatNameNobody(t *testing.T) {
	ctx := context.Background()
	_, b := boundContacts(t, keystoretest.New(t), "name")
	null := fieldcrypt.Cell{Null: true}
	rows := [][]fieldcrypt.Cell{
		{null, text("Ada"), null},
		{text("0"), null, text("")},
		{text("1"), text("Ada")},
		{text("1"), text("Ada"), text("")},
	}
	stored := copyRows(rows)
	for op, do := range map[string]func() ([][]fieldcrypt.Found, error){
		"inspect":   func() ([][]fieldcrypt.Found, error) { return b.Inspect(ctx, rows) },
		"reconcile": func() ([][]fieldcrypt.Found, error) { return b.Reconcile(ctx, rows, true) },
		"adopt":     func() ([][]fieldcrypt.Found, error) { return b.Adopt(ctx, rows) },
	} {
		rows = copyRows(stored)
		found, err := do()
		require.NoError(t, err)
		require.Equal(t, fieldcrypt.ContentBad, found[0][0].Content)
		require.ErrorIs(t, found[0][0].Err, keystore.ErrInvalid)
		require.ErrorContains(t, found[0][0].Err, op+" contacts.name row 0: ")
		require.NotContains(t, found[0][0].Err.Error(), "Ada")
		require.Equal(t, fieldcrypt.Found{}, found[0][1], "NULL")
		require.Equal(t, []fieldcrypt.Found{{}, {}}, found[1])
		require.Equal(t, fieldcrypt.ContentBad, found[2][1].Content, "a row of another width")
		require.Equal(t, fieldcrypt.ContentPlain, found[3][0].Content)
		require.Equal(t, stored[:3], rows[:3])
	}
}

func TestContentsOfAKeystoreThatIsAway(t *testing.T) {
	keys := keystoretest.New(t)
	_, b := boundContacts(t, keys, "name")
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	rows := [][]fieldcrypt.Cell{contact(1, text("Ada"), text(""))}
	stored := copyRows(rows)
	_, err := b.Inspect(cancelled, rows)
	require.ErrorIs(t, err, context.Canceled)
	_, err = b.Adopt(cancelled, rows)
	require.ErrorIs(t, err, context.Canceled)
	_, err = b.Reconcile(cancelled, rows, true)
	require.ErrorIs(t, err, context.Canceled)
	_, err = b.Blank(cancelled, rows, nil)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, stored, rows, "nothing is blanked because nobody answered")
}

// Inspect takes whatever stands in a column, and finds sealed only what was sealed.
func FuzzInspect(f *testing.F) {
	ctx := context.Background()
	keys := keystoretest.New(f)
	_, b := boundContacts(f, keys, "name", "photo")
	sealed := [][]fieldcrypt.Cell{contact(1, text("Ada"), text("Ada"))}
	require.NoError(f, b.Seal(ctx, sealed))
	own := sealed[0]
	f.Add("oubli1.", 0, byte(0), false)
	f.Add("oubli1~0123456789~x", 0, byte(0), true)
	f.Add("oubli77~", 3, byte(4), false)
	f.Add("\xB1\x00\x00\x00\x01aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 9, byte(1), false)
	f.Add("", 30, byte(1), true)
	f.Fuzz(func(t *testing.T, stored string, at int, flip byte, ours bool) {
		row := contact(1, text(stored), text(stored))
		if ours { // an envelope of these very cells, altered
			for n := 1; n <= 2; n++ {
				altered := []byte(own[n].Text)
				altered[uint(at)%uint(len(altered))] ^= flip
				row[n] = text(string(altered) + stored)
			}
		}
		found, err := b.Inspect(ctx, [][]fieldcrypt.Cell{row})
		if err != nil {
			t.Fatal(err)
		}
		for n, x := range found[0] {
			if sealed := row[1+n] == own[1+n]; sealed != (x.Content == fieldcrypt.ContentSealed) {
				t.Fatalf("sealed: %t, and found %s", sealed, x.Content)
			}
			if (x.Content == fieldcrypt.ContentBad) != (x.Err != nil) {
				t.Fatalf("%s with the error %v", x.Content, x.Err)
			}
		}
		adopted := [][]fieldcrypt.Cell{slices.Clone(row)}
		if _, err := b.Adopt(ctx, adopted); err != nil {
			t.Fatal(err)
		}
		for n, x := range found[0] {
			if changed := adopted[0][1+n] != row[1+n]; changed != (x.Content == fieldcrypt.ContentPlain) {
				t.Fatalf("%s, and adopted: %t", x.Content, changed)
			}
		}
	})
}

// A row that names nobody and holds nothing personal is no mistake; with a value it is.
func TestRowsOfNobody(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	codec, err := fieldcrypt.NewRowCodec(keys, fieldcrypt.Spec{Table: "orders", Kind: "customer", SubjectColumn: "customer", Fields: []fieldcrypt.FieldSpec{{Name: "note"}, {Name: "street"}}}, nil)
	require.NoError(t, err)
	b, err := codec.Bind([]string{"customer", "note", "street", "total"})
	require.NoError(t, err)
	null := fieldcrypt.Cell{Null: true}
	rows := [][]fieldcrypt.Cell{
		{{Text: "1"}, {Text: "ring twice"}, null, {Text: "5"}},
		{null, null, null, {Text: "7"}},
		{null, null, {Text: "1 Analytical Row"}, {Text: "9"}},
	}
	err = b.Seal(ctx, rows)
	var bad *fieldcrypt.BatchError
	require.ErrorAs(t, err, &bad)
	require.Len(t, bad.Rows, 1)
	require.Equal(t, 2, bad.Rows[0].Row)
	require.Equal(t, []fieldcrypt.Cell{null, null, null, {Text: "7"}}, rows[1])
	found, err := b.Inspect(ctx, rows)
	require.NoError(t, err)
	require.Equal(t, fieldcrypt.ContentNull, found[1][0].Content)
	require.Equal(t, fieldcrypt.ContentBad, found[2][1].Content)
	_, err = b.Open(ctx, rows[:2])
	require.NoError(t, err)
	require.Equal(t, "ring twice", rows[0][1].Text)
}
