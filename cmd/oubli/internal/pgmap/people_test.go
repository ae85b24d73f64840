package pgmap

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize/admin"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// showing is the shop's map with columns to show.
func showing(customers, staff string) string {
	return strings.NewReplacer(
		"{born: {blank: year}}, photo]", "{born: {blank: year}}, photo]\n    show: "+customers,
		"personal: [name]", "personal: [name]\n    show: "+staff,
	).Replace(shopMap)
}

// people are what the shop's lists show.
func (s *shop) people(yaml string, o *TablesOptions) admin.Columns {
	s.t.Helper()
	tables, err := Load(context.Background(), s.db, mapOf(s.t, yaml))
	require.NoError(s.t, err)
	ts, err := NewTables(s.db, s.keys, tables, o)
	require.NoError(s.t, err)
	return ts.People()
}

// asks ask for people, revealed where there is a ! behind.
func asks(t *testing.T, people ...string) (list []admin.Ask) {
	for _, p := range people {
		name, reveal := strings.CutSuffix(p, "!")
		list = append(list, admin.Ask{Subject: subj(t, name), Reveal: reveal})
	}
	return list
}

func shownIn(t *testing.T, c admin.Columns, people ...string) (lines []string) {
	t.Helper()
	values, err := c.Values(within(t), asks(t, people...))
	require.NoError(t, err)
	require.Len(t, values, len(people))
	for _, row := range values {
		if row == nil {
			lines = append(lines, "none")
			continue
		}
		require.Len(t, row, len(c.Columns()))
		var texts []string
		for _, v := range row {
			switch {
			case v.Masked:
				require.Equal(t, admin.Value{Masked: true}, v)
				texts = append(texts, "***")
			case v.State == "" || v.State == fieldcrypt.StatusOpen:
				texts = append(texts, v.Text)
			default:
				texts = append(texts, v.Text+"("+string(v.State)+")")
			}
		}
		lines = append(lines, strings.Join(texts, "|"))
	}
	return lines
}

func TestPeople(t *testing.T) {
	s := newShop(t, 5)
	s.exec(`insert into customers_of_staff values (1, 'plain')`)
	s.exec(`update customers set photo = null where id = 4`)
	p := s.people(showing("[first_name, country, born, photo]", "[name, id]"), nil)
	require.Equal(t, []admin.Column{{Name: "first_name", Personal: true}, {Name: "country"}, {Name: "born", Personal: true}, {Name: "photo", Personal: true},
		{Name: "name", Personal: true}, {Name: "id"}}, p.Columns())
	s.erase(2)
	_, err := s.keys.Restrict(t.Context(), nil, s.subjects(3)...)
	require.NoError(t, err)

	require.Equal(t, []string{
		`Ada1|NL|1990-05-11|\xff00||`,
		"***|NL|***|***||",
		"none",
		"Erased(erased)|NL|1990(erased)|||",
		"(withheld)|NL|(withheld)|(withheld)||",
		"none",
		"Ada4|NL|1990-05-14|||",
		"||||***|1",
		"none",
	}, shownIn(t, p, "customer/1!", "customer/5", "customer/77!", "customer/2!", "customer/3!", "customer/abc!", "customer/4!", "employee/1", "visitor/1!"))
	require.Equal(t, []string{"***|NL|***|***||", "***|NL|***|***||"}, shownIn(t, p, "customer/2", "customer/1"))
	require.Empty(t, shownIn(t, p))
	require.Nil(t, s.people(shopMap, nil), "nothing is shown")
}

