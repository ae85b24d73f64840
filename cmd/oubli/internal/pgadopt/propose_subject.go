package pgadopt

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// subject finds the column that says whose a row is.
func (t *found) subject(tables []*found) (kind, column string, why []string) {
	if t.person != "" && len(t.Key) == 1 {
		return t.person, t.Key[0], []string{"Each row is a person, by the table's name."}
	}
	type candidate struct {
		kind, column, why string
		rank              int
	}
	var candidates []candidate
	for _, r := range t.Refers {
		for _, other := range tables {
			if other.OID == r.Referred && other.person != "" && slices.Equal(other.Key, []string{r.To}) && other.OID != t.OID {
				rank := other.rank
				if !r.NotNull {
					rank += len(people)
				}
				candidates = append(candidates, candidate{other.person, r.Column, fmt.Sprintf("Its rows belong to rows of %s, by a foreign key.", other.Name), rank})
			}
		}
	}
	if candidates == nil {
		for _, c := range t.Columns {
			name := words(c.Name)
			if last := len(name) - 1; last > 0 && slices.Contains([]string{"id", "uuid", "key", "no", "nr"}, name[last]) {
				name = name[:last]
			}
			for _, other := range tables {
				if other.person != "" && len(other.Key) == 1 && strings.Join(name, "_") == other.person && other.keyType() == c.Type && other.OID != t.OID {
					candidates = append(candidates, candidate{other.person, c.Name, fmt.Sprintf("Its rows seem to belong to rows of %s, by the name of the column: look whether they do.", other.Name), other.rank})
				}
			}
		}
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int { return cmp.Compare(a.rank, b.rank) })
	if candidates != nil {
		first := candidates[0]
		why = []string{first.why}
		for _, c := range candidates[1:] {
			why = append(why, fmt.Sprintf("Or are they about %s=%s?", c.kind, c.column))
		}
		return first.kind, first.column, why
	}
	if len(t.Key) == 1 && t.like() {
		kind := "person"
		if name := words(t.Name); name != nil {
			last := len(name) - 1
			name[last] = singular(name[last])
			kind = strings.Join(name, "_")
		}
		return kind, t.Key[0], []string{"Each row seems to be a person, by its columns: look whether it is, or belongs to one."}
	}
	return "", "", []string{"No column says whose a row is: name it, or leave the table out."}
}

// keyType is the type of a key of one column.
func (t *found) keyType() string {
	for _, c := range t.Columns {
		if c.Name == t.Key[0] {
			return c.Type
		}
	}
	return ""
}

// like tells whether the rows look like people: they have names or addresses of e-mail.
func (t *found) like() bool {
	return slices.ContainsFunc(t.Columns, func(c foundColumn) bool {
		return c.guess != nil && !c.Fixed && (c.guess.name == "names of people" || c.guess.name == "e-mail addresses")
	})
}
