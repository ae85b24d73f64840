package pgadopt

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
)

// relationFindings are about the table as a whole, its partitions and its children.
func (p *planner) relationFindings(s *subject) {
	root := s.root()
	switch root.Kind {
	case "r", "p":
	case "v", "m":
		s.add(Blocks, "", "", "is a view, which holds no rows of its own", "name the table behind it in db:")
		return
	default:
		s.add(Blocks, "", "", "is not a table of this database (a foreign table, or no table at all)", "adopt the table in the database that it stands in")
		return
	}
	switch root.Schema {
	case "pg_catalog", "information_schema", "oubli_adopt", "oubli":
		s.add(Blocks, "", "", "stands in the schema "+root.Schema+", which is PostgreSQL's or oubli's own", "take it out of the map")
	}
	if len(s.Key) == 0 {
		s.add(Blocks, "", "", "has no primary key, nor a unique index over columns that are NOT NULL, so that no row can be told from another",
			"add one, as: ALTER TABLE "+s.Quoted+" ADD COLUMN row_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY")
	}
	if len(root.Parents) > 0 && !root.Partition {
		s.add(Blocks, "", "", "inherits from "+list(root.Parents)+", whose columns it follows", "end it with ALTER TABLE "+s.Quoted+" NO INHERIT …")
	}
	if root.Partition {
		s.add(Blocks, "", "", "is a partition, whose columns follow those of its parent", "name the partitioned table in db: instead")
	}
	if root.Typed {
		s.add(Blocks, "", "", "is a typed table, whose columns cannot change their type", "ALTER TABLE "+s.Quoted+" NOT OF")
	}
	if root.Persistence == "t" {
		s.add(Blocks, "", "", "is a temporary table, which ends with its session", "take it out of the map")
	}
	if root.Kind == "p" {
		s.add(Note, "", "", "is partitioned: a partition that is attached later must have the columns' types of then", "make partitions with CREATE TABLE … PARTITION OF, which gives them the right ones")
	}
	if root.Persistence == "u" {
		s.add(Note, "", "", "is unlogged: it is empty after a crash, before and after the adoption", "nothing, if that is meant")
	}
	if root.Extension != "" {
		s.add(Note, "", "extension "+root.Extension, "the table belongs to an extension: pg_dump does not dump its definition, nor what the adoption changed in it", "adopt it anew after restoring a dump")
	}
	for i, r := range s.relations {
		s.partFindings(r, i == 0)
	}
	p.privilegeFindings(s)
}

// partFindings are about the table (first) or one of its partitions and children.
func (s *subject) partFindings(r relation, first bool) {
	name, object := r.quoted(), ""
	if !first {
		object = "partition " + name
		if !r.Partition {
			s.add(Blocks, "", "child "+name, "inherits from the table: its rows are not under the table's key", "end it with ALTER TABLE "+name+" NO INHERIT "+s.Quoted+", and map it by itself")
		}
		if r.Kind == "f" {
			s.add(Blocks, "", object, "is a foreign table, which cannot be altered from here", "detach it, and adopt it where it stands")
		}
	}
	if len(r.RowType) > 0 {
		s.add(Blocks, "", object, "its row type is the type of "+list(r.RowType)+", so that its columns cannot change theirs", "give that column a type of its own first")
	}
	if len(r.UpdateRules) > 0 {
		s.add(Blocks, "", "rule "+list(r.UpdateRules), "rewrites what is inserted or updated in "+name, "make a trigger of it, or: DROP RULE … ON "+name)
	}
	switch {
	case r.Subscribed:
		s.add(Blocks, "", object, "is written by logical replication: what arrives is plaintext, and enforcing would stop the subscription", "adopt it at the publisher, or take it out of the subscription")
	case len(r.Publishes) > 0 && r.Identity == "n":
		s.add(Blocks, "", object, "is published ("+list(r.Publishes)+") without a replica identity, so that no row can be updated", "ALTER TABLE "+name+" REPLICA IDENTITY USING INDEX …")
	case len(r.Publishes) > 0:
		s.add(Note, "", "publication "+list(r.Publishes), "subscribers get envelopes in the place of values, and need columns of type text", "widen the columns there first: ALTER TABLE … ALTER COLUMN … TYPE text")
	}
	if r.Identity == "f" {
		s.add(Note, "", object, "has REPLICA IDENTITY FULL: every row that is sealed writes its plaintext to the WAL once more, if wal_level is logical", "ALTER TABLE "+name+" REPLICA IDENTITY DEFAULT, if no subscriber needs it")
	}
	if r.NoVacuum {
		s.add(Note, "", object, "autovacuum is switched off for "+name+", and sealing makes a dead row of each", "ALTER TABLE "+name+" RESET (autovacuum_enabled), at least until enforce")
	}
	if r.Hides {
		s.add(Blocks, "", object, "row-level security hides rows of "+name+" from this user, which would stay plaintext", "run as the owner without FORCE ROW LEVEL SECURITY, or as a role with BYPASSRLS")
	}
}

