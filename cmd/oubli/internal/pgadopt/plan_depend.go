package pgadopt

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// dependencyFindings are about what is made of the personal columns.
func (p *planner) dependencyFindings(s *subject) {
	for _, c := range of(p.catalog.Constraints, s.OID, func(c constraint) uint32 { return c.Root }) {
		s.constraintFinding(c)
	}
	for _, i := range s.indexes {
		s.indexFinding(i)
	}
	for _, v := range of(p.catalog.Views, s.OID, func(v view) uint32 { return v.Root }) {
		s.viewFinding(v)
	}
	for _, t := range s.triggers {
		s.triggerFinding(t)
	}
	for _, d := range of(p.catalog.Others, s.OID, func(d dependent) uint32 { return d.Root }) {
		s.otherFinding(d)
	}
}

func (s *subject) constraintFinding(c constraint) {
	object, columns := "constraint "+c.Name, list(c.Columns)
	switch c.Kind {
	case "p":
		s.add(Blocks, columns, object, "is part of the primary key, and envelopes of equal values differ", "give the table a surrogate key, and make this column an ordinary one")
	case "x":
		s.add(Blocks, columns, object, "an exclusion constraint compares its values, which envelopes do not allow", "ALTER TABLE "+c.Rel+" DROP CONSTRAINT "+c.Name)
	case "f":
		what := "refers to " + c.Other
		if c.Refers {
			what = "is what " + c.Other + " refers to"
		}
		s.add(Blocks, columns, object, what+", and envelopes of equal values differ", "let the foreign key refer to a surrogate key, and drop this one: ALTER TABLE … DROP CONSTRAINT "+c.Name)
	case "c":
		if s.phase == PhaseNone {
			s.add(Changes, columns, object, "the check is dropped while the table is adopted, for it would look at envelopes", "let the program check; undo brings it back")
		}
	}
}

func (s *subject) indexFinding(i index) {
	if i.Primary || i.Exclusion {
		return // the constraint has said it
	}
	object, columns := "index "+i.Name, list(i.Columns)
	switch {
	case i.Replica && s.dropped(i):
		s.add(Blocks, columns, object, "is the replica identity, and is dropped while the column has another type: published updates would fail", "take an index over other columns: ALTER TABLE … REPLICA IDENTITY USING INDEX …")
	case i.Replica:
		s.add(Note, columns, object, "is the replica identity: subscribers find rows by it", "take an index over other columns: ALTER TABLE … REPLICA IDENTITY USING INDEX …")
	}
	switch {
	case s.phase == PhaseNone && s.dropped(i):
		s.add(Changes, columns, object, "is dropped while the table is adopted, for the column changes its type", "look up by other columns; undo brings it back")
	case i.Unique:
		s.add(Note, columns, object, "catches no duplicates any more, and ON CONFLICT finds none: two envelopes of one value differ", "let the program look for duplicates, by a keyed digest in a column of its own if need be; let replace: hold {id}, or undo cannot put two erased people back")
	default:
		s.add(Note, columns, object, "finds nothing any more: two envelopes of one value differ", "drop it after enforce if nothing else uses it; it costs room and writing")
	}
}

// dropped tells whether widening drops the index: one on a column that becomes text.
func (s *subject) dropped(i index) bool {
	return slices.ContainsFunc(i.Columns, func(name string) bool {
		f := s.field(name)
		return f != nil && retyped(f)
	})
}

func (s *subject) viewFinding(v view) {
	object := "view " + v.Name
	via := ""
	if v.Column == "" {
		via = ", through other views,"
	}
	switch {
	case v.Kind == "m":
		s.add(Blocks, v.Column, "materialized "+object, "keeps copies of the values"+strings.TrimSuffix(via, ","), "drop it, and make it again without the column")
	case v.Extension != "":
		s.add(Blocks, v.Column, object, "reads the column"+via+" and belongs to the extension "+v.Extension, "drop the extension, or the column from the map")
	case len(v.Extras) > 0:
		s.add(Blocks, v.Column, object, "has to be made anew, and this depends on it: "+list(v.Extras), "drop that before adopt run, and make it again afterwards")
	case !v.Owned:
		s.add(Blocks, v.Column, object, "has to be made anew, and belongs to somebody else", "run as its owner, or grant that role to the user of --db")
	case !v.Creatable:
		s.add(Blocks, v.Column, object, "has to be made anew, and this user may not create in its schema", "GRANT CREATE ON SCHEMA … TO the user of --db")
	case s.phase == PhaseNone:
		s.add(Changes, v.Column, object, "reads the column"+via+" and is made anew whenever its type changes, in the same transaction; it shows envelopes from then on", "look for what reads it")
	}
}

