package pgadopt

import "encoding/json"

// Saved is what adoption changed in a table's definition, as it was before.
type Saved struct {
	Columns []SavedColumn `json:"columns"`
	// Objects that stay away until the adoption is undone, in the order in which they are
	// made again: checks, indexes and unique constraints, statistics.
	Objects []SavedObject `json:"objects,omitempty"`
	Views   []SavedView   `json:"views,omitempty"` // in the order in which they are made
}

// SavedColumn is a personal column.
type SavedColumn struct {
	Name      string `json:"name"`
	Type      string `json:"type"`
	Widened   string `json:"widened"` // what it is meanwhile: text or bytea
	Collation string `json:"collation,omitempty"`
	Default   string `json:"default,omitempty"`
}

// SavedObject is an object that was dropped.
type SavedObject struct {
	Name string   `json:"name"` // quoted, for messages
	Make []string `json:"make"` // SQL
}

// SavedView is a view that is made anew whenever a column under it changes its type.
type SavedView struct {
	Name string   `json:"name"` // schema and name, quoted
	Make []string `json:"make"` // SQL of the original
	Made string   `json:"made"` // how PostgreSQL printed its query after it was made the last time
}

func (s Saved) json() string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings alone
	}
	return string(b)
}
