package pgadopt_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// types are the columns' types, as SQL writes them.
func (p *people) types() (types []string) {
	p.t.Helper()
	rows, err := p.db.Query(context.Background(), `SELECT attname || ' ' || format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = 'people'::regclass AND attnum > 0 ORDER BY attnum`)
	require.NoError(p.t, err)
	for rows.Next() {
		var s string
		require.NoError(p.t, rows.Scan(&s))
		types = append(types, s)
	}
	require.NoError(p.t, rows.Err())
	return types
}

// Beside writers, an undo gives back what everybody wrote, in the types of before.
func TestUndoBesideWriters(t *testing.T) {
	for _, enforced := range []bool{false, true} {
		t.Run(fmt.Sprintf("enforced=%v", enforced), func(t *testing.T) {
			ctx := t.Context()
			keys := keystoretest.New(t)
			const persons = 100
			p := newPeople(t, pgtest.Shared(t).Database(t), keys, 3000, persons, 2)
			stop := p.write(ctx, persons)
			_, err := pgadopt.Run(ctx, p.config(keys))
			require.NoError(t, err)
			if enforced {
				_, err := pgadopt.Enforce(ctx, p.db, []*pgmap.Table{loadPeople(t, p.db, p.data)}, pgadopt.EnforceOptions{})
				require.NoError(t, err)
			}
			ended, end := context.WithCancel(ctx)
			c := p.config(keys)
			c.Progress = func(at pgadopt.Progress) {
				if at.Step == "open" {
					end()
				}
			}
			_, err = pgadopt.Undo(ended, c) // is interrupted
			require.Error(t, err)
			require.Equal(t, pgadopt.PhaseUndoing, p.phase())
			// Writers that go on to seal would meet a date at the end: they stop a little before.
			c = p.config(keys)
			stopped := false
			c.Progress = func(at pgadopt.Progress) {
				if at.Step == "open" && !stopped {
					stopped = true
					stop()
				}
			}
			report, err := pgadopt.Undo(ctx, c)
			require.NoError(t, err)
			require.True(t, stopped)
			require.Equal(t, pgadopt.PhaseNone, report.Tables[0].Phase)
			require.Equal(t, pgadopt.PhaseNone, p.phase())
			require.Equal(t, []string{"id bigint", "person bigint", "name text", "email character varying(60)", "born date", "photo bytea", "visits integer"}, p.types())
			requireKept(t, p.all(), p.read())
		})
	}
}

// Of people who are erased, replacements come back, and of a year its first of January.
func TestUndoOfErasedPeople(t *testing.T) {
	ctx := t.Context()
	keys := keystoretest.New(t)
	p := newPeople(t, pgtest.Shared(t).Database(t), keys, 30, 10, 0)
	before := p.read()
	_, err := pgadopt.Run(ctx, p.config(keys))
	require.NoError(t, err)
	_, err = keys.Erase(ctx, keystore.Request{Subject: person(t, "3")}, keystore.Request{Subject: person(t, "4")})
	require.NoError(t, err)
	p.exec(`UPDATE people SET born = 'oubli1~AAAAAAAAAAAAAAAA~1951' WHERE person = 4`)
	report, err := pgadopt.Undo(ctx, p.config(keys))
	require.NoError(t, err)
	require.EqualValues(t, 0, report.Tables[0].Unfit)
	for id, h := range before {
		switch h.Person {
		case "3":
			h.Values = [4]string{"Erased", `\N`, `\N`, `\N`}
		case "4":
			h.Values = [4]string{"Erased", `\N`, "1951-01-01", `\N`}
		}
		before[id] = h
	}
	requireKept(t, before, p.read())
}