// privilegeFindings: altering a table is its owner's right.
func (p *planner) privilegeFindings(s *subject) {
	for _, r := range s.relations {
		name := r.quoted()
		if !r.Owned {
			s.add(Blocks, "", "", fmt.Sprintf("%s belongs to %s, and only its owner can alter it", name, r.Owner), "run as "+r.Owner+", or: GRANT "+r.Owner+" TO the user of --db")
		}
		if r.Kind != "f" && (!r.Readable || !r.Writable) {
			s.add(Blocks, "", "", "this user may not SELECT and UPDATE "+name, "GRANT SELECT, UPDATE ON "+name+" TO the user of --db")
		}
	}
}

// columnFindings are about the columns themselves.
func (p *planner) columnFindings(s *subject) (plans []ColumnPlan) {
	for i := range s.Fields {
		f := &s.Fields[i]
		cp := s.columnPlan(p.records[s.Map.Table], f)
		plans = append(plans, cp)
		for _, c := range s.columns {
			if c.Name == f.Name {
				s.columnFinding(f, c)
			}
		}
		if s.phase == PhaseNone {
			s.typeFindings(f, cp)
		}
	}
	s.subjectFindings()
	return plans
}

const erased = "Erased"

// replacement is a text that a column of a type, as SQL writes it, takes back for undo.
func replacement(typ string) string {
	base, _, _ := strings.Cut(typ, "(")
	switch {
	case base == "json" || base == "jsonb":
		return "{}"
	case base == "integer" || base == "bigint" || base == "smallint" || base == "numeric" || base == "real" || base == "double precision":
		return "0"
	case base == "date":
		return "1900-01-01"
	case strings.HasPrefix(base, "timestamp"):
		return "1900-01-01T00:00:00Z"
	}
	return erased
}

func (s *subject) columnPlan(r *Record, f *pgmap.Field) ColumnPlan {
	cp := ColumnPlan{Name: f.Logical, Column: f.Name, From: f.Type, To: "text", NotNull: f.NotNull}
	if f.Binary {
		cp.To = "bytea"
	}
	if r != nil {
		for _, c := range r.Saved.Columns {
			if c.Name == f.Name {
				cp.From = c.Type
			}
		}
		return cp
	}
	cp.Rewrite = retyped(f) || f.Base == "character"
	return cp
}

// columnFinding is about the column in the table or in one of its partitions.
func (s *subject) columnFinding(f *pgmap.Field, c column) {
	switch {
	case c.Generated != "":
		s.add(Blocks, f.Name, "", "is a generated column, which nobody can write", "map the columns that it is made of, and drop it: ALTER TABLE "+s.Quoted+" DROP COLUMN "+f.Quoted)
	case c.Identity != "":
		s.add(Blocks, f.Name, "", "is an identity column, which must stay a number", "take it out of the map, or: ALTER TABLE "+s.Quoted+" ALTER COLUMN "+f.Quoted+" DROP IDENTITY")
	}
	if c.NotNull && s.blankIsNull(f) {
		s.add(Blocks, f.Name, "", "is NOT NULL, and the map lets an erasure leave NULL", "give it a replacement in the map that "+f.Type+" takes, as: "+f.Logical+": {replace: "+strconv.Quote(replacement(f.Type))+"}")
	}
	what := ""
	switch {
	case c.Category == "A":
		what = "an array"
	case c.TypeKind == "c":
		what = "a composite type"
	case c.TypeKind == "r" || c.TypeKind == "m":
		what = "a range"
	case strings.HasPrefix(f.Base, "reg") || f.Base == "oid":
		what = "a reference to something else, which sealing would not cover"
	case f.Base == "money":
		what = "money, whose text depends on the locale"
	}
	if what != "" {
		s.add(Blocks, f.Name, "", "is of the type "+f.Type+": "+what, "move its values into columns or a table of text, jsonb or numeric, and map these")
	}
	if c.Storage == "p" && !retyped(f) {
		s.add(Note, f.Name, "", "has the storage PLAIN: an envelope too long for a page is refused", "ALTER TABLE "+s.Quoted+" ALTER COLUMN "+f.Quoted+" SET STORAGE EXTENDED")
	}
	if !c.Deterministic {
		s.add(Note, f.Name, "collation "+c.Collation, "takes different spellings for equal, which envelopes never are", "look for queries that rely on it")
	}
	if c.Default {
		what := "the default is dropped by enforce, which would refuse it"
		if s.phase == PhaseNone && retyped(f) {
			what = "the default is dropped while the table is adopted, for the column changes its type"
		}
		if f.NotNull {
			what += "; an INSERT that leaves the column out fails then, for it is NOT NULL"
		}
		s.add(Changes, f.Name, "default", what, "let the program give the value; undo brings the default back")
	}
}