// What is not to be revealed does not leave the database, and no key is asked for. For
// all others it is one query, and one round trip to the keystore.
func TestPeopleAreAskedForAtOnce(t *testing.T) {
	s := newShop(t, 40)
	var everybody []string
	for id := range 40 {
		everybody = append(everybody, fmt.Sprintf("customer/%d", id+1))
	}
	tables, err := Load(t.Context(), s.db, mapOf(t, showing("[first_name, country]", "[name]")))
	require.NoError(t, err)
	counted := &counting{DB: s.db}
	read := func(reveal ...keystore.Subject) []shownRow {
		ts, err := NewTables(s.db, s.keys, tables, nil)
		require.NoError(t, err)
		k := ts.people.kinds[0]
		rows, err := ts.people.read(t.Context(), counted, k, s.subjects(1, 2), reveal)
		require.NoError(t, err)
		return rows
	}
	rows := read(s.subjects(2)...)
	require.Len(t, rows, 2)
	require.True(t, rows[0].cells[1].Null)
	require.False(t, rows[1].cells[1].Null)
	require.Equal(t, 1, counted.queries)

	asked := &asked{Backend: s.backend}
	keys, err := keystore.Open(t.Context(), asked, s.roots, &keystore.Options{CacheSize: 1}) // which asks again
	require.NoError(t, err)
	ts, err := NewTables(s.db, keys, tables, nil)
	require.NoError(t, err)
	before := asked.n.Load()
	shownIn(t, ts.People(), everybody...)
	require.Equal(t, before, asked.n.Load(), "no key is asked for")
	for i := range everybody {
		everybody[i] += "!"
	}
	for i := range 2 { // the first time it reads the pages, too
		before = asked.n.Load()
		require.Equal(t, "Ada40|NL|", shownIn(t, ts.People(), everybody...)[39])
		if n := asked.n.Load() - before; i == 1 {
			require.Equal(t, int64(1), n)
		}
	}
	require.NoError(t, keys.Close())
}

// asked counts how often a backend is read.
type asked struct {
	keystore.Backend
	n atomic.Int64
}

func (a *asked) Get(ctx context.Context, keys [][]byte) ([]keystore.Record, error) {
	a.n.Add(1)
	return a.Backend.Get(ctx, keys)
}

// Close leaves the shop its backend.
func (a *asked) Close() error { return nil }

// counting counts queries.
type counting struct {
	DB
	queries int
}

func (c *counting) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	c.queries++
	return c.DB.Query(ctx, sql, args...)
}

// While a table is adopted its plaintext is masked as what is sealed is. A value that does
// not open hides nothing of the others.
func TestPeopleInTheClear(t *testing.T) {
	s := newShop(t, 3)
	s.exec(`update customers set "First Name" = 'Plain', email = 'p@example.org' where id = 1`)
	yaml := showing("[first_name, country]", "[name]")
	p := s.people(yaml, &TablesOptions{Adopting: func(*Table) bool { return true }})
	require.Equal(t, []string{"***|NL|", "Plain|NL|", "Ada2|NL|"}, shownIn(t, p, "customer/1", "customer/1!", "customer/2!"))

	p = s.people(yaml, nil)
	require.Equal(t, []string{"***|NL|", "(withheld)|NL|", "Ada2|NL|"}, shownIn(t, p, "customer/1", "customer/1!", "customer/2!"))
	s.exec(`update customers set "First Name" = (select "First Name" from customers where id = 3) where id = 2`)
	require.Equal(t, []string{"(withheld)|NL|", "Ada3|NL|"}, shownIn(t, p, "customer/2!", "customer/3!"))
}

// A column is personal under each of its names.
func TestShownNames(t *testing.T) {
	s := newShop(t, 1)
	p := s.people(showing("[First Name, visits]", "[id]"), nil)
	require.Equal(t, []admin.Column{{Name: "First Name", Personal: true}, {Name: "visits"}, {Name: "id"}}, p.Columns())
	require.Equal(t, []string{"***|0|", "Ada1|0|"}, shownIn(t, p, "customer/1", "customer/1!"))
	_, err := Load(t.Context(), s.db, mapOf(t, showing("[firstname]", "[id]")))
	require.ErrorIs(t, err, keystore.ErrInvalid)
	require.ErrorContains(t, err, "has no column firstname")
}

// What is long is cut, between characters.
func TestLongValues(t *testing.T) {
	s := newShop(t, 0)
	s.exec(`insert into customers (id, "First Name", country) values (1, repeat('ü', 301), repeat('é', 100000)), (2, repeat('ü', 300), 'NL')`)
	s.seal(0)
	require.Equal(t, []string{strings.Repeat("ü", 300) + "…|" + strings.Repeat("é", 300) + "…", strings.Repeat("ü", 300) + "|NL"},
		shownIn(t, s.people(strings.Replace(shopMap, "photo]", "photo]\n    show: [first_name, country]", 1), nil), "customer/1!", "customer/2!"))
}