// What cannot be put back is found and named before anything changes.
func TestUndoNamesWhatCannotBePutBack(t *testing.T) {
	ctx := t.Context()
	keys := keystoretest.New(t)
	p := newPeople(t, pgtest.Shared(t).Database(t), keys, 30, 15, 0)
	p.exec(`UPDATE people SET email = NULL WHERE email = ''`)
	p.exec(`CREATE UNIQUE INDEX people_email ON people (email)`)
	write := func(id int, column, text string) {
		p.exec(`UPDATE people SET `+column+` = $2 WHERE id = $1`, id, text)
	}
	write(1, "email", strings.Repeat("x", 61)) // of 2
	write(2, "born", "yesterday, or so")       // of 3
	write(3, "email", "twice@example.org")     // of 4
	_, err := pgadopt.Run(ctx, p.config(keys))
	require.NoError(t, err)
	write(4, "email", "twice@example.org") // of 5; sealed, they do not collide
	_, err = pgadopt.Run(ctx, p.config(keys))
	require.NoError(t, err)
	require.NoError(t, joined(keys.Restrict(ctx, &keystore.RestrictOptions{Purposes: []string{"undo"}}, person(t, "6"))))
	stored := p.read()

	report, err := pgadopt.Undo(ctx, p.config(keys))
	require.ErrorIs(t, err, keystore.ErrInvalid)
	require.ErrorIs(t, err, keystore.ErrState)
	require.ErrorContains(t, err, "nothing was changed")
	r := report.Tables[0]
	require.Equal(t, pgadopt.PhaseAdopted, r.Phase)
	require.EqualValues(t, 4, r.Unfit)
	require.EqualValues(t, 2*4, r.Withheld)
	var named []string
	for _, n := range r.Named {
		named = append(named, n.String())
	}
	all := strings.Join(named, "\n")
	require.Contains(t, all, "row 1 column email of person/2: it does not fit character varying(60), which the column was")
	require.Contains(t, all, "row 2 column born of person/3: it does not fit date, which the column was")
	require.Contains(t, all, "row 3 column email of person/4: another row has the same, and the unique index people_email takes it once")
	require.Contains(t, all, "row 4 column email of person/5: another row has the same")
	require.Contains(t, all, "row 5 column name of person/6: of somebody who is restricted")
	require.NotContains(t, all+err.Error(), "twice@")
	require.NotContains(t, all+err.Error(), "yesterday")
	require.Equal(t, stored, p.read())
	require.Equal(t, pgadopt.PhaseAdopted, p.phase())

	p.exec(`DELETE FROM people WHERE id IN (1, 2, 4)`)
	report, err = pgadopt.Undo(keystore.WithPurpose(ctx, "undo"), p.config(keys))
	require.NoError(t, err, report)
	require.Len(t, p.read(), 27)
	require.Equal(t, "date", strings.Fields(p.types()[4])[1])
}

// Rows whose values do not open stop an undo before it begins.
func TestUndoOfWhatIsTampered(t *testing.T) {
	ctx := t.Context()
	keys := keystoretest.New(t)
	p := newPeople(t, pgtest.Shared(t).Database(t), keys, 10, 5, 0)
	_, err := pgadopt.Run(ctx, p.config(keys))
	require.NoError(t, err)
	p.exec(`UPDATE people SET name = (SELECT name FROM people WHERE id = 1) WHERE id = 2`)
	report, err := pgadopt.Undo(ctx, p.config(keys))
	require.ErrorIs(t, err, keystore.ErrTampered)
	require.EqualValues(t, 1, report.Tables[0].Bad)
	require.Contains(t, report.Tables[0].Named[0].String(), "row 2 column name of person/3")
	require.Equal(t, pgadopt.PhaseAdopted, p.phase())
}

