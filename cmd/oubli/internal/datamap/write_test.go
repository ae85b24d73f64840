package datamap_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/oubli/oubli/cmd/oubli/internal/datamap"
	"github.com/oubli/oubli/keystore"
)

func TestAProposalIsWrittenWithItsReasons(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, datamap.Write(&b, []datamap.Proposal{
		{Table: "customer", DB: []string{"public", "customer"}, Kind: "customer", Subject: "customer_id", Why: []string{"a table of people"}, Show: []string{"first_name", "birth_date"},
			Fields: []datamap.ProposedField{
				{Name: "first_name", DB: "first_name", Replace: "Erased", Why: "names of people: by its name"},
				{Name: "birth_date", DB: "birthDate", Type: "timestamp without time zone", Blank: "year"},
				{Name: "notes", DB: "notes", Why: "free text", Undecided: true},
			}},
		{Table: "log", DB: []string{"public", "log"}, Why: []string{"no column says whose it is"}, Undecided: true,
			Fields: []datamap.ProposedField{{Name: "ip", DB: "ip", Type: "inet"}}},
	}))
	_, text, _ := strings.Cut(b.String(), "tables:\n")
	require.Equal(t, `  # a table of people
  customer:
    db: public.customer
    subject: customer=customer_id
    personal:
      - first_name: {replace: Erased}              # names of people: by its name
      - birth_date: {db: birthDate, type: "timestamp without time zone", blank: year}
      # - notes                                    # free text
    show: [first_name, birth_date]

  # no column says whose it is
  # log:
  #   db: public.log
  #   subject: person=which_column
  #   personal:
  #     - ip: {type: inet}
`, text)
	m, err := datamap.Parse("proposed", b.Bytes())
	require.NoError(t, err)
	require.Equal(t, []string{"customer"}, m.Names())

	// Without its #, the rest is a data map as well.
	_, off, _ := strings.Cut(b.String(), "whose it is\n")
	m, err = datamap.Parse("uncommented", []byte("tables:\n"+strings.ReplaceAll(off, "  # ", "  ")))
	require.NoError(t, err)
	require.Equal(t, []string{"log"}, m.Names())
}

func TestWithoutAnythingDecidedThereIsNoMap(t *testing.T) {
	p := datamap.Proposal{Table: "t", DB: []string{"public", "t"}, Kind: "person", Subject: "id", Fields: []datamap.ProposedField{{Name: "note", DB: "note", Undecided: true}}}
	for _, proposals := range [][]datamap.Proposal{nil, {p}} {
		require.ErrorIs(t, datamap.Write(&bytes.Buffer{}, proposals), keystore.ErrInvalid)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestAFullDiskIsReported(t *testing.T) {
	p := datamap.Proposal{Table: "t", DB: []string{"public", "t"}, Kind: "person", Subject: "id", Fields: []datamap.ProposedField{{Name: "n", DB: "n"}}}
	require.ErrorContains(t, datamap.Write(full{}, []datamap.Proposal{p}), "disk full")
}

// TestWhateverNamesAreWrittenAreRead: names come from somebody's database.
func TestWhateverNamesAreWrittenAreRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.StringN(1, 20, 63), rapid.StringMatching(`[-. "'{}\[\],:#&*!|>%@~?\\=a-z0-9é]{1,12}`), rapid.SampledFrom([]string{"null", "yes", "~", "1", "true", "NO", "-", "? a", "<<", "=", "0x1", "1e3", "2020-01-01"})).
			Filter(func(s string) bool { return !strings.ContainsRune(s, 0) && s != "" })
		p := datamap.Proposal{
			Table: name.Draw(t, "table"), DB: []string{name.Draw(t, "schema"), name.Draw(t, "relation")}, Kind: "person", Subject: "the subject", Key: "the key",
			Why: []string{name.Draw(t, "why")},
		}
		p.Fields = []datamap.ProposedField{{Name: name.Draw(t, "field"), DB: name.Draw(t, "column"), Type: name.Draw(t, "type"), Replace: name.Draw(t, "replace"), Why: name.Draw(t, "why"), Blank: "year"}}
		var b bytes.Buffer
		if err := datamap.Write(&b, []datamap.Proposal{p}); err != nil {
			t.Fatal(err)
		}
		m, err := datamap.Parse("proposed", b.Bytes())
		if err != nil {
			t.Fatalf("%v\n%s", err, b.String())
		}
		got := m.Tables()[0]
		f := p.Fields[0]
		if got.Table != p.Table || got.DB[0] != p.DB[0] || got.DB[1] != p.DB[1] || got.SubjectColumn != p.Subject || got.Key != p.Key ||
			got.Fields[0].Name != f.Name || got.Columns[0].DB != f.DB || got.Columns[0].Type != f.Type || got.Fields[0].Replace != f.Replace || got.Fields[0].Blank != "year" {
			t.Fatalf("%+v\n%s", got, b.String())
		}
	})
}
