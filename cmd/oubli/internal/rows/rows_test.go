package rows

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
)

var people = Columns{IDs: []string{"id"}, Personal: []string{"name", "note"}}

// through reads text, has change change each row's cells, and returns what comes out.
func through(f Format, text string, c Columns, d Direction, change func([]fieldcrypt.Cell)) (string, error) {
	r, err := New(f, strings.NewReader(text), "f", c, d)
	if err != nil {
		return "", err
	}
	out := bytes.Clone(r.Head())
	for {
		row, err := r.Read()
		if err == io.EOF {
			return string(out), nil
		}
		if err != nil {
			return string(out), err
		}
		change(row.Cells)
		if out, err = r.Append(out, row); err != nil {
			return string(out), err
		}
	}
}

func leave([]fieldcrypt.Cell) {}

// mark stands in for sealing: it changes every personal cell that is not NULL.
func mark(cells []fieldcrypt.Cell) {
	for i := 1; i < len(cells); i++ {
		if !cells[i].Null {
			cells[i].Text = "~" + cells[i].Text
		}
	}
}

func unmark(cells []fieldcrypt.Cell) {
	for i := 1; i < len(cells); i++ {
		cells[i].Text = strings.TrimPrefix(cells[i].Text, "~")
	}
}

func TestCSVComesOutAsItWentIn(t *testing.T) {
	for name, text := range map[string]string{
		"plain":                "id,name,note\n1,Anna,x\n",
		"crlf":                 "id,name,note\r\n1,Anna,x\r\n",
		"crlf inside quotes":   "id,name,note\n1,\"An\r\nna\",\"a\nb\"\n",
		"byte order mark":      "\xef\xbb\xbfid,name,note\n1,Anna,x\n",
		"needless quotes":      "\"id\",\"name\",note\n\"1\",\"Anna\",\"\"\n",
		"quotes in quotes":     "id,name,note\n1,\"\"\"An\"\"na\",\"\"\"\"\n",
		"no line end":          "id,name,note\n1,Anna,",
		"mixed line ends":      "id,name,note\r\n1,Anna,x\n2,Bob,y\r\n",
		"other columns, order": "note,x,name,id,y\nn,\" ,\",Anna,1, z \n",
		"header only":          "id,name,note\n",
		"spaces":               "id,name,note\n1, Anna ,\tx\n",
		"unicode":              "id,name,note\n1,François,\"日本,語\"\n",
	} {
		t.Run(name, func(t *testing.T) {
			out, err := through(CSV, text, people, Seal, leave)
			require.NoError(t, err)
			require.Equal(t, text, out)
		})
	}
}

func TestCSVCellsComeBack(t *testing.T) {
	text := "\xef\xbb\xbfname,other,id,note\r\n\"a\r\nb\",\"q\",1,\r\n\"say \"\"x\"\"\", o ,2,\" lead\"\r\n,,3,\\.\r\n"
	sealed, err := through(CSV, text, people, Seal, mark)
	require.NoError(t, err)
	require.Equal(t, "\xef\xbb\xbfname,other,id,note\r\n\"~a\r\nb\",\"q\",1,\r\n\"~say \"\"x\"\"\", o ,2,~ lead\r\n,,3,~\\.\r\n", sealed)
	back, err := through(CSV, sealed, people, Open, unmark)
	require.NoError(t, err)
	require.Equal(t, strings.Replace(text, `\.`, `"\."`, 1), back)
}

func TestCSVEmptyIsNull(t *testing.T) {
	out, err := through(CSV, "id,name,note\n1,,\"\"\n", people, Seal, func(cells []fieldcrypt.Cell) {
		require.True(t, cells[1].Null)
		require.True(t, cells[2].Null)
		cells[1] = fieldcrypt.Cell{Text: ""} // sealed by Go as an empty string: present
	})
	require.NoError(t, err)
	require.Equal(t, "id,name,note\n1,\"\",\"\"\n", out)
}

func TestCSVRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"empty":            {"", "f: the file is empty"},
		"utf-16":           {"\xff\xfei\x00", "f:1: this is UTF-16"},
		"missing columns":  {"id,nam\n", "f:1: column \"name\": the header has no such column, the data map names it\nf:1: column \"note\": the header"},
		"semicolons":       {"id;name;note\n", "separated by commas"},
		"twice":            {"id,name,note,name\n", `f:1: column "name": the header has this name twice, as column 2 and 4`},
		"ragged, short":    {"id,name,note\n1,a,b\n2,a\n", "f:3: 2 cells, the header has 3"},
		"ragged, long":     {"id,name,note\n1,a,b,c\n", "f:2: 4 cells, the header has 3"},
		"blank line":       {"id,name,note\n\n", "f:2: the line is blank"},
		"not UTF-8":        {"id,name,note\n\"\n\",a,b\n1,\xff,b\n", `f:4: column "name": not valid UTF-8`},
		"header not UTF-8": {"id,name,\xff\n", "f:1: the header is not valid UTF-8"},
		"open quote":       {"id,name,note\n1,\"a,b\n\n", "f:4: column 2: a quote is never closed (the row begins in line 2)"},
		"bare quote":       {"id,name,note\n1,a\"b,c\n", "f:2: column 2: a quote stands inside a cell"},
		"text after quote": {"id,name,note\n1,\"a\"b,c\n", "f:2: column 2: text follows a closing quote"},
		"carriage return":  {"id,name,note\n1,a\rb,c\n", "f:2: column 2: a carriage return stands outside quotes"},
		"final carriage":   {"id,name,note\n1,a,c\r", "f:2: column 3: a carriage return stands outside quotes"},
		"a row too long":   {"id,name,note\n1,a," + strings.Repeat("x", MaxRow), "f:2: column 3: the row that begins in line 2 has more than 16 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := through(CSV, c.text, people, Seal, leave)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestCSVGoesOnAfterABadRow(t *testing.T) {
	r, err := New(CSV, strings.NewReader("id,name,note\n1,a\n2,\xff,b\n3,c,d\n"), "f", people, Open)
	require.NoError(t, err)
	var bad *RowError
	for range 2 {
		_, err = r.Read()
		require.ErrorAs(t, err, &bad)
	}
	row, err := r.Read()
	require.NoError(t, err)
	require.Equal(t, 4, row.Line)
	require.Equal(t, "3", row.Cells[0].Text)
}