func (s *subject) triggerFinding(t trigger) {
	object := "trigger " + t.Name
	accepted := slices.Contains(s.Map.Triggers, t.Name)
	uses := "its function " + t.Function
	if named := s.named(t.Source); len(named) > 0 {
		uses += ", which names " + list(named)
	}
	switch {
	case len(t.Columns) > 0:
		s.add(Blocks, list(t.Columns), object, "stands on the column (UPDATE OF or WHEN), whose type cannot change as long as it does",
			"make it again without naming the column: DROP TRIGGER …; CREATE TRIGGER … ON "+t.Rel+" …, its function can compare old and new")
	case t.Truncate:
	case t.Enabled == "D" || t.Enabled == "R":
		s.add(Note, "", object, "is switched off on "+t.Rel, "leave it so, or look at "+uses)
	case accepted && t.Update:
		s.add(Note, "", object, "is accepted by the map: it fires for each row that is sealed, and sees OLD in the clear; "+uses, "nothing more, if it keeps no copy of these columns")
	case accepted:
		s.add(Note, "", object, "is accepted by the map; "+uses, "nothing more, if it keeps no copy of these columns")
	case t.Update:
		s.add(Blocks, "", object, "would fire for each row that is sealed, sees OLD in the clear, and may copy or change values; "+uses,
			"see that it keeps no copy of these columns, then accept it in the map with triggers: ["+t.Name+"]; or ALTER TABLE "+t.Rel+" DISABLE TRIGGER "+t.Name)
	default:
		s.add(Blocks, "", object, "sees the rows, and may copy values; "+uses,
			"see that it keeps no copy of these columns, then accept it in the map with triggers: ["+t.Name+"]; or ALTER TABLE "+t.Rel+" DISABLE TRIGGER "+t.Name)
	}
}

// named are the personal columns that a function's text names as words.
func (s *subject) named(source string) (columns []string) {
	for _, f := range s.Fields {
		if names(source, f.Name) {
			columns = append(columns, f.Name)
		}
	}
	return columns
}

// names tells whether a text holds a name as a whole word.
func names(source, name string) bool {
	re, err := regexp.Compile(`(?i)(^|[^\pL\pN_])` + regexp.QuoteMeta(name) + `($|[^\pL\pN_])`)
	return err == nil && re.MatchString(source)
}

func (s *subject) otherFinding(d dependent) {
	switch d.Class {
	case "partition key":
		s.add(Blocks, d.Column, "", "the table is partitioned by it, and an envelope says nothing about its value", "partition by another column")
	case "generated column":
		s.add(Blocks, d.Column, "generated column "+d.Name, "is made of the column, and would be made of its envelope", "ALTER TABLE "+s.Quoted+" ALTER COLUMN "+d.Name+" DROP EXPRESSION, map it too, and let the program fill it")
	case "pg_rewrite":
		s.add(Blocks, d.Column, "rule "+d.Name, "uses the column, whose type cannot change as long as it does", "make a trigger of it, and: DROP RULE "+d.Name)
	case "pg_policy":
		s.add(Blocks, d.Column, d.Name, "decides by the column who sees a row, which envelopes do not allow", "let it decide by another column, and: DROP POLICY")
	case "pg_proc":
		s.add(Blocks, d.Column, d.Name, "has an SQL body that uses the column, whose type cannot change as long as it does", "make it again with its body as a string (AS $$…$$)")
	case "pg_publication_rel":
		s.add(Blocks, d.Column, d.Name, "names the column in its list or its WHERE, so that its type cannot change", "ALTER PUBLICATION … SET TABLE "+s.Quoted+" without it")
	case "pg_statistic_ext":
		if f := s.field(d.Column); s.phase == PhaseNone && f != nil && retyped(f) {
			s.add(Changes, d.Column, d.Name, "is dropped while the table is adopted, for the column changes its type", "nothing; undo brings it back")
		} else if s.phase != PhaseEnforced {
			s.add(Note, d.Column, d.Name, "keeps samples of the values, until enforce", "nothing; it says nothing about envelopes, so drop it if it is of no other use")
		}
	default:
		s.add(Blocks, d.Column, d.Name, fmt.Sprintf("depends on the column in a way that oubli does not know (%s)", d.Class), "drop it before adopt run")
	}
}
