package pgmap

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

func TestEraseBlanksAllTablesInOneTransaction(t *testing.T) {
	ctx := within(t)
	s := newShop(t, 3)
	require.Equal(t, open(1), s.read(ctx, 1))
	s.erase(1)
	require.Equal(t, blanked("1990"), s.read(ctx, 1))
	require.Equal(t, allBlank, s.blanks(1))
	require.Equal(t, open(2), s.read(ctx, 2))
	require.Equal(t, "1", s.value(`select count(distinct x) from (select xmin::text x from customers where id = 1
		union select xmin::text from "Invoices" where "customerId" = 1) all_rows`), "one transaction wrote them")
	require.Equal(t, "NL 10 20", s.value(`select country || ' ' || (select string_agg(total::text, ' ' order by no) from "Invoices" where "customerId" = 1) from customers where id = 1`))

	before := s.value(`select string_agg(xmin::text, ' ') from customers`)
	s.erase(1)
	tables, err := NewTables(s.db, s.keys, s.tables, nil)
	require.NoError(t, err)
	require.NoError(t, tables.Blank(ctx, s.subjects(1)[0], nil))
	require.Equal(t, before, s.value(`select string_agg(xmin::text, ' ') from customers`), "twice is once")
}

func TestKeptPurposesStay(t *testing.T) {
	ctx := within(t)
	s := newShop(t, 1)
	_, err := s.eraser(nil).AnonymizeWith(ctx, &anonymize.Request{Keep: []string{"tax"}}, s.subjects(1)...)
	require.NoError(t, err)
	require.Equal(t, []string{"Erased NULL 1990 NULL", "1 Main Street NULL", "1 Main Street NULL"}, s.read(keystore.WithPurpose(ctx, "tax"), 1))
	s.erase(1)
	require.Equal(t, blanked("1990"), s.read(keystore.WithPurpose(ctx, "tax"), 1))
}

// A transaction of the application that does not end is named, and nothing was changed.
func TestLockedRows(t *testing.T) {
	ctx := within(t)
	s := newShop(t, 2)
	tx, err := s.db.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(ctx)
	_, err = tx.Exec(ctx, `select from "Invoices" where "customerId" = 1 and no = 2 for update`)
	require.NoError(t, err)

	e := s.eraser(&TablesOptions{LockTimeout: 100 * time.Millisecond})
	results, err := e.Anonymize(ctx, s.subjects(1, 2)...)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "customer/1")
	require.ErrorContains(t, err, `"public"."Invoices"`)
	require.ErrorContains(t, err, "has kept a row locked for 100ms")
	require.Equal(t, []string{"erasing", "erased"}, []string{results[0].State, results[1].State})
	require.Zero(t, s.blanks(1))
	require.Equal(t, allBlank, s.blanks(2))

	require.NoError(t, tx.Rollback(ctx))
	_, err = e.Anonymize(ctx, s.subjects(1)...)
	require.NoError(t, err)
	require.Equal(t, allBlank, s.blanks(1))
}

// What the application changes meanwhile is neither lost nor in the way.
func TestEraseBesideAWriter(t *testing.T) {
	ctx := within(t)
	s := newShop(t, 1)
	tx, err := s.db.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(ctx)
	_, err = tx.Exec(ctx, `update customers set visits = 7`)
	require.NoError(t, err)
	done := s.eraseAndWait(ctx)
	require.NoError(t, tx.Commit(ctx))
	require.NoError(t, <-done)
	require.Equal(t, allBlank, s.blanks(1))
	require.Equal(t, "7", s.value(`select visits from customers`))
}

// eraseAndWait erases customer 1, and returns once that waits for a lock.
func (s *shop) eraseAndWait(ctx context.Context) (done chan error) {
	s.t.Helper()
	done = make(chan error, 1)
	go func() {
		_, err := s.eraser(nil).Anonymize(ctx, s.subjects(1)...)
		done <- err
	}()
	require.Eventually(s.t, func() bool {
		return s.value(`select count(*) from pg_locks where not granted`) == "1"
	}, 10*time.Second, time.Millisecond)
	return done
}