func TestNDJSONComesOutAsItWentIn(t *testing.T) {
	for name, text := range map[string]string{
		"plain":          `{"id":1,"name":"Anna","note":null}` + "\n",
		"spaces":         " {  \"note\" :\t\"x\" ,\"id\":\"1\" , \"name\" : \"A\" } \r\n",
		"unknown fields": `{"z":1e400,"id":1,"a":{"id":[1,{"name":2}]},"b":[],"c":true,"name":"é\u00e9<>","d":-0.10}`,
		"no line end":    `{"id":1}`,
		"mark":           "\xef\xbb\xbf{\"id\":1}\n",
		"empty object":   "{}\n{ }\n",
		"escaped names":  `{"i\u0064":1,"na\"me":2}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			out, err := through(NDJSON, text, people, Seal, leave)
			require.NoError(t, err)
			require.Equal(t, text, out)
		})
	}
}

func TestNDJSONValuesComeBack(t *testing.T) {
	text := `{"note":{"a":[1,"x"]},"other":1.0,"id":7,"name":"Ann<a"}
{"id":"b","name":42,"note":true}
{"id":"c","name":null}
{"id":"d","name":"\"{}","note":[null]}
`
	sealed, err := through(NDJSON, text, people, Seal, mark)
	require.NoError(t, err)
	require.Equal(t, `{"note":{"oubli_json":"~{\"a\":[1,\"x\"]}"},"other":1.0,"id":7,"name":"~Ann<a"}
{"id":"b","name":{"oubli_json":"~42"},"note":{"oubli_json":"~true"}}
{"id":"c","name":null}
{"id":"d","name":"~\"{}","note":{"oubli_json":"~[null]"}}
`, sealed)
	back, err := through(NDJSON, sealed, people, Open, unmark)
	require.NoError(t, err)
	require.Equal(t, text, back)
}

func TestNDJSONOpens(t *testing.T) {
	// as Go's Private writes it; a replacement in the place of a number; erased
	out, err := through(NDJSON, `{"id":1,"name":{"oubli":"~70174"},"note":{"oubli_json":"~1"}}`, people, Open, func(c []fieldcrypt.Cell) {
		unmark(c)
		c[2].Text = "gone"
	})
	require.NoError(t, err)
	require.Equal(t, `{"id":1,"name":"70174","note":"gone"}`, out)

	out, err = through(NDJSON, `{"id":1,"name":"~x"}`, people, Open, func(c []fieldcrypt.Cell) { c[1] = fieldcrypt.Cell{Null: true} })
	require.NoError(t, err)
	require.Equal(t, `{"id":1,"name":null}`, out)
}

func TestNDJSONRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		text, want string
		d          Direction
	}{
		"not JSON":         {"{\"id\":1}\n{\"id\":}\n", "f:2: not valid JSON", Seal},
		"two on a line":    {`{"id":1} {"id":2}`, "f:1: not valid JSON", Seal},
		"not an object":    {`[1]`, "f:1: not a JSON object", Seal},
		"blank":            {"{\"id\":1}\n \n", "f:2: the line is blank", Seal},
		"not UTF-8":        {"{\"x\":\"\xff\"}", "f:1: not valid UTF-8", Seal},
		"twice":            {`{"x":1,"\u0078":2}`, `f:1: column "x": the object has this field twice`, Seal},
		"half a pair":      {`{"name":"\ud800"}`, `f:1: column "name": the string has half a surrogate pair`, Seal},
		"id is a fraction": {`{"id":1.0}`, `f:1: column "id": an id must be a string or an integer`, Seal},
		"id is true":       {`{"id":true}`, `f:1: column "id": an id must be`, Seal},
		"sealed already":   {`{"id":1,"name":{"oubli_json":"x"}}`, `f:1: column "name": the value is sealed already`, Seal},
		"Private, already": {`{"id":1,"name":{"oubli":"x"}}`, `f:1: column "name": the value is sealed already`, Seal},
		"open a number":    {`{"id":1,"name":2}`, `f:1: column "name": the value is not sealed`, Open},
		"open an object":   {`{"id":1,"name":{"oubli":"x","y":1}}`, `f:1: column "name": the value is not sealed`, Open},
		"a line too long":  {`{"id":"` + strings.Repeat("x", MaxRow) + `"}`, "f:1: the line has more than 16 MiB", Seal},
		"utf-16":           {"\xfe\xff\x00{", "f:1: this is UTF-16", Seal},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := through(NDJSON, c.text, people, c.d, leave)
			require.ErrorContains(t, err, c.want)
		})
	}
	_, err := through(NDJSON, `{"id":1,"name":"x"}`, people, Open, func(c []fieldcrypt.Cell) { c[1].Text = "\xff" })
	require.ErrorContains(t, err, "not valid UTF-8, which JSON cannot hold")
}
