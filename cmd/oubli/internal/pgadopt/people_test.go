package pgadopt_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/cmd/oubli/internal/datamap"
	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// The table that is adopted beside writers: several rows of a person, and values that are
// bound to their row.
const (
	peopleSQL = `CREATE TABLE people (
	id bigint PRIMARY KEY, person bigint NOT NULL, name text NOT NULL, email varchar(60), born date, photo bytea, visits int NOT NULL DEFAULT 0)`
	peopleMap = `{tables: {people: {subject: person=person, key: id, personal: [{name: {replace: Erased}}, email, {born: {blank: year}}, photo]}}}`
	// fill makes rows 1 to $1 of $2 people, with a NULL and an empty value now and then.
	fill = `INSERT INTO people SELECT i, 1 + i % $2, 'name ' || i, CASE WHEN i % 7 = 0 THEN NULL WHEN i % 11 = 0 THEN '' ELSE 'mail' || i || '@example.org' END,
	'1950-01-01'::date + i % 20000, decode(md5(i::text), 'hex') FROM generate_series(1, $1) i`
)

// human is a row as its application knows it: what is personal is in the clear.
type human struct {
	Person string
	Values [4]string // \N: NULL
	Visits int
}

// people is that table, and what its writers know of it.
type people struct {
	t     testing.TB
	db    *pgxpool.Pool // of the application
	data  *datamap.Map
	codec *fieldcrypt.BoundRows
	known []map[int]human // by writer, the rows that it alone changes
}

func loadPeople(t testing.TB, db *pgxpool.Pool, data *datamap.Map) *pgmap.Table {
	t.Helper()
	tables, err := pgmap.Load(context.Background(), db, data)
	require.NoError(t, err)
	return tables[0]
}

// newPeople makes and widens the table, for so many writers.
func newPeople(t testing.TB, dsn string, keys *keystore.Store, rows, persons, writers int) *people {
	t.Helper()
	ctx := context.Background()
	p := &people{t: t, db: connectTo(t, dsn)}
	for _, sql := range []string{peopleSQL, "ALTER DATABASE " + p.db.Config().ConnConfig.Database + " SET synchronous_commit = off"} {
		_, err := p.db.Exec(ctx, sql)
		require.NoError(t, err)
	}
	_, err := p.db.Exec(ctx, fill, rows, persons)
	require.NoError(t, err)
	p.data, err = datamap.Parse("map.yaml", []byte(peopleMap))
	require.NoError(t, err)
	p.known = make([]map[int]human, writers)
	for i := range p.known {
		p.known[i] = map[int]human{}
	}
	before := p.read()
	if writers > 0 {
		for id, h := range before {
			p.known[id%writers][id] = h
		}
	}
	require.NoError(t, pgadopt.Widen(ctx, p.db, loadPeople(t, p.db, p.data), nil))
	table := loadPeople(t, p.db, p.data)
	p.codec, err = table.Codec(keys, true)
	require.NoError(t, err)
	return p
}

func (p *people) exec(sql string, args ...any) {
	p.t.Helper()
	_, err := p.db.Exec(context.Background(), sql, args...)
	require.NoError(p.t, err)
}

func (p *people) config(keys *keystore.Store) pgadopt.Config {
	return pgadopt.Config{DB: p.db, Keys: keys, Tables: []*pgmap.Table{loadPeople(p.t, p.db, p.data)}}
}

func (p *people) phase() pgadopt.Phase {
	p.t.Helper()
	records, err := pgadopt.Records(context.Background(), p.db)
	require.NoError(p.t, err)
	if records["people"] == nil {
		return pgadopt.PhaseNone
	}
	return records["people"].Phase
}

const selectPeople = `SELECT id::int, person::text, name, email, born::text, photo, visits FROM people`

func scanHuman(row pgx.CollectableRow) (id int, person string, cells []fieldcrypt.Cell, visits int, err error) {
	var texts [3]*string
	var photo []byte
	err = row.Scan(&id, &person, &texts[0], &texts[1], &texts[2], &photo, &visits)
	cells = []fieldcrypt.Cell{{Text: person}, {Text: strconv.Itoa(id)}}
	for _, s := range texts {
		if s == nil {
			cells = append(cells, fieldcrypt.Cell{Null: true})
		} else {
			cells = append(cells, fieldcrypt.Cell{Text: *s})
		}
	}
	return id, person, append(cells, fieldcrypt.Cell{Text: string(photo), Null: photo == nil}), visits, err
}

func humanOf(person string, cells []fieldcrypt.Cell, visits int) human {
	h := human{Person: person, Visits: visits}
	for i, c := range cells[2:] {
		if h.Values[i] = c.Text; c.Null {
			h.Values[i] = `\N`
		}
	}
	return h
}

// read returns the rows as they stand.
func (p *people) read() map[int]human {
	p.t.Helper()
	rows, err := p.db.Query(context.Background(), selectPeople)
	require.NoError(p.t, err)
	all := map[int]human{}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		id, person, cells, visits, err := scanHuman(row)
		all[id] = humanOf(person, cells, visits)
		return struct{}{}, err
	})
	require.NoError(p.t, err)
	return all
}

