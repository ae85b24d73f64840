package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
)

// traveller is a row that a Go program and the command line both work on.
type traveller struct {
	ID      int64                      `oubli:",subject=customer" json:"id"`
	Trip    int64                      `oubli:",key" json:"trip"`
	Name    string                     `oubli:"name" json:"name"`
	Phone   *string                    `oubli:"phone,purpose=tax" json:"phone"`
	Seat    fieldcrypt.Private[string] `oubli:"seat" json:"seat"`
	Privacy fieldcrypt.Status          `json:"-"`
}

const travellersMap = `
tables:
  travellers:
    subject: customer=id
    key: trip
    personal: [name, {phone: {purpose: tax}}, seat]
`

// What a Go program seals, the command line opens, and the other way round: the names
// and values that are bound into a field are the same.
func TestGoAndTheCommandLineUnderstandEachOther(t *testing.T) {
	p := newPeople(t, 1, 0)
	file := func(name, text string) string {
		path := filepath.Join(p.dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	file("oubli.yaml", travellersMap)

	// From Go, as NDJSON.
	phone := "+49 1"
	keys := p.open(false)
	codec, err := fieldcrypt.NewCodec[traveller](keys, "travellers", nil)
	require.NoError(t, err)
	sealed, err := codec.SealAll(t.Context(),
		traveller{ID: 7, Trip: 1, Name: "Anna", Phone: &phone, Seat: fieldcrypt.NewPrivate("70174")},
		traveller{ID: 8, Trip: 2, Name: "Bob"})
	require.NoError(t, err)
	require.NoError(t, keys.Close())
	var lines strings.Builder
	for _, row := range sealed {
		require.NoError(t, json.NewEncoder(&lines).Encode(row))
	}
	require.NotContains(t, lines.String(), "Anna")
	file("travellers.ndjson", lines.String())
	out, err := p.command("open", "travellers", "travellers.ndjson").Output()
	require.NoError(t, err)
	require.Equal(t, `{"id":7,"trip":1,"name":"Anna","phone":"+49 1","seat":"70174"}
{"id":8,"trip":2,"name":"Bob","phone":null,"seat":null}
`, string(out))

	// To Go, from CSV.
	file("travellers.csv", "trip,id,name,phone,seat\n3,9,Cleo,,\n4,7,Anna,+49 2,\n")
	out, err = p.command("seal", "travellers", "travellers.csv").Output()
	require.NoError(t, err)
	rows := strings.Split(string(out), "\n")
	cleo, anna := strings.Split(rows[1], ","), strings.Split(rows[2], ",")
	keys = p.open(false)
	codec, err = fieldcrypt.NewCodec[traveller](keys, "travellers", nil)
	require.NoError(t, err)
	a := traveller{ID: 9, Trip: 3, Name: cleo[2]}
	b := traveller{ID: 7, Trip: 4, Name: anna[2], Phone: &anna[3]}
	require.NoError(t, codec.Open(t.Context(), &a, &b))
	require.NoError(t, keys.Close())
	require.Equal(t, "Cleo", a.Name)
	require.Equal(t, "Anna", b.Name)
	require.Equal(t, "+49 2", *b.Phone)
}
