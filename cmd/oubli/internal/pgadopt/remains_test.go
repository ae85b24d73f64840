package pgadopt_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// seeker finds values in files, whole or in part: compression by PostgreSQL leaves a run of
// eight literal bytes of a random text of 24 somewhere.
type seeker struct {
	windows map[uint64]string // eight bytes, and whose they are
	filter  [1 << 16]bool
	values  []string
}

// add seeks all eight bytes in a row that a value has.
func (s *seeker) add(name, value string) {
	if s.windows == nil {
		s.windows = map[uint64]string{}
	}
	s.values = append(s.values, name)
	for i := 0; i+8 <= len(value); i++ {
		w := binary.LittleEndian.Uint64([]byte(value[i:]))
		s.windows[w], s.filter[uint16((w*0x9E3779B97F4A7C15)>>48)] = name, true
	}
}

// in returns the names of the values that a directory's files hold, but for those of WAL,
// each with a file that holds it.
func (s *seeker) in(t testing.TB, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case os.IsNotExist(err):
			return nil
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "pg_wal":
			return filepath.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		s.scan(data, func(name string) { found[name] = strings.TrimPrefix(path, dir) })
		return nil
	}))
	return found
}

// scan is slow under the race detector, and shares nothing.
//
//go:norace
func (s *seeker) scan(data []byte, found func(name string)) {
	var w uint64
	for i, b := range data {
		if w = w>>8 | uint64(b)<<56; i < 7 || !s.filter[uint16((w*0x9E3779B97F4A7C15)>>48)] {
			continue
		}
		if name, ok := s.windows[w]; ok {
			found(name)
		}
	}
}

// secret is a random text, added to what is sought.
func (s *seeker) secret(name string) string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	var b strings.Builder
	for range 24 {
		b.WriteByte(letters[rand.IntN(len(letters))])
	}
	s.add(name, b.String())
	return b.String()
}

// moment is a random time, sought in the form that PostgreSQL stores it in, and by the end
// of its text.
func (s *seeker) moment(name string) time.Time {
	at := time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(rand.Int64N(1<<60)) / 1000 * 1000)
	for at.Nanosecond()/1000%10 == 0 {
		at = at.Add(time.Microsecond)
	}
	stored := binary.LittleEndian.AppendUint64(nil, uint64(at.Sub(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).Microseconds()))
	s.add(name, string(stored))
	text := at.Format("2006-01-02T15:04:05.000000Z")
	s.add(name, text[len(text)-8:])
	return at
}

const remainsSQL = `
CREATE TABLE person (
	id int PRIMARY KEY, gone text, mail text, name varchar(30), seen timestamptz, notes text, doc jsonb, photo bytea, city text
) WITH (autovacuum_enabled = false, toast.autovacuum_enabled = false);
ALTER TABLE person ALTER COLUMN notes SET STORAGE EXTERNAL;
CREATE INDEX ON person (lower(mail));
CREATE UNIQUE INDEX ON person (name);
CREATE INDEX ON person (seen);
CREATE STATISTICS together (mcv) ON name, city FROM person;
CREATE STATISTICS inside ON lower(mail), city FROM person;
CREATE TABLE visit (id int, at int, agent text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE visit_1 PARTITION OF visit FOR VALUES FROM (0) TO (10);
CREATE TABLE visit_2 PARTITION OF visit FOR VALUES FROM (10) TO (20);
CREATE TABLE other (id int);
INSERT INTO other VALUES (1)`

const remainsMap = `
tables:
  person: {subject: person=id, personal: [mail, name, seen, notes, doc, photo]}
  visit: {subject: person=id, personal: [agent]}`

