package pgadopt

import "fmt"

// Level says what a finding means for an adoption.
type Level string

const (
	Blocks   Level = "blocks"   // the table cannot be adopted as it stands
	Changes  Level = "changes"  // what the adoption changes, and undo brings back
	Note     Level = "note"     // what somebody should know
	Unmapped Level = "unmapped" // looks personal, and is not in the map
)

// Finding is one thing that a plan found out. It holds names of objects and numbers of
// rows, never a value.
type Finding struct {
	Level  Level  `json:"level"`
	Table  string `json:"table,omitempty"`  // logical name; empty: the database as a whole
	Column string `json:"column,omitempty"` // as the database calls it; empty: the table as a whole
	Object string `json:"object,omitempty"` // index, view, trigger and the like
	What   string `json:"what"`
	Do     string `json:"do"` // what to do next
}

// String is one line for messages.
func (f Finding) String() string {
	return fmt.Sprintf("%s: %s; %s", f.subject(), f.What, f.Do)
}

// subject names what the finding is about.
func (f Finding) subject() string {
	name := f.Table
	if f.Column != "" {
		name += "." + f.Column
	}
	switch {
	case f.Object == "":
	case name == "":
		name = f.Object
	default:
		name += ", " + f.Object
	}
	if name == "" {
		return "the database"
	}
	return name
}

// findings collects what is found about one table, or about the database.
type findings struct {
	table string
	all   []Finding
}

func (f *findings) add(l Level, column, object, what, do string) {
	n := Finding{Level: l, Table: f.table, Column: column, Object: object, What: what, Do: do}
	for _, other := range f.all { // partitions have the same to say
		if other == n {
			return
		}
	}
	f.all = append(f.all, n)
}