// The application takes locks in another order. The eraser is the victim, and tries again.
func TestDeadlock(t *testing.T) {
	ctx := within(t)
	s := newShop(t, 1)
	s.exec(fmt.Sprintf(`alter database %s set deadlock_timeout = '50ms'`, s.value("current_database()")))
	s.db.Reset()
	tx, err := s.db.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(ctx)
	_, err = tx.Exec(ctx, `set local deadlock_timeout = '30s'`)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, `update "Invoices" set total = 7 where no = 2`)
	require.NoError(t, err)
	done := s.eraseAndWait(ctx)
	_, err = tx.Exec(ctx, `update customers set visits = 7`)
	require.NoError(t, err)
	require.NoError(t, tx.Commit(ctx))
	require.NoError(t, <-done)
	require.Equal(t, allBlank, s.blanks(1))
	require.Equal(t, "7 7", s.value(`select c.visits || ' ' || i.total from customers c, "Invoices" i where no = 2`))
}

func TestAPersonWithThousandsOfRows(t *testing.T) {
	ctx := within(t)
	s := newShop(t, 2)
	const many = 1500 // pages
	s.exec(`insert into "Invoices" select 1, n, 'Street ' || n, 'note', n from generate_series(3, $1::int) n`, many)
	s.seal(1)
	tables, err := NewTables(s.db, s.keys, s.tables, nil)
	require.NoError(t, err)
	counts, err := tables.Count(ctx, s.subjects(1)[0])
	require.NoError(t, err)
	require.Equal(t, map[string]int{"customers": 1, "invoices": many}, counts)
	data, err := tables.Export(ctx, s.subjects(1)[0])
	require.NoError(t, err)
	require.Len(t, data[1].Rows, many)
	for i, row := range data[1].Rows[2:] {
		require.Equal(t, []any{json.Number("1"), json.Number(fmt.Sprint(i + 3)), fmt.Sprintf("Street %d", i+3), "note", json.Number(fmt.Sprint(i + 3))}, valuesOf(row))
	}
	s.erase(1)
	require.Equal(t, 4+2*many, s.blanks(1))
	require.Zero(t, s.blanks(2))
	require.Equal(t, "1", s.value(`select count(distinct xmin::text) from "Invoices" where "customerId" = 1`))
}

func valuesOf(row []fieldcrypt.NamedValue) (list []any) {
	for _, v := range row {
		list = append(list, v.Value)
	}
	return list
}

// A trigger that swallows the update keeps the keys from being destroyed.
func TestRowsThatDoNotTakeTheirBlanks(t *testing.T) {
	ctx := within(t)
	s := newShop(t, 1)
	s.exec(`create function swallow() returns trigger language plpgsql as $$ begin return null; end $$`)
	s.exec(`create trigger swallow before update on "Invoices" for each row when (old.no = 2) execute function swallow()`)
	_, err := s.eraser(nil).Anonymize(ctx, s.subjects(1)...)
	require.ErrorIs(t, err, keystore.ErrState)
	require.ErrorContains(t, err, `did not take the blanks of row (1, 2)`)
	require.Zero(t, s.blanks(1))
	require.Equal(t, keystore.StateErasing, s.state(1))
}

// So does one that puts back what was there, afterwards.
func TestRowsThatDoNotKeepTheirBlanks(t *testing.T) {
	ctx := within(t)
	s := newShop(t, 1)
	s.exec(`create function keep() returns trigger language plpgsql as $$ begin update customers set email = old.email where id = old.id; return null; end $$`)
	s.exec(`create trigger keep after update on customers for each row when (pg_trigger_depth() = 0) execute function keep()`)
	_, err := s.eraser(nil).Anonymize(ctx, s.subjects(1)...)
	require.ErrorIs(t, err, keystore.ErrState)
	require.ErrorContains(t, err, `does not keep the blanks of row (1)`)
	require.Zero(t, s.blanks(1))
	require.Equal(t, keystore.StateErasing, s.state(1))
}

// A row that comes while others of the person are waited for is blanked with them.
func TestRowsThatComeMeanwhile(t *testing.T) {
	ctx := within(t)
	s := newShop(t, 1)
	tx, err := s.db.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(ctx)
	_, err = tx.Exec(ctx, `update "Invoices" set total = 7 where no = 2`)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, `insert into "Invoices" values (1, 3, '1 Main Street', 'note 1', 30)`)
	require.NoError(t, err)
	done := s.eraseAndWait(ctx)
	require.NoError(t, tx.Commit(ctx))
	require.NoError(t, <-done)
	require.Equal(t, allBlank+2, s.blanks(1))
}

