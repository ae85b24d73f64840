package rows

import (
	"bytes"
	"encoding/json"
)

// field is a member of a JSON object: its name, and where its value stands.
type field struct {
	name  string
	value span
}

// scanObject finds the members of the object that text is. text must be valid JSON;
// ok is false where it is something else than an object.
func scanObject(text []byte) (fields []field, ok bool) {
	i := skipSpace(text, 0)
	if text[i] != '{' {
		return nil, false
	}
	for i = skipSpace(text, i+1); text[i] != '}'; {
		if text[i] == ',' {
			i = skipSpace(text, i+1)
		}
		end := skipValue(text, i)
		var f field
		name := text[i:end]
		if bytes.IndexByte(name, '\\') < 0 {
			f.name = string(name[1 : len(name)-1])
		} else if json.Unmarshal(name, &f.name) != nil {
			return nil, false
		}
		i = skipSpace(text, end) // the colon
		i = skipSpace(text, i+1) // the value
		end = skipValue(text, i)
		f.value = span{i, end}
		fields = append(fields, f)
		i = skipSpace(text, end)
	}
	return fields, true
}

func skipSpace(text []byte, i int) int {
	for text[i] == ' ' || text[i] == '\t' || text[i] == '\r' || text[i] == '\n' {
		i++
	}
	return i
}

// skipValue returns where the value that begins at i ends.
func skipValue(text []byte, i int) int {
	depth := 0
	for ; i < len(text); i++ {
		switch text[i] {
		case '"':
			for i++; text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			if depth == 0 {
				return i // of what is around: a number or a word ended here
			}
			depth--
		case ',', ':', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
			continue
		default:
			if depth > 0 {
				continue
			}
			if i+1 < len(text) && bytes.IndexByte([]byte(",:]} \t\r\n"), text[i+1]) < 0 {
				continue
			}
		}
		if depth == 0 {
			return i + 1
		}
	}
	return i
}