// typeFindings say what a column becomes, before anything has changed.
func (s *subject) typeFindings(f *pgmap.Field, cp ColumnPlan) {
	if f.Domain {
		s.add(Changes, f.Name, "", "is of the domain "+f.Type+", whose checks do not hold while the column is "+cp.To, "let the program check the value; undo brings the domain back")
	}
	if retyped(f) {
		s.add(Changes, f.Name, "", f.Type+" becomes text: the table is rewritten under an exclusive lock, and programs that read or write the old type stop working at that moment",
			"change the programs together with it: the codec reads and writes text, plain or sealed; undo brings the type back")
	}
	switch f.Base {
	case "character":
		s.add(Note, f.Name, "", f.Type+" pads with spaces, text does not: programs get the value without them", "nothing, if programs trim it")
	case "json", "jsonb":
		s.add(Note, f.Name, "", "the document is sealed as a whole: no operator of SQL finds its way into it any more", "move what statistics need into columns of their own")
	}
	if strings.HasSuffix(f.Base, "citext") {
		s.add(Note, f.Name, "", "citext takes upper and lower case for equal, which envelopes never are", "look for queries and constraints that rely on it")
	}
	if f.Original != f.Type && s.mapType(f) {
		s.add(Note, f.Name, "", fmt.Sprintf("the map says type: %s, the database %s", f.Original, f.Type), "the database is right; correct the map, or leave type: out")
	}
}

// mapType: what the map calls the type is not merely another name for it.
func (s *subject) mapType(f *pgmap.Field) bool {
	alias := map[string]string{
		"timestamptz": "timestamp with time zone", "timestamp": "timestamp without time zone", "varchar": "character varying",
		"char": "character", "bpchar": "character", "int": "integer", "int4": "integer", "int8": "bigint", "int2": "smallint",
		"bool": "boolean", "decimal": "numeric", "float8": "double precision", "float4": "real", "time": "time without time zone",
		"timetz": "time with time zone",
	}
	said, _, _ := strings.Cut(f.Original, "(")
	if full := alias[strings.ToLower(strings.TrimSpace(said))]; full != "" {
		said = full
	}
	_, bare, dotted := strings.Cut(f.Base, ".")
	return said != f.Base && !(dotted && (said == bare || said == strings.Trim(bare, `"`)))
}

// subjectFindings are about the columns that say whose a row is, and which.
func (s *subject) subjectFindings() {
	known := []string{"integer", "bigint", "smallint", "uuid", "text", "character varying"}
	switch base := s.Subject.Base; {
	case slices.Contains(known, base):
	case strings.HasSuffix(base, "citext"):
		s.add(Note, s.Subject.Name, "", "is citext: ids that differ in case alone are equal to the database, and different people to oubli", "see that each id is written in one way")
	default:
		s.add(Note, s.Subject.Name, "", "is of the type "+s.Subject.Type+": ids are taken as PostgreSQL prints them", "see that the program's codec gives the same text")
	}
	if s.Bound != nil && !slices.Contains(known, s.Bound.Base) {
		s.add(Note, s.Bound.Name, "", "key: is of the type "+s.Bound.Type+": values are bound to its text as PostgreSQL prints it", "see that the program's codec gives the same text")
	}
	for _, name := range s.Map.Triggers {
		if !slices.ContainsFunc(s.triggers, func(t trigger) bool { return t.Name == name }) {
			s.add(Note, "", "trigger "+name, "the map accepts it, and the table has none of that name", "correct triggers: in the map")
		}
	}
}

// textual types hold text as it is.
func textual(base string) bool {
	return base == "text" || base == "character varying" || base == "character" || base == "name" || base == "citext" || strings.HasSuffix(base, ".citext")
}

// retyped columns were no text: what was made for their type goes while they are.
func retyped(f *pgmap.Field) bool { return !f.Binary && (!textual(f.Base) || f.Base == "name") }

// list names a few things.
func list(names []string) string {
	const most = 5
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
