package rows

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
)

// What is accepted comes out byte for byte, has the cells that the standard library
// reads, and comes back after every personal cell was changed and changed back.
func FuzzCSV(f *testing.F) {
	for _, s := range []string{
		"id,name,note\n1,a,b\n", "id,name,note\r\n\"1\",\"a\r\nb\",\"\"\"\"\r\n", "\xef\xbb\xbfnote,x,name,id\n,\"\",\" \",1",
		"id,name,note\n1,\"a", "id,name,note\n\xff,,\n", "id,name,note\n1,a\rb,\n", "name\nid\nnote",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var cells [][]fieldcrypt.Cell
		out, err := through(CSV, text, people, Seal, func(c []fieldcrypt.Cell) { cells = append(cells, append([]fieldcrypt.Cell(nil), c...)) })
		if err != nil {
			return
		}
		require.Equal(t, strings.TrimSuffix(text, "\n"), strings.TrimSuffix(out, "\n"))

		if !strings.Contains(text, "\r") && !strings.Contains(text, "\n\n") { // where encoding/csv is faithful
			std, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(text, string(bom)))).ReadAll()
			require.NoError(t, err)
			require.Len(t, cells, len(std)-1)
			for i, name := range people.Names() {
				for j, h := range std[0] {
					for k := range cells {
						if h == name {
							require.Equal(t, std[k+1][j], cells[k][i].Text)
						}
					}
				}
			}
		}

		sealed, err := through(CSV, text, people, Seal, mark)
		require.NoError(t, err)
		k := 0
		_, err = through(CSV, sealed, people, Open, func(c []fieldcrypt.Cell) {
			unmark(c)
			require.Equal(t, cells[k], c)
			k++
		})
		require.NoError(t, err)
		require.Equal(t, len(cells), k)
	})
}

func FuzzNDJSON(f *testing.F) {
	for _, s := range []string{
		`{"id":1,"name":"a","note":null}`, "{ \"note\" : {\"x\":[1]} , \"id\":\"\\u0031\"}\r\n{}", `{"name":"\ud800"}`,
		`{"name":{"oubli_json":"x"}}`, `{"a":[],"b":{},"c":-1.5e9,"name":true}`, "\xef\xbb\xbf{}", `{"a":"\\\"","name":"\\"}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		out, err := through(NDJSON, text, people, Seal, leave)
		if err == nil {
			require.Equal(t, text, out)
			sealed, err := through(NDJSON, text, people, Seal, mark)
			require.NoError(t, err)
			back, err := through(NDJSON, sealed, people, Open, unmark)
			require.NoError(t, err)
			sameJSON(t, text, back)
		}
		through(NDJSON, text, people, Open, mark)
	})
}

func sameJSON(t *testing.T, a, b string) {
	t.Helper()
	x := bytes.Split(bytes.TrimPrefix([]byte(a), bom), []byte("\n"))
	y := bytes.Split(bytes.TrimPrefix([]byte(b), bom), []byte("\n"))
	require.Len(t, y, len(x))
	for i := range x {
		if len(x[i]) == 0 {
			continue
		}
		var p, q map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(x[i], &p))
		require.NoError(t, json.Unmarshal(y[i], &q))
		require.Len(t, q, len(p))
		for name := range p {
			var v, w any
			if json.Unmarshal(p[name], &v) == nil { // numbers out of range of a float: as text
				require.NoError(t, json.Unmarshal(q[name], &w))
				require.Equal(t, v, w, name)
			} else {
				require.Equal(t, p[name], q[name])
			}
		}
	}
}
