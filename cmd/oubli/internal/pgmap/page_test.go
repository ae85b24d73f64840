package pgmap

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/cmd/oubli/internal/datamap"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const oddities = `
create schema "Odd.Schema";
create type mood as enum ('glad', 'sad');
create table "Odd.Schema"."Person Table" (
	"Tenant" uuid not null, "No" int not null, "E-Mail" varchar(60), born date, seen timestamptz, met timestamp,
	photo bytea, feels mood, note text, stars numeric, primary key ("Tenant", "No"));
insert into "Odd.Schema"."Person Table" values
	('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 1, 'a@b', '1990-05-17', '2001-02-03 04:05:06.789+02', '2001-02-03 04:05:00', '\x00ff', 'glad', '', 1.50),
	('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 2, null, null, null, null, null, null, null, null),
	('6ba7b811-9dad-11d1-80b4-00c04fd430c8', 1, 'oubli1.no', '0001-01-01', 'epoch', '2020-12-31 23:59:59.000001', '', 'sad', 'oubli1~AAAAAAAAAAAA~1990', 0);
`

const oddMap = `
tables:
  people:
    db: '"Odd.Schema"."Person Table"'
    subject: person=No
    key: Tenant
    personal: [{email: {db: E-Mail}}, born, seen, met, photo, feels, note, stars]
`

// world loads tables from SQL.
func world(t *testing.T, sql, yaml string) (*pgxpool.Pool, []*Table) {
	t.Helper()
	pool, err := Connect(context.Background(), pgtest.Shared(t).Database(t))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	_, err = pool.Exec(context.Background(), sql)
	require.NoError(t, err)
	tables, err := Load(context.Background(), pool, mapOf(t, yaml))
	require.NoError(t, err)
	return pool, tables
}

func mapOf(t testing.TB, yaml string) *datamap.Map {
	t.Helper()
	m, err := datamap.Parse("map", []byte(yaml))
	require.NoError(t, err)
	return m
}

func texts(cells []fieldcrypt.Cell) []string {
	var list []string
	for _, c := range cells {
		if c.Null {
			list = append(list, "NULL")
		} else {
			list = append(list, c.Text)
		}
	}
	return list
}

func TestRowsOfAllTypes(t *testing.T) {
	ctx := t.Context()
	db, tables := world(t, oddities, oddMap)
	p := tables[0]
	require.Equal(t, `"Odd.Schema"."Person Table"`, p.Quoted)
	require.Equal(t, []string{"No", "Tenant", "email", "born", "seen", "met", "photo", "feels", "note", "stars"}, p.Names())
	rows, err := p.Page(ctx, db, PageOptions{Limit: 10})
	require.NoError(t, err)
	require.Len(t, rows, 3)
	require.Equal(t, []string{"1", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "a@b", "1990-05-17", "2001-02-03T02:05:06.789Z",
		"2001-02-03T04:05:00Z", "\x00\xff", "glad", "", "1.50"}, texts(rows[0].Cells))
	require.Equal(t, []string{"NULL", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL"}, texts(rows[1].Cells[2:]))
	require.Equal(t, []string{"oubli1.no", "0001-01-01", "1970-01-01T00:00:00Z", "2020-12-31T23:59:59.000001Z", "", "sad",
		"oubli1~AAAAAAAAAAAA~1990", "0"}, texts(rows[2].Cells[2:]))

	second, err := p.Page(ctx, db, PageOptions{After: rows[0].Key, Limit: 1})
	require.NoError(t, err)
	require.Equal(t, rows[1:2], second)
	plain, err := p.Page(ctx, db, PageOptions{Limit: 10, Only: Plain})
	require.NoError(t, err)
	require.Equal(t, []Row{rows[0], rows[2]}, plain)
	sealed, err := p.Page(ctx, db, PageOptions{Limit: 10, Only: Sealed})
	require.NoError(t, err)
	require.Equal(t, []Row{rows[2]}, sealed)
	again, err := p.Again(ctx, db, [][]string{rows[2].Key, {rows[0].Key[0], "7"}})
	require.NoError(t, err)
	require.Equal(t, []Row{rows[2]}, again)
}

// Only the version that was read is written; what others changed, lock or deleted is missed.
func TestSaveIsCompareAndSet(t *testing.T) {
	ctx := t.Context()
	db, tables := world(t, `
create table people (id bigint primary key, email text, photo bytea, logins int default 0);
insert into people select i, 'p' || i, decode('00', 'hex') from generate_series(1, 6) i`,
		`{tables: {people: {subject: person=id, personal: [email, photo]}}}`)
	p := tables[0]
	require.Equal(t, []string{"id", "email", "photo"}, p.Names())
	rows, err := p.Page(ctx, db, PageOptions{Limit: 10})
	require.NoError(t, err)
	for i := range rows {
		rows[i].Cells[1] = fieldcrypt.Cell{Text: "new"}
		rows[i].Cells[2] = fieldcrypt.Cell{Text: "\x00\xfe", Null: i == 0}
	}
	_, err = db.Exec(ctx, `update people set logins = 1 where id = 2; delete from people where id = 3`)
	require.NoError(t, err)
	tx, err := db.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(ctx)
	_, err = tx.Exec(ctx, `select from people where id = 4 for update`)
	require.NoError(t, err)
	missed, err := p.Save(ctx, db, rows, SaveOptions{SkipLocked: true})
	require.NoError(t, err)
	require.NoError(t, tx.Rollback(ctx))
	require.Equal(t, rows[1:4], missed)

	now, err := p.Page(ctx, db, PageOptions{Limit: 10})
	require.NoError(t, err)
	var got [][]string
	for _, r := range now {
		got = append(got, texts(r.Cells))
	}
	require.Equal(t, [][]string{{"1", "new", "NULL"}, {"2", "p2", "\x00"}, {"4", "p4", "\x00"}, {"5", "new", "\x00\xfe"}, {"6", "new", "\x00\xfe"}}, got)
	missed, err = p.Save(ctx, db, rows[3:4], SaveOptions{})
	require.NoError(t, err)
	require.Empty(t, missed, "a lock that is gone changed nothing")
	missed, err = p.Save(ctx, db, rows[3:4], SaveOptions{})
	require.NoError(t, err)
	require.Len(t, missed, 1, "saved twice from one reading")
}

func TestForms(t *testing.T) {
	ctx := t.Context()
	db, _ := world(t, `create table people (id int primary key, email text)`, `{tables: {people: {subject: p=id, personal: [email]}}}`)
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnop-_"
	for text, want := range map[string]bool{
		"oubli1." + letters: true, "oubli1." + letters[1:]: false, "oubli1." + letters + "=": false, "oubli1." + letters + "\n": false,
		"oubli1~ABCDEFGHIJ~": true, "oubli1~ABCDEFGHIJ~any thing": true, "oubli1~ABCDEFGHI~": false, "oubli1~ABCDEFGHIJ": false,
		"": false, "x oubli1." + letters: false, "x\noubli1." + letters: false, "OUBLI1." + letters: false,
	} {
		var is bool
		require.NoError(t, db.QueryRow(ctx, "select "+LooksSealed("$1::text"), text).Scan(&is))
		require.Equal(t, want, is, "%q", text)
	}
	long := string(make([]byte, 32))
	for data, want := range map[string]bool{
		"\xb1" + long: true, "\xb1" + long[1:]: false, "oubli1." + letters: true, "oubli1." + letters[1:]: false, "oubli1." + letters + "\xff": false, "\xb0" + long: false, "": false, "\xb1": false,
		"oubli1~ABCDEFGHIJ~\xff": true, "oubli1~ABCDEFGHIJ": false, "oubli1~ABC\\EFGHIJ~xxxxx": false,
	} {
		var is bool
		require.NoError(t, db.QueryRow(ctx, "select "+LooksSealedBytes("$1::bytea"), []byte(data)).Scan(&is))
		require.Equal(t, want, is, "%q", data)
	}
}

func TestLoadNamesAllMistakes(t *testing.T) {
	ctx := t.Context()
	db, _ := world(t, `create table people (id int primary key, email text)`, `{tables: {people: {subject: p=id, personal: [email]}}}`)
	m, err := datamap.Parse("map", []byte(`
tables:
  people: {subject: person=id, key: No, personal: [mail]}
  others: {subject: person=id, personal: [email]}
  twice: {db: public.people, subject: person=id, personal: [email]}
  again: {db: people, subject: person=id, personal: [email]}`))
	require.NoError(t, err)
	_, err = Load(ctx, db, m)
	require.ErrorIs(t, err, keystore.ErrInvalid)
	require.ErrorContains(t, err, `table "people": "public"."people" has no column No, mail`)
	require.ErrorContains(t, err, `table "others": the database has no table "others"`)
	require.ErrorContains(t, err, `tables "twice" and "again" are both "public"."people"`)
}

// An error never repeats a DSN, nor a value.
func TestErrorsTellNothing(t *testing.T) {
	ctx := t.Context()
	for _, dsn := range []string{"postgres://u:s3cret@/%zz", "postgres://u:s3cret@127.0.0.1:1/x?connect_timeout=1"} {
		_, err := Connect(ctx, dsn)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "s3cret")
	}
	db, _ := world(t, `create table people (id int primary key, email text check (email like '%@%'), born date not null)`,
		`{tables: {people: {subject: p=id, personal: [email]}}}`)
	for _, sql := range []string{
		`insert into people values (1, 's3cret', '2000-01-01')`,
		`insert into people values (1, 's3cret@', null)`,
		`insert into people values (1, 's3cret@', 's3cret'::text::date)`,
		`select 's3cret'::text::int`,
		`do $$ begin raise 's3cret'; end $$`,
		`insert into people values (7, 's3cret@', '2000-01-01'), (7, 's3cret@', '2000-01-01')`,
	} {
		_, err := db.Exec(ctx, sql)
		err = Fail("try", err)
		require.Error(t, err, sql)
		require.NotContains(t, err.Error(), "s3cret", sql)
		require.Contains(t, err.Error(), "SQLSTATE", sql)
	}
}

func TestCount(t *testing.T) {
	ctx := t.Context()
	db, tables := world(t, oddities, oddMap)
	for f, want := range map[Filter]int64{All: 3, Plain: 2, Sealed: 1} {
		n, err := tables[0].Count(ctx, db, f)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
}