// Tables of every kind come back as they were, to the byte.
func TestUndoGivesBackTables(t *testing.T) {
	pgtest.EachVersion(t, func(t *testing.T, version int) {
		server := pgtest.Start(t, &pgtest.Options{Version: version})
		ctx := t.Context()
		keys := keystoretest.New(t)
		w := newDDLWorld(t, server, readTestdata(t, "fights-back.sql"), readTestdata(t, "fights-back.yaml"))
		rows := func() (all []string) {
			for _, table := range w.tables() {
				found, err := w.pool.Query(ctx, "SELECT t::text FROM "+table.Quoted+" t ORDER BY t::text COLLATE \"C\"")
				require.NoError(t, err)
				list, err := pgx.CollectRows(found, pgx.RowTo[string])
				require.NoError(t, err)
				all = append(append(all, table.Quoted), list...)
			}
			return all
		}
		before, definitions := rows(), w.definitions()
		w.widen()
		w.seal(keys)
		c := pgadopt.Config{DB: w.pool, Keys: keys, Tables: w.tables()}
		_, err := pgadopt.Verify(ctx, c)
		require.NoError(t, err)
		require.NotEqual(t, before, rows())
		report, err := pgadopt.Undo(ctx, c)
		require.NoError(t, err, "%+v", report)
		require.Equal(t, before, rows())
		require.Equal(t, definitions, w.definitions())
	})
}

// Rows of nobody, as the orders of guests, have nothing to open, and are in nobody's way.
func TestUndoWithRowsOfNobody(t *testing.T) {
	w := newDDLWorld(t, pgtest.Shared(t), `CREATE TABLE t (id bigint PRIMARY KEY, person bigint, name varchar(20));
INSERT INTO t SELECT i, i, 'Name ' || i FROM generate_series(1, 5) i; INSERT INTO t VALUES (6), (7)`, `{tables: {t: {subject: person=person, personal: [name]}}}`)
	keys := keystoretest.New(t)
	w.widen()
	w.seal(keys)
	w.exec(`UPDATE t SET name = 'Guest' WHERE id = 6; UPDATE t SET person = NULL WHERE id = 1`)
	report, err := pgadopt.Undo(t.Context(), w.config(keys))
	require.ErrorIs(t, err, keystore.ErrTampered) // nobody can tell whose it is
	require.EqualValues(t, 1, report.Tables[0].Bad)
	require.Contains(t, report.Tables[0].Named[0].String(), "row 1")
	w.exec(`UPDATE t SET person = 1 WHERE id = 1`)
	_, err = pgadopt.Undo(t.Context(), w.config(keys))
	require.NoError(t, err)
	require.Equal(t, `(1,1,"Name 1") (2,2,"Name 2") (3,3,"Name 3") (4,4,"Name 4") (5,5,"Name 5") (6,,Guest) (7,,)`, w.read())
}

// What only the database can judge is found late, and in words that help; nothing is lost.
func TestUndoMeetsWhatIsNotKept(t *testing.T) {
	w := newDDLWorld(t, pgtest.Shared(t), `CREATE TABLE t (id bigint PRIMARY KEY, name text CHECK (name LIKE '%@%'));
INSERT INTO t SELECT i, 'Name@' || i FROM generate_series(1, 4) i; CREATE UNIQUE INDEX low ON t (lower(name))`, `{tables: {t: {subject: person=id, personal: [{name: {replace: Erased}}]}}}`)
	keys := keystoretest.New(t)
	w.widen()
	w.seal(keys)
	_, err := keys.Erase(t.Context(), keystore.Request{Subject: person(t, "3")}, keystore.Request{Subject: person(t, "4")})
	require.NoError(t, err)
	_, err = pgadopt.Undo(t.Context(), w.config(keys))
	require.ErrorContains(t, err, "constraint low")
	require.ErrorContains(t, err, "replacements of erased people")
	w.exec(`DELETE FROM t WHERE id = 4`)
	_, err = pgadopt.Undo(t.Context(), w.config(keys))
	require.ErrorContains(t, err, "t_name_check")
	require.ErrorContains(t, err, "replacements of erased people")
	w.exec(`UPDATE t SET name = 'gone@3' WHERE id = 3`)
	_, err = pgadopt.Undo(t.Context(), w.config(keys))
	require.NoError(t, err)
	require.Equal(t, `(1,Name@1) (2,Name@2) (3,gone@3)`, w.read())
}

// joined is the error of a call that is about one subject.
func joined(errs []error, err error) error { return errors.Join(append(errs, err)...) }