// A column that was never widened is named, and keeps the keys from being destroyed.
func TestColumnsThatTakeNoBlanks(t *testing.T) {
	for typ, value := range map[string]string{"varchar(12)": "Ada", "date": "1990-05-17", "text not null": "Ada"} {
		ctx, keys := within(t), keystoretest.New(t)
		db, tables := world(t, `create table people (id int primary key, v `+typ+`); insert into people values (7, '`+value+`')`,
			`{tables: {people: {subject: person=id, personal: [v: {blank: `+map[bool]string{true: `"null"`, false: "year"}[typ == "text not null"]+`}]}}}`)
		e, err := anonymize.New(keys, nil)
		require.NoError(t, err)
		ts, err := NewTables(db, keys, tables, nil)
		require.NoError(t, err)
		e.RegisterTables(ts)
		_, err = e.AnonymizeWith(ctx, &anonymize.Request{Unknown: true}, subj(t, "person/7"))
		require.ErrorIs(t, err, keystore.ErrInvalid, typ)
		require.ErrorContains(t, err, "does not take blanks", typ)
		require.NotContains(t, err.Error(), value)
		sts, err := keys.Status(ctx, subj(t, "person/7"))
		require.NoError(t, err)
		require.Equal(t, keystore.StateErasing, sts[0].State)
	}
}

// Plaintext is blanked as well, and its year kept where the table is being adopted.
func TestPlaintextIsBlanked(t *testing.T) {
	ctx := within(t)
	s := newShop(t, 1)
	s.exec(`insert into customers (id, "First Name", email, born) values (2, '', 'ada2@example.org', '1990-05-17')`)
	e := s.eraser(&TablesOptions{Adopting: func(t *Table) bool { return t.Name == "customers" }})
	d, err := e.Export(ctx, s.subjects(2)[0])
	require.NoError(t, err)
	require.Equal(t, []any{json.Number("2"), "", "ada2@example.org", "1990-05-17", nil}, valuesOf(d.Tables[0].Rows[0])[:5])
	_, err = e.AnonymizeWith(ctx, &anonymize.Request{Unknown: true}, s.subjects(2)...)
	require.NoError(t, err)
	require.Equal(t, []string{"Erased NULL 1990 NULL"}, s.read(ctx, 2))
}

// What destroying the keys relies on is durable, whatever the database usually does.
func TestBlankingIsDurable(t *testing.T) {
	s := newShop(t, 1)
	s.exec(`create table seen (setting text)`)
	s.exec(`create function note() returns trigger language plpgsql as $$ begin insert into seen values (current_setting('synchronous_commit')); return new; end $$`)
	s.exec(`create trigger note before update on customers for each row execute function note()`)
	for usual, want := range map[string]string{"off": "on", "local": "local"} {
		s.exec(`delete from seen; `)
		s.exec(fmt.Sprintf(`alter database %s set synchronous_commit = %s`, s.value("current_database()"), usual))
		s.db.Reset()
		s.exec(`insert into customers (id, "First Name") values ($1, 'Eve')`, map[string]int{"off": 8, "local": 9}[usual])
		s.seal(0)
		s.exec(`delete from seen`)
		s.erase(map[string]int{"off": 8, "local": 9}[usual])
		require.Equal(t, want, s.value(`select string_agg(setting, ' ') from seen`))
	}
}

// Where ids are numbers nobody is called abc; and what is equal to the database is not
// always the same person.
func TestSubjectsThatAreNotThere(t *testing.T) {
	ctx := within(t)
	s := newShop(t, 1)
	tables, err := NewTables(s.db, s.keys, s.tables, nil)
	require.NoError(t, err)
	for _, id := range []string{"abc", "99999999999999999999999", "01", "+1", "1.0", "2"} {
		of := subj(t, "customer/"+id)
		counts, err := tables.Count(ctx, of)
		require.NoError(t, err, id)
		require.Zero(t, counts["customers"]+counts["invoices"], id)
		require.NoError(t, tables.Blank(ctx, of, nil), id)
		data, err := tables.Export(ctx, of)
		require.NoError(t, err)
		for _, d := range data {
			require.Empty(t, d.Rows)
		}
	}
	require.Zero(t, s.blanks(1))
}