// opened returns the rows as a codec reads them that takes no plaintext.
func (p *people) opened(keys *keystore.Store) map[int]human {
	p.t.Helper()
	ctx := context.Background()
	codec, err := loadPeople(p.t, p.db, p.data).Codec(keys, false)
	require.NoError(p.t, err)
	rows, err := p.db.Query(ctx, selectPeople)
	require.NoError(p.t, err)
	var cells [][]fieldcrypt.Cell
	var ids, visits []int
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		id, _, c, v, err := scanHuman(row)
		ids, visits, cells = append(ids, id), append(visits, v), append(cells, c)
		return struct{}{}, err
	})
	require.NoError(p.t, err)
	_, err = codec.Open(ctx, cells)
	require.NoError(p.t, err)
	all := map[int]human{}
	for i, c := range cells {
		all[ids[i]] = humanOf(c[0].Text, c, visits[i])
	}
	return all
}

// all is what the writers know together.
func (p *people) all() map[int]human {
	all := map[int]human{}
	for _, k := range p.known {
		maps.Copy(all, k)
	}
	return all
}

// write lets every writer change its rows until ctx ends, at some hundred a second each.
// An error is one of the application, which the adoption must never cause.
func (p *people) write(ctx context.Context, persons int) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	for w := range p.known {
		all.Go(func() {
			next := 1_000_000 + w
			for ctx.Err() == nil {
				if err := p.change(w, &next, persons); err != nil {
					p.t.Errorf("writer %d: %v", w, err)
					return
				}
				time.Sleep(rand.N(4 * time.Millisecond))
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// change makes one change, as an application does that reads and writes through a codec.
func (p *people) change(w int, next *int, persons int) error {
	ctx := context.Background()
	known := p.known[w]
	var id int
	for id = range known { // any
		break
	}
	h := known[id]
	what := rand.IntN(10)
	switch {
	case what == 0 || len(known) == 0:
		id = *next
		*next += len(p.known)
		h = human{Person: strconv.Itoa(1 + rand.IntN(persons)), Values: [4]string{"new " + strconv.Itoa(id), `\N`, "2001-02-03", "photo"}}
		return p.save(ctx, "INSERT INTO people VALUES ($1, $2, $3, $4, $5, $6, $7)", w, id, h)
	case what == 1:
		_, err := p.db.Exec(ctx, "DELETE FROM people WHERE id = $1", id)
		delete(known, id)
		return err
	case what <= 5:
		_, err := p.db.Exec(ctx, "UPDATE people SET visits = visits + 1 WHERE id = $1", id)
		h.Visits++
		known[id] = h
		return err
	}
	return pgx.BeginFunc(ctx, p.db, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, selectPeople+" WHERE id = $1 FOR UPDATE", id)
		if err != nil {
			return err
		}
		cells, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) ([]fieldcrypt.Cell, error) {
			_, _, cells, _, err := scanHuman(row)
			return cells, err
		})
		if err != nil {
			return err
		}
		if _, err := p.codec.Open(ctx, [][]fieldcrypt.Cell{cells}); err != nil {
			return err
		}
		if got := humanOf(h.Person, cells, h.Visits); got != h {
			return fmt.Errorf("row %d reads otherwise than it was written", id)
		}
		if what == 6 {
			h.Person = strconv.Itoa(1 + rand.IntN(persons)) // the row becomes somebody else's
		} else {
			h.Values[rand.IntN(2)] = "changed " + strconv.Itoa(rand.IntN(1e6))
			h.Values[3] = `\N`
		}
		return p.saveIn(ctx, tx, "UPDATE people SET person = $2, name = $3, email = $4, born = $5, photo = $6, visits = $7 WHERE id = $1", w, id, h)
	})
}

func (p *people) save(ctx context.Context, sql string, w, id int, h human) error {
	return pgx.BeginFunc(ctx, p.db, func(tx pgx.Tx) error { return p.saveIn(ctx, tx, sql, w, id, h) })
}

// saveIn seals a row and writes it. A writer's transaction always commits.
func (p *people) saveIn(ctx context.Context, tx pgx.Tx, sql string, w, id int, h human) error {
	cells := []fieldcrypt.Cell{{Text: h.Person}, {Text: strconv.Itoa(id)}}
	for _, v := range h.Values {
		cells = append(cells, fieldcrypt.Cell{Text: v, Null: v == `\N`})
	}
	if err := p.codec.Seal(ctx, [][]fieldcrypt.Cell{cells}); err != nil {
		return err
	}
	person, err := strconv.Atoi(h.Person)
	if err != nil {
		return err
	}
	args := []any{id, person}
	for i, c := range cells[2:] {
		switch {
		case c.Null:
			args = append(args, nil)
		case i == 3:
			args = append(args, []byte(c.Text))
		default:
			args = append(args, c.Text)
		}
	}
	if _, err := tx.Exec(ctx, sql, append(args, h.Visits)...); err != nil {
		return err
	}
	p.known[w][id] = h
	return nil
}

// requireKept checks that every row is what its writer knows, and nothing else is there.
func requireKept(t testing.TB, want, got map[int]human) {
	t.Helper()
	ids := slices.Sorted(maps.Keys(want))
	require.Equal(t, ids, slices.Sorted(maps.Keys(got)), "rows")
	for _, id := range ids {
		require.Equal(t, want[id], got[id], "row %d", id)
	}
}