// Of several rows it is the first in the order of the key; values are bound to it.
func TestPeopleOfManyRows(t *testing.T) {
	s := newShop(t, 2)
	yaml := strings.Replace(shopMap, "personal: [{address", "show: [note, no, total]\n    personal: [{address", 1)
	require.Equal(t, []string{"note 1|1|10", "***|1|10"}, shownIn(t, s.people(yaml, nil), "customer/1!", "customer/2"))
}

// A keystore that is away is no answer.
func TestPeopleWithoutTheKeystore(t *testing.T) {
	s := newShop(t, 1)
	keys, err := keystore.Open(t.Context(), &asked{Backend: s.backend}, s.roots, nil)
	require.NoError(t, err)
	tables, err := Load(t.Context(), s.db, mapOf(t, showing("[first_name]", "[name]")))
	require.NoError(t, err)
	ts, err := NewTables(s.db, keys, tables, nil)
	require.NoError(t, err)
	require.NoError(t, keys.Close())
	_, err = ts.People().Values(t.Context(), asks(t, "customer/1!"))
	require.ErrorIs(t, err, keystore.ErrClosed)
}

// Ids of all types find their people, by the index if there is one, on each version.
func TestPeopleByTheirIndex(t *testing.T) {
	pgtest.EachVersion(t, func(t *testing.T, version int) {
		db, err := Connect(t.Context(), pgtest.Start(t, &pgtest.Options{Version: version}).Database(t))
		require.NoError(t, err)
		defer db.Close()
		m := mapOf(t, `{tables: {people: {subject: person=id, personal: [name], show: [name, country]}}}`)
		const a, b = "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6ba7b811-9dad-11d1-80b4-00c04fd430c8"
		for _, c := range []struct{ typ, fill, a, b, not string }{
			{"int", "i", "7", "8", "abc"},
			{"smallint", "i", "7", "8", "99999"},
			{"bigint", "i", "7", "8", "07"},
			{"text", "'p' || i", "p7", "p8", "P7"},
			{"varchar(40)", "'p' || i", "p7", "p8", "P7"},
			{"char(12)", "'p' || i", "p7", "p8", "P7"},
			{"uuid", "('6ba7b8' || lpad(i::text, 2, '0') || '-9dad-11d1-80b4-00c04fd430c8')::uuid", a, b, "abc"},
			{"text", "upper('6ba7b8' || lpad(i::text, 2, '0') || '-9dad-11d1-80b4-00c04fd430c8')", a, b, "abc"},
			{"numeric", "i", "7", "8", "7.0"},
		} {
			t.Run(c.typ, func(t *testing.T) {
				keys := keystoretest.New(t)
				_, err := db.Exec(t.Context(), fmt.Sprintf(`drop table if exists people; create table people (id %s primary key, name text, country text);
					insert into people select * from (select %s, 'secret', 'c' || i from generate_series(1, 99) i) x; analyze people`, c.typ, c.fill))
				require.NoError(t, err)
				tables, err := Load(t.Context(), db, m)
				require.NoError(t, err)
				ts, err := NewTables(db, keys, tables, nil)
				require.NoError(t, err)
				want := []string{"***|c7", "***|c8", "none"}
				if c.a == a {
					want = []string{"***|c10", "***|c11", "none"}
				}
				require.Equal(t, want, shownIn(t, ts.People(), "person/"+c.a, "person/"+c.b, "person/"+c.not))

				k := ts.people.kinds[0]
				explained := &explaining{DB: db}
				_, err = ts.people.read(t.Context(), explained, k, []keystore.Subject{subject(t, "person", c.a), subject(t, "person", c.b)}, nil)
				require.NoError(t, err)
				require.Regexp(t, `(Index|Bitmap Index) Scan (using|on) people_pkey`, explained.plan)
				require.Contains(t, explained.plan, "Index Cond")
			})
		}
	})
}

// explaining notes the plan of each query.
type explaining struct {
	DB
	plan string
}

func (e *explaining) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	tx, err := e.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback(ctx)
	if _, err := tx.Exec(ctx, "set local enable_seqscan = off"); err != nil { // for so few rows it is as good
		return nil, err
	}
	rows, err := tx.Query(ctx, "EXPLAIN "+sql, args...)
	if err != nil {
		return nil, err
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	e.plan = strings.Join(lines, "\n")
	return e.DB.Query(ctx, sql, args...)
}