// A UUID names the same person however a text spells it.
func TestUUIDsInTexts(t *testing.T) {
	ctx := within(t)
	keys := keystoretest.New(t)
	db, tables := world(t, `create table people (id text primary key, name text);
		insert into people values ('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'x'), ('6BA7B811-9DAD-11D1-80B4-00C04FD430C8', 'y')`,
		`{tables: {people: {subject: person=id, personal: [name]}}}`)
	for _, more := range []string{"", "6bA7B812-9Dad-11D1-80b4-00c04fd430c8"} {
		_, err := db.Exec(ctx, `insert into people select $1, 'z' where $1 <> ''`, more)
		require.NoError(t, err)
		ts, err := NewTables(db, keys, tables, nil)
		require.NoError(t, err)
		for _, id := range []string{"6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6ba7b811-9dad-11d1-80b4-00c04fd430c8", more} {
			if id == "" {
				continue
			}
			counts, err := ts.Count(ctx, subject(t, "person", id))
			require.NoError(t, err)
			require.Equal(t, map[string]int{"people": 1}, counts, id)
		}
	}
	state, err := eraseIn(t, db, tables, "6ba7b812-9dad-11d1-80b4-00c04fd430c8")
	require.NoError(t, err)
	require.Equal(t, keystore.StateErased, state)
	var left int
	require.NoError(t, db.QueryRow(ctx, `select count(name) from people`).Scan(&left))
	require.Equal(t, 2, left)
}

// What only looks like a UUID names somebody else in upper case.
func TestIDsThatAreAlmostUUIDs(t *testing.T) {
	id := "client-a-north-b-0000000000000000007"
	upper := strings.ToUpper(id)
	db, tables := world(t, `create table people (id text primary key, name text);
		insert into people values ('`+id+`', 'x'), ('`+upper+`', 'y'), ('6bA7B812-9Dad-11D1-80b4-00c04fd430c8', 'z')`,
		`{tables: {people: {subject: person=id, personal: [name]}}}`)
	state, err := eraseIn(t, db, tables, id)
	require.NoError(t, err)
	require.Equal(t, keystore.StateErased, state)
	var left string
	require.NoError(t, db.QueryRow(t.Context(), `select string_agg(name, ' ' order by name) from people`).Scan(&left))
	require.Equal(t, "y z", left)
}

func TestTablesWithoutAKeyAreRefused(t *testing.T) {
	db, tables := world(t, `create table people (id bigint, name text)`, `{tables: {people: {subject: person=id, personal: [name]}}}`)
	_, err := NewTables(db, keystoretest.New(t), tables, nil)
	require.ErrorIs(t, err, keystore.ErrInvalid)
	require.ErrorContains(t, err, `"public"."people" has no primary key`)
}

// Nobody's operators decide whose rows are found, and a row of somebody else is not blanked
// whatever the database says.
func TestRowsOfSomebodyElse(t *testing.T) {
	ctx := within(t)
	for _, typ := range []string{"text", "varchar(20)", "char(20)", "name", "bigint"} {
		db, tables := world(t, `create table people (who `+typ+` not null, no int primary key, name text);
			insert into people values ('7', 1, 'seven'), ('8', 2, 'eight');
			create function differ(varchar, varchar) returns bool language sql as 'select $1::text <> $2::text';
			create function differ(varchar, text) returns bool language sql as 'select $1::text <> $2::text';
			create operator = (leftarg = varchar, rightarg = varchar, function = differ);
			create operator = (leftarg = varchar, rightarg = text, function = differ);
			create function differ(char, text) returns bool language sql as 'select $1::text <> $2::text';
			create operator = (leftarg = char, rightarg = text, function = differ)`, peopleMap)
		ts, err := NewTables(db, keystoretest.New(t), tables, nil)
		require.NoError(t, err)
		counts, err := ts.Count(ctx, subj(t, "person/7"))
		require.NoError(t, err)
		require.Equal(t, map[string]int{"people": 1}, counts, typ)
		rows, err := tables[0].Page(ctx, db, PageOptions{Limit: 2})
		require.NoError(t, err)
		require.NoError(t, tables[0].allOf(rows[:1], subj(t, "person/7")))
		require.ErrorIs(t, tables[0].allOf(rows, subj(t, "person/7")), keystore.ErrTampered)
	}
}
