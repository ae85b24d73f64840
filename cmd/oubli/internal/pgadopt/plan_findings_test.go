package pgadopt_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/internal/pgtest"
)

// said is a finding that is expected: what it is about, and a part of what it says.
type said struct {
	level       pgadopt.Level
	about, what string
}

const (
	blocks  = pgadopt.Blocks
	changes = pgadopt.Changes
	note    = pgadopt.Note
)

// table t, unless the case says otherwise.
const (
	tableT = "CREATE TABLE t (id bigint PRIMARY KEY, name text, other text)"
	mapT   = "tables: {t: {db: c.t, subject: person=id, personal: [name]}}"
)

func TestEachFindingIsFound(t *testing.T) {
	cases := []struct {
		name string
		sql  string // tableT stands before it, unless it begins with CREATE TABLE t
		data string // mapT if empty
		want []said // all that blocks, and what else is looked for
	}{
		{name: "nothing", sql: ""},

		// Tables.
		{name: "view", sql: "CREATE TABLE u (id int PRIMARY KEY, name text); CREATE VIEW t AS TABLE u", want: []said{{blocks, "t.", "is a view"}}},
		{name: "materialized view", sql: "CREATE TABLE u (id int PRIMARY KEY, name text); CREATE MATERIALIZED VIEW t AS TABLE u", want: []said{{blocks, "t.", "is a view"}}},
		{name: "no key", sql: "CREATE TABLE t (id int, name text)", want: []said{{blocks, "t.", "no primary key"}}},
		{name: "unique but nullable", sql: "CREATE TABLE t (id int UNIQUE, name text)", want: []said{{blocks, "t.", "no primary key"}}},
		{name: "partition", sql: "CREATE TABLE p (id int PRIMARY KEY, name text) PARTITION BY RANGE (id); CREATE TABLE t PARTITION OF p DEFAULT", want: []said{{blocks, "t.", "is a partition"}}},
		{name: "typed", sql: "CREATE TYPE y AS (id int, name text); CREATE TABLE t OF y (PRIMARY KEY (id))", want: []said{{blocks, "t.", "typed table"}}},
		{name: "unlogged", sql: "CREATE UNLOGGED TABLE t (id int PRIMARY KEY, name text)", want: []said{{note, "t.", "unlogged"}}},
		{name: "child", sql: tableT + "; CREATE TABLE kid () INHERITS (t)", want: []said{{blocks, `t. child "c"."kid"`, "inherits"}}},
		{name: "parent", sql: "CREATE TABLE u (name text); CREATE TABLE t (id int PRIMARY KEY) INHERITS (u)", want: []said{{blocks, "t.", "inherits from c.u"}}},
		{name: "partition that is not null", sql: "CREATE TABLE t (id int PRIMARY KEY, name text) PARTITION BY RANGE (id); CREATE TABLE q (id int NOT NULL, name text NOT NULL); ALTER TABLE t ATTACH PARTITION q DEFAULT", want: []said{{blocks, "t.name", "is NOT NULL"}}},
		{name: "partitioned", sql: "CREATE TABLE t (id int PRIMARY KEY, name text) PARTITION BY RANGE (id); CREATE TABLE q PARTITION OF t DEFAULT", want: []said{{note, "t.", "is partitioned"}}},
		{name: "foreign partition", sql: `CREATE TABLE t (id int, name text) PARTITION BY RANGE (id); CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER far FOREIGN DATA WRAPPER nothing;
			CREATE FOREIGN TABLE q PARTITION OF t DEFAULT SERVER far`, want: []said{{blocks, "t.", "no primary key"}, {blocks, `t. partition "c"."q"`, "foreign table"}}},
		{name: "foreign table", sql: "CREATE FOREIGN DATA WRAPPER nothing2; CREATE SERVER far2 FOREIGN DATA WRAPPER nothing2; CREATE FOREIGN TABLE t (id int, name text) SERVER far2", want: []said{{blocks, "t.", "not a table of this database"}}},
		{name: "row type in use", sql: tableT + "; CREATE TABLE u (x t)", want: []said{{blocks, "t.", "row type"}}},
		{name: "rule", sql: tableT + "; CREATE RULE r AS ON INSERT TO t DO ALSO NOTHING", want: []said{{blocks, "t. rule r", "rewrites what is inserted"}}},
		{name: "rule that is switched off", sql: tableT + "; CREATE RULE r AS ON INSERT TO t DO ALSO NOTHING; ALTER TABLE t DISABLE RULE r"},
		{name: "rule on the column", sql: tableT + "; CREATE RULE r AS ON DELETE TO t WHERE old.name = 'x' DO INSTEAD NOTHING", want: []said{{blocks, "t.name rule r on c.t", "whose type cannot change"}}},
		{name: "autovacuum off", sql: "CREATE TABLE t (id int PRIMARY KEY, name text) WITH (autovacuum_enabled = off)", want: []said{{note, "t.", "autovacuum"}}},

		// Columns.
		{name: "generated", sql: "CREATE TABLE t (id int PRIMARY KEY, a text, name text GENERATED ALWAYS AS (upper(a)) STORED)", want: []said{{blocks, "t.name", "generated column"}}},
		{name: "what another is generated of", sql: "CREATE TABLE t (id int PRIMARY KEY, name text, g text GENERATED ALWAYS AS (upper(name)) STORED)", want: []said{{blocks, "t.name generated column g", "is made of the column"}}},
		{name: "identity", sql: "CREATE TABLE t (id int PRIMARY KEY, name int GENERATED ALWAYS AS IDENTITY)", want: []said{
			{blocks, "t.name", "identity column"}, {blocks, "t.name", "is NOT NULL"}}},
		{name: "array", sql: "CREATE TABLE t (id int PRIMARY KEY, name text[])", want: []said{{blocks, "t.name", "an array"}}},
		{name: "range", sql: "CREATE TABLE t (id int PRIMARY KEY, name daterange)", want: []said{{blocks, "t.name", "a range"}}},
		{name: "multirange", sql: "CREATE TABLE t (id int PRIMARY KEY, name datemultirange)", want: []said{{blocks, "t.name", "a range"}}},
		{name: "composite", sql: "CREATE TYPE y AS (a int); CREATE TABLE t (id int PRIMARY KEY, name y)", want: []said{{blocks, "t.name", "a composite type"}}},
		{name: "domain over an array", sql: "CREATE DOMAIN y AS text[]; CREATE TABLE t (id int PRIMARY KEY, name y)", want: []said{{blocks, "t.name", "an array"}, {changes, "t.name", "is of the domain c.y"}}},
		{name: "large object", sql: "CREATE TABLE t (id int PRIMARY KEY, name oid)", want: []said{{blocks, "t.name", "a reference"}}},
		{name: "money", sql: "CREATE TABLE t (id int PRIMARY KEY, name money)", want: []said{{blocks, "t.name", "locale"}}},
		{name: "plain storage", sql: tableT + "; ALTER TABLE t ALTER name SET STORAGE PLAIN; INSERT INTO t VALUES (1, 'x')", want: []said{{note, "t.name", "storage PLAIN"}}},
		{name: "long values in plain storage", sql: tableT + "; ALTER TABLE t ALTER name SET STORAGE PLAIN; INSERT INTO t VALUES (1, repeat('x', 6000))", want: []said{{blocks, "t.name", "8051 bytes"}}},
		{name: "not null", sql: "CREATE TABLE t (id int PRIMARY KEY, name text NOT NULL)", want: []said{{blocks, "t.name", "is NOT NULL"}}},
		{name: "not null with a replacement", sql: "CREATE TABLE t (id int PRIMARY KEY, name text NOT NULL)", data: "tables: {t: {db: c.t, subject: person=id, personal: [name: {replace: x}]}}"},
		{name: "not null that keeps a part", sql: "CREATE TABLE t (id int PRIMARY KEY, name text NOT NULL)", data: `tables: {t: {db: c.t, subject: person=id, personal: [name: {blank: "first:2"}]}}`},
		{name: "not null that is blanked with null", sql: "CREATE TABLE t (id int PRIMARY KEY, name text NOT NULL)", data: `tables: {t: {db: c.t, subject: person=id, personal: [name: {blank: "null", replace: x}]}}`, want: []said{{blocks, "t.name", "is NOT NULL"}}},
		{name: "retyped", sql: "CREATE TABLE t (id int PRIMARY KEY, name date DEFAULT '2000-01-01')", want: []said{{changes, "t.name", "date becomes text"}, {changes, "t.name default", "while the table is adopted"}}},
		{name: "default", sql: "CREATE TABLE t (id int PRIMARY KEY, name text DEFAULT 'x')", want: []said{{changes, "t.name default", "dropped by enforce"}}},
		{name: "padded", sql: "CREATE TABLE t (id int PRIMARY KEY, name char(9))", want: []said{{note, "t.name", "pads"}}},
		{name: "json", sql: "CREATE TABLE t (id int PRIMARY KEY, name json)", want: []said{{note, "t.name", "as a whole"}}},
		{name: "citext", sql: "CREATE EXTENSION IF NOT EXISTS citext SCHEMA public; CREATE TABLE t (id int PRIMARY KEY, name public.citext)", want: []said{{note, "t.name", "upper and lower case"}}},
		{name: "collation", sql: `CREATE COLLATION same (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE TABLE t (id int PRIMARY KEY, name text COLLATE same);
			INSERT INTO t VALUES (1, 'x')`, want: []said{{note, "t.name collation same", "spellings"}}},
		{name: "collation of ids", sql: `CREATE COLLATION same (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE TABLE t (id text COLLATE same PRIMARY KEY, name text COLLATE same);
			INSERT INTO t VALUES ('a@b', 'x')`, want: []said{{blocks, "t.id", "with an @"}}},
		{name: "another type in the map", sql: tableT, data: "tables: {t: {db: c.t, subject: person=id, personal: [name: {type: date}]}}", want: []said{{note, "t.name", "the map says type: date"}}},
		{name: "the same type in other words", sql: "CREATE TABLE t (id int PRIMARY KEY, name timestamptz(3), other varchar(10))", data: "tables: {t: {db: c.t, subject: person=id, personal: [name: {type: timestamptz(3)}, other: {type: varchar(10)}]}}"},

		// Constraints and indexes.
		{name: "primary key", sql: "CREATE TABLE t (id int UNIQUE NOT NULL, name text PRIMARY KEY)", data: "tables: {t: {db: c.t, subject: person=id, personal: [name: {replace: x}]}}", want: []said{{blocks, "t.name constraint t_pkey", "primary key"}}},
		{name: "refers", sql: "CREATE TABLE u (name text PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, name text REFERENCES u)", want: []said{{blocks, "t.name constraint t_name_fkey", "refers to c.u"}}},
		{name: "referred to", sql: "CREATE TABLE t (id int PRIMARY KEY, name text UNIQUE); CREATE TABLE u (name text REFERENCES t (name))", want: []said{{blocks, "t.name constraint u_name_fkey", "what c.u refers to"}, {note, "t.name index t_name_key", "no duplicates"}}},
		{name: "refers to itself", sql: "CREATE TABLE t (id int PRIMARY KEY, name text UNIQUE, boss text REFERENCES t (name))", want: []said{{blocks, "t.name constraint t_boss_fkey", "what c.t refers to"}}},
		{name: "other foreign keys", sql: "CREATE TABLE u (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY REFERENCES u, name text); CREATE TABLE v (t int REFERENCES t)"},
		{name: "exclusion", sql: "CREATE TABLE t (id int PRIMARY KEY, name text, EXCLUDE USING btree (name WITH =))", want: []said{{blocks, "t.name constraint t_name_excl", "exclusion"}}},
		{name: "check", sql: "CREATE TABLE t (id int PRIMARY KEY, name text CHECK (name <> ''))", want: []said{{changes, "t.name constraint t_name_check", "is dropped while"}}},
		{name: "partition key", sql: "CREATE TABLE t (id int NOT NULL, name text NOT NULL, PRIMARY KEY (id, name)) PARTITION BY LIST (name)", data: "tables: {t: {db: c.t, subject: person=id, personal: [name: {replace: x}]}}", want: []said{
			{blocks, "t.name constraint t_pkey", "primary key"}, {blocks, "t.name", "partitioned by it"}}},
		{name: "partition key that computes", sql: "CREATE TABLE t (id int, name text) PARTITION BY RANGE (lower(name))", want: []said{{blocks, "t.", "no primary key"}, {blocks, "t.name", "partitioned by it"}}},
		{name: "unique index", sql: tableT + "; CREATE UNIQUE INDEX i ON t (lower(name))", want: []said{{note, "t.name index i", "no duplicates"}}},
		{name: "unique index that includes it", sql: tableT + "; CREATE UNIQUE INDEX i ON t (id) INCLUDE (name)", want: []said{{note, "t.name index i", "finds nothing"}}},
		{name: "partial index", sql: tableT + "; CREATE INDEX i ON t (other) WHERE name IS NOT NULL", want: []said{{note, "t.name index i", "finds nothing"}}},
		{name: "index on what is retyped", sql: "CREATE TABLE t (id int PRIMARY KEY, name date); CREATE INDEX i ON t ((name + 1))", want: []said{{changes, "t.name index i", "is dropped"}}},
		{name: "index that fails on envelopes", sql: tableT + "; CREATE INDEX i ON t ((name::int))", want: []said{{blocks, "t.name index i", "fails on an envelope"}}},
		{name: "index whose predicate fails on envelopes", sql: tableT + "; CREATE INDEX i ON t (other) WHERE name::int > 3", want: []said{{blocks, "t.name index i", "fails on an envelope"}}},
		{name: "long values in an index", sql: tableT + "; CREATE INDEX i ON t (name); INSERT INTO t VALUES (1, repeat('x', 1990))", want: []said{{blocks, "t.name index i", "an entry would have 2707 bytes"}}},
		{name: "values that just fit into an index", sql: tableT + "; CREATE INDEX i ON t (name); INSERT INTO t VALUES (1, repeat('x', 1900))"},
		{name: "long values in a hash index", sql: tableT + "; CREATE INDEX i ON t USING hash (name); INSERT INTO t VALUES (1, repeat('x', 9000))"},
		{name: "long values in a brin index", sql: "CREATE TABLE t (id int PRIMARY KEY, name bytea); CREATE INDEX i ON t USING brin (name); INSERT INTO t VALUES (1, decode(repeat('00', 3968), 'hex'))", want: []said{{blocks, "t.name index i", "4001 bytes"}}},
		{name: "long values in a gist index", sql: "CREATE TABLE t (id int PRIMARY KEY, name text); CREATE INDEX i ON t USING spgist (name); INSERT INTO t VALUES (1, repeat('x', 6100))", want: []said{{blocks, "t.name index i", "a spgist index takes 8100"}}},
		{name: "name", sql: "CREATE TABLE t (id int PRIMARY KEY, name name); CREATE INDEX i ON t (name)", want: []said{{changes, "t.name", "name becomes text"}, {changes, "t.name index i", "is dropped"}}},
		{name: "statistics", sql: tableT + "; CREATE STATISTICS s ON name, other FROM t", want: []said{{note, "t.name statistics object c.s", "keeps samples"}}},
		{name: "statistics on what is retyped", sql: "CREATE TABLE t (id int PRIMARY KEY, name date); CREATE STATISTICS s ON name, id FROM t", want: []said{{changes, "t.name statistics object c.s", "is dropped"}}},
		{name: "replica identity", sql: "CREATE TABLE t (id int PRIMARY KEY, name text NOT NULL UNIQUE); ALTER TABLE t REPLICA IDENTITY USING INDEX t_name_key", data: "tables: {t: {db: c.t, subject: person=id, personal: [name: {replace: x}]}}",
			want: []said{{note, "t.name index t_name_key", "replica identity"}}},
		{name: "replica identity that is retyped", sql: "CREATE TABLE t (id int PRIMARY KEY, name date NOT NULL UNIQUE); ALTER TABLE t REPLICA IDENTITY USING INDEX t_name_key", data: "tables: {t: {db: c.t, subject: person=id, personal: [name: {replace: x}]}}",
			want: []said{{blocks, "t.name index t_name_key", "replica identity"}}},
		{name: "replica identity full", sql: tableT + "; ALTER TABLE t REPLICA IDENTITY FULL", want: []said{{note, "t.", "REPLICA IDENTITY FULL"}}},

		// What is made of columns.
		{name: "view on it", sql: tableT + "; CREATE VIEW v AS SELECT name FROM t; CREATE VIEW w AS TABLE v", want: []said{{changes, "t.name view c.v", "made anew"}, {changes, "t. view c.w", "through other views"}}},
		{name: "view on other columns", sql: tableT + "; CREATE VIEW v AS SELECT other FROM t"},
		{name: "materialized view on it", sql: tableT + "; CREATE MATERIALIZED VIEW v AS SELECT name FROM t", want: []said{{blocks, "t.name materialized view c.v", "keeps copies"}}},
		{name: "materialized view on a view on it", sql: tableT + "; CREATE VIEW v AS SELECT name FROM t; CREATE MATERIALIZED VIEW w AS SELECT upper(name) FROM v", want: []said{{blocks, "t. materialized view c.w", "keeps copies"}}},
		{name: "view that computes with the type", sql: "CREATE TABLE t (id int PRIMARY KEY, name date); CREATE VIEW v AS SELECT extract(year FROM name) AS y FROM t", want: []said{{blocks, "t.name view c.v", "no meaning"}}},
		{name: "view on a view that computes with the type", sql: `CREATE TABLE t (id int PRIMARY KEY, name date); CREATE VIEW a AS SELECT id, name FROM t; CREATE VIEW "B" AS SELECT name + id FROM a`, want: []said{{blocks, `t. view c."B"`, "no meaning"}}},
		{name: "view that does not compute with the type", sql: "CREATE TABLE t (id int PRIMARY KEY, name date); CREATE VIEW v AS SELECT id, name::text, count(*) FROM t GROUP BY id", want: []said{{changes, "t.name view c.v", "made anew"}}},
		{name: "function on a view", sql: tableT + "; CREATE VIEW v AS SELECT name FROM t; CREATE FUNCTION f() RETURNS SETOF v LANGUAGE sql AS 'SELECT NULL::text'", want: []said{{blocks, "t.name view c.v", "depends on it: function c.f()"}}},
		{name: "triggers and rules on a view", sql: tableT + `; CREATE VIEW v AS SELECT id, name FROM t; CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
			CREATE TRIGGER g INSTEAD OF UPDATE ON v FOR EACH ROW EXECUTE FUNCTION f(); CREATE RULE r AS ON DELETE TO v DO INSTEAD NOTHING`},
		{name: "function with an SQL body", sql: tableT + "; CREATE FUNCTION f() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT name FROM t; END", want: []said{{blocks, "t.name function c.f()", "SQL body"}}},
		{name: "function with a text", sql: tableT + "; CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT name FROM c.t'", want: []said{{note, "t.name function c.f()", "names the table"}}},
		{name: "policy", sql: tableT + "; CREATE POLICY p ON t USING (name = 'x')", want: []said{{blocks, "t.name policy p on table c.t", "who sees a row"}}},
		{name: "policy on another column", sql: tableT + "; CREATE POLICY p ON t USING (other = 'x')"},

		// Triggers.
		{name: "trigger", sql: tableT + "; " + functionF + "; CREATE TRIGGER g AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()", want: []said{{blocks, "t. trigger g", "would fire for each row that is sealed"}}},
		{name: "trigger for each statement", sql: tableT + "; " + functionF + "; CREATE TRIGGER g AFTER UPDATE ON t REFERENCING NEW TABLE AS n EXECUTE FUNCTION f()", want: []said{{blocks, "t. trigger g", "would fire"}}},
		{name: "trigger on insert", sql: tableT + "; " + functionF + "; CREATE TRIGGER g AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()", want: []said{{blocks, "t. trigger g", "may copy values; its function c.f, which names name"}}},
		{name: "trigger on truncate", sql: tableT + "; " + functionF + "; CREATE TRIGGER g AFTER TRUNCATE ON t EXECUTE FUNCTION f()"},
		{name: "constraint trigger", sql: tableT + "; " + functionF + "; CREATE CONSTRAINT TRIGGER g AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION f()", want: []said{{blocks, "t. trigger g", "would fire"}}},
		{name: "accepted trigger", sql: tableT + "; " + functionF + `; CREATE TRIGGER "G g" AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()`, data: `tables: {t: {db: c.t, subject: person=id, triggers: ["G g", gone], personal: [name]}}`,
			want: []said{{note, "t. trigger G g", "accepted"}, {note, "t. trigger gone", "has none of that name"}}},
		{name: "accepted trigger on insert", sql: tableT + "; " + functionF + "; CREATE TRIGGER g AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()", data: "tables: {t: {db: c.t, subject: person=id, triggers: [g], personal: [name]}}", want: []said{{note, "t. trigger g", "accepted"}}},
		{name: "trigger on the column", sql: tableT + "; " + functionF + "; CREATE TRIGGER g AFTER UPDATE OF name ON t FOR EACH ROW EXECUTE FUNCTION f()", data: "tables: {t: {db: c.t, subject: person=id, triggers: [g], personal: [name]}}",
			want: []said{{blocks, "t.name trigger g", "whose type cannot change"}}},
		{name: "trigger when the column", sql: tableT + "; " + functionF + "; CREATE TRIGGER g AFTER UPDATE ON t FOR EACH ROW WHEN (old.name <> new.name) EXECUTE FUNCTION f()", data: "tables: {t: {db: c.t, subject: person=id, triggers: [g], personal: [name]}}",
			want: []said{{blocks, "t.name trigger g", "whose type cannot change"}}},
		{name: "trigger that is switched off", sql: tableT + "; " + functionF + "; CREATE TRIGGER g AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE t DISABLE TRIGGER g", want: []said{{note, "t. trigger g", "is switched off"}}},
		{name: "trigger of a partition", sql: "CREATE TABLE t (id int PRIMARY KEY, name text) PARTITION BY RANGE (id); CREATE TABLE q PARTITION OF t DEFAULT; " + functionF + "; CREATE TRIGGER g AFTER UPDATE ON q FOR EACH ROW EXECUTE FUNCTION f()",
			want: []said{{blocks, "t. trigger g", "would fire"}}},

		// Values.
		{name: "nobody's", sql: "CREATE TABLE t (no int PRIMARY KEY, id text, name text); INSERT INTO t VALUES (1, NULL, 'x'), (2, NULL, NULL)", want: []said{{blocks, "t.id", "1 row has NULL"}}},
		{name: "ids that cannot be", sql: `CREATE TABLE t (no serial PRIMARY KEY, id text, name text); INSERT INTO t (id, name) VALUES ('', 'x'), ('0', 'x'), ('00-0', 'x'), (' a', 'x'), (E'a\n', 'x'), (repeat('x', 256), 'x'), ('a b', 'x'), ('', NULL)`, want: []said{{blocks, "t.id", "6 rows have an id"}}},
		{name: "zero", sql: "CREATE TABLE t (id int PRIMARY KEY, name text); INSERT INTO t VALUES (0, 'x'), (-1, 'x')", want: []said{{blocks, "t.id", "1 row has an id"}}},
		{name: "nil UUID", sql: "CREATE TABLE t (id uuid PRIMARY KEY, name text); INSERT INTO t VALUES ('00000000-0000-0000-0000-000000000000', 'x')", want: []said{{blocks, "t.id", "1 row has an id"}}},
		{name: "addresses", sql: "CREATE TABLE t (id text PRIMARY KEY, name text); INSERT INTO t VALUES ('a@b', 'x')", want: []said{{blocks, "t.id", "with an @"}}},
		{name: "addresses that are allowed", sql: "CREATE TABLE t (id text PRIMARY KEY, name text); INSERT INTO t VALUES ('a@b', 'x')", data: "tables: {t: {db: c.t, subject: person=id, allow_at: true, personal: [name]}}"},
		{name: "UUIDs in upper case", sql: "CREATE TABLE t (id text PRIMARY KEY, name text); INSERT INTO t VALUES ('0B1D6F0C-2F4E-4A7C-9D53-000000000001', 'x')", want: []said{{blocks, "t.id", "upper case"}}},
		{name: "decimals", sql: "CREATE TABLE t (id numeric PRIMARY KEY, name text); INSERT INTO t VALUES (1, 'x'), (2.50, 'x')", want: []said{{blocks, "t.id", "1 row has a number"}, {note, "t.id", "as PostgreSQL prints"}}},
		{name: "citext ids", sql: "CREATE EXTENSION IF NOT EXISTS citext SCHEMA public; CREATE TABLE t (id public.citext PRIMARY KEY, name text)", want: []said{{note, "t.id", "differ in case alone"}}},
		{name: "dates", sql: `CREATE TABLE t (id serial PRIMARY KEY, name date); INSERT INTO t (name) VALUES ('infinity'), ('-infinity'), ('0001-12-31 BC'), ('10000-01-01'), ('0001-01-01'), ('9999-12-31'), (NULL)`, want: []said{{blocks, "t.name", "4 rows have a date"}}},
		{name: "timestamps", sql: `CREATE TABLE t (id serial PRIMARY KEY, name timestamptz); INSERT INTO t (name) VALUES ('infinity'), ('10000-01-01 00:00:00Z'), ('0001-01-01 00:00:00Z'), ('9999-12-31 23:59:59.999999Z')`, want: []said{{blocks, "t.name", "2 rows have a date"}}},
		{name: "spaces at the end", sql: `CREATE TABLE t (id int PRIMARY KEY, name bpchar, other char(5)); INSERT INTO t VALUES (1, 'a  ', 'a'), (2, 'a', 'a')`, want: []said{{blocks, "t.name", "1 of the first"}}},
		{name: "no spaces at the end", sql: `CREATE TABLE t (id int PRIMARY KEY, name bpchar, other char(5)); INSERT INTO t VALUES (2, 'a', 'a')`},
		{name: "sealed already", sql: tableT + "; INSERT INTO t VALUES (1, 'oubli1.sQAAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'), (2, 'oubli1. is fine'), (3, 'oubli27~is not'), (4, 'oubli02. is')", want: []said{{note, "t.name", "2 rows have a value there that looks sealed"}}},
		{name: "binary sealed already", sql: `CREATE TABLE t (id int PRIMARY KEY, name bytea); INSERT INTO t VALUES (1, decode('b1' || repeat('00', 40), 'hex')), (2, '\xb1'), (3, decode('bf' || repeat('00', 40), 'hex')), (4, '\xbf')`, want: []said{{note, "t.name", "2 rows have a value there that looks sealed"}}},
		{name: "types without a way back", sql: `CREATE TYPE y AS ENUM ('a'); CREATE TABLE t (id int PRIMARY KEY, name interval, other y, more inet, time timestamptz); INSERT INTO t VALUES (1, '1 mon 3 days 04:05:06.7', 'a', '10.0.0.1/8', now())`,
			data: "tables: {t: {db: c.t, subject: person=id, personal: [name, other, more, time]}}"},

		// Keys.
		{name: "key that is NULL", sql: "CREATE TABLE t (no int PRIMARY KEY, id int, name text, k text); INSERT INTO t VALUES (1, 1, 'x', NULL), (2, 1, 'x', ''), (3, 1, 'x', 'k'); CREATE INDEX ON t (id)", data: "tables: {t: {db: c.t, subject: person=id, key: k, personal: [name]}}",
			want: []said{{blocks, "t.k", "2 rows have NULL"}, {note, "t.k", "not unique"}}},
		{name: "key of another type", sql: "CREATE TABLE t (no int PRIMARY KEY, id int, name text, k timestamptz UNIQUE NOT NULL)", data: "tables: {t: {db: c.t, subject: person=id, key: k, personal: [name]}}", want: []said{{note, "t.k", "values are bound to its text"}, {note, "t.id", "no index begins with it"}}},
	}
	// Each case has a schema of its own, and one plan is made of all.
	w := newPlanWorld(t, pgtest.Shared(t))
	var tables []string
	for i, c := range cases {
		if c.sql == "" {
			c.sql = tableT
		}
		if c.data == "" {
			c.data = mapT
		}
		schema := fmt.Sprint("c", i)
		w.exec(fmt.Sprintf("CREATE SCHEMA %s; BEGIN; SET LOCAL search_path = %[1]s; %s; COMMIT", schema, numbered(c.sql, i)))
		tables = append(tables, fmt.Sprintf("t%d: %s", i, numbered(strings.TrimSuffix(strings.TrimPrefix(c.data, "tables: {t: "), "}"), i)))
	}
	p := w.plan("tables: {" + strings.Join(tables, ", ") + "}")
	texts(t, p)
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			table := fmt.Sprintf("t%d.", i)
			blocked := []string{}
			for _, s := range c.want {
				about := table + numbered(strings.TrimPrefix(s.about, "t."), i)
				requireFinding(t, p, s.level, about, numbered(s.what, i))
				if s.level == blocks {
					blocked = append(blocked, about)
				}
			}
			found := slices.DeleteFunc(brief(p, blocks), func(s string) bool { return !strings.HasPrefix(s, table) })
			require.ElementsMatch(t, blocked, found, "%v", p.BlockedFor(fmt.Sprint("t", i)))
		})
	}
}

// numbered puts the schema of a case in the place of the schema c.
func numbered(s string, i int) string {
	return schemaC.ReplaceAllString(s, fmt.Sprintf("${1}c%d${2}", i))
}

var schemaC = regexp.MustCompile(`(^|[^\pL])c("?\.)`)

const functionF = "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM new.name; RETURN new; END $$"
