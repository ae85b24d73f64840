package pgadopt

import "encoding/json"

// Saved is what adoption changed in a table's definition, as it was before.
type Saved struct {
	Columns  []SavedColumn  `json:"columns"`
	Defaults []SavedDefault `json:"defaults,omitempty"`
	// Objects that stay away until the adoption is undone, in the order in which they are
	// made again: checks, indexes and unique constraints, statistics.
	Objects []SavedObject `json:"objects,omitempty"`
	Views   []SavedView   `json:"views,omitempty"`   // in the order in which they are made
	Binding *Binding      `json:"binding,omitempty"` // nil: no run has begun
}

// SavedColumn is a personal column.
type SavedColumn struct {
	Name      string `json:"name"`
	Type      string `json:"type"`
	Collate   string `json:"collate,omitempty"`   // clause that the type needs
	Widened   string `json:"widened"`             // the type meanwhile: text or bytea
	Collation string `json:"collation,omitempty"` // clause that it needs meanwhile
	Retyped   bool   `json:"retyped,omitempty"`   // was not a kind of text before
}

// SavedDefault is the default of a personal column, in the table or a partition.
type SavedDefault struct {
	On     string `json:"on"` // schema and name, quoted
	Column string `json:"column"`
	Expr   string `json:"expr"` // SQL of the original; empty: it had none
	Made   string `json:"made"` // how PostgreSQL prints what stands there now; empty: none
}

// SavedObject is an object that was dropped.
type SavedObject struct {
	On   string   `json:"on"`   // table or partition
	Name string   `json:"name"` // quoted, for messages
	Make []string `json:"make"` // SQL
}

// SavedView is a view that is made anew whenever a column under it changes its type.
type SavedView struct {
	Name  string `json:"name"`  // schema and name, quoted
	Query string `json:"query"` // of the original
	Made  string `json:"made"`  // how PostgreSQL printed it after the view was made the last time
}

func (s Saved) json() string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings alone
	}
	return string(b)
}