func fillRemains(w *ddlWorld, s *seeker) {
	const rows = 60
	for i := 1; i <= rows; i++ {
		name := func(column string) string { return fmt.Sprintf("%s %d", column, i) }
		long := s.secret(name("notes")) + strings.Repeat("0123456789abcdef", 300)
		w.exec(`INSERT INTO person VALUES ($1, $2, $3, $4, $5, $6, jsonb_build_object('email', $7::text, 'n', 1), $8, 'town')`, i, s.secret(name("gone")),
			s.secret(name("mail")), s.secret(name("name")), s.moment(name("seen")), long, s.secret(name("doc")), []byte(s.secret(name("photo"))))
		w.exec(`INSERT INTO visit VALUES ($1, $2, $3)`, i, i%20, s.secret(name("agent")))
	}
	w.exec(`ANALYZE`)
	w.exec(`ALTER TABLE person DROP COLUMN gone`)
	w.exec(`CHECKPOINT`)
	found := s.in(w.t, w.server.Dir())
	for _, name := range s.values {
		require.Contains(w.t, found, name, "a value that this test cannot find, it cannot miss")
	}
	// Dead rows, and values that stand in statistics alone.
	w.exec(`DELETE FROM person WHERE id % 10 = 0; DELETE FROM visit WHERE id % 10 = 0`)
	for i := 1; i <= rows; i += 7 {
		w.exec(`UPDATE person SET mail = $2 WHERE id = $1`, i, s.secret(fmt.Sprintf("new mail %d", i)))
	}
	w.exec(`INSERT INTO person (id, name, mail) SELECT i, 'n' || i, $1 FROM generate_series(1001, 1040) i`, s.secret("common mail"))
	w.exec(`ANALYZE`)
}

func TestNothingRemainsInTheDataDirectory(t *testing.T) {
	pgtest.EachVersion(t, func(t *testing.T, version int) {
		ctx := context.Background()
		server := quickServer(t, version)
		w := newDDLWorld(t, server, remainsSQL, remainsMap)
		s := &seeker{}
		fillRemains(w, s)
		keys := keystoretest.New(t)
		w.widen()
		w.seal(keys)
		w.exec(`CHECKPOINT`)
		found := s.in(t, server.Dir())
		require.Greater(t, len(found), len(s.values)/2, "dead rows and statistics")

		// Somebody could still see the statistics as they were. It has nothing to do with
		// the tables, so it does not keep them from being enforced.
		old, err := pgx.Connect(ctx, w.dsn+"&application_name=report-writer")
		require.NoError(t, err)
		defer old.Close(ctx)
		tx, err := old.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
		require.NoError(t, err)
		_, err = tx.Exec(ctx, `SELECT FROM other`)
		require.NoError(t, err)
		report, err := pgadopt.Enforce(ctx, w.pool, w.tables(), pgadopt.EnforceOptions{Wait: 200 * time.Millisecond})
		require.NoError(t, err)
		require.False(t, report.Clean())
		require.Contains(t, report.Left[0].What, "report-writer")
		require.Zero(t, report.At)
		w.exec(`CHECKPOINT`)
		found = s.in(t, server.Dir())
		require.NotEmpty(t, found)
		require.Equal(t, []string{"pg_statistic", "pg_statistic_ext_data"}, w.relationsOf(found))

		require.NoError(t, tx.Commit(ctx))
		report = w.enforce()
		require.Empty(t, report.Left)
		require.NotZero(t, report.At)
		require.Empty(t, s.in(t, server.Dir()))
		for _, table := range report.Tables {
			require.True(t, table.Already)
		}

		w.exec(`INSERT INTO other VALUES (2)`)
		w.pool.Reset()
		server.Kill()
		server.Up(t)
		require.Empty(t, s.in(t, server.Dir()))
		w.pool.Reset()
		require.Empty(t, w.enforce().Left)
	})
}

// relationsOf names the relations whose files hold what was found, with those that TOAST
// belongs to.
func (w *ddlWorld) relationsOf(found map[string]string) (names []string) {
	w.t.Helper()
	for _, path := range found {
		var name string
		require.NoError(w.t, w.pool.QueryRow(context.Background(), `SELECT COALESCE((SELECT p.relname FROM pg_class p WHERE p.reltoastrelid = c.oid), c.relname)::text
FROM pg_class c WHERE c.oid = pg_filenode_relation(0, split_part(split_part($1, '/', -1), '.', 1)::oid)`, path).Scan(&name), path)
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
