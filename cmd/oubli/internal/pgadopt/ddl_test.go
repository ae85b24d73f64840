package pgadopt_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

const plainPerson = `
CREATE TABLE person (id int PRIMARY KEY, mail varchar(50), born date);
CREATE VIEW mails AS SELECT mail FROM person;
INSERT INTO person VALUES (1, 'ada@example.org', '1815-12-10')`

const plainPersonMap = `
tables:
  person: {subject: person=id, personal: [mail, born]}`

// hold opens a session of its own and runs a statement in a transaction.
func (w *ddlWorld) hold(name, sql string) *pgx.Conn {
	w.t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, w.dsn+"&application_name="+name)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close(ctx) })
	_, err = conn.Exec(ctx, "BEGIN; "+sql)
	require.NoError(w.t, err)
	return conn
}

func TestWhoHoldsALockIsNamed(t *testing.T) {
	ctx := t.Context()
	w := newDDLWorld(t, pgtest.Shared(t), plainPerson, plainPersonMap)
	before := w.definitions()
	holder := w.hold("nightly-report", "SELECT * FROM mails")
	table := w.tables()[0]

	// Whoever comes after us waits no longer than we do.
	var slowest time.Duration
	done := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		conn, err := pgx.Connect(ctx, w.dsn)
		if err != nil {
			return
		}
		defer conn.Close(ctx)
		for {
			start := time.Now()
			if _, err := conn.Exec(ctx, "SELECT FROM person"); err != nil {
				return
			}
			slowest = max(slowest, time.Since(start))
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	err := pgadopt.RetryFor(ctx, w.pool, table, "widen", 1, func(ctx context.Context, tx pgx.Tx) error {
		return pgadopt.Lock(ctx, tx, table)
	})
	close(done)
	reader.Wait()
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "nightly-report")
	require.ErrorContains(t, err, "idle in transaction")
	require.Regexp(t, `process \d+ `, err.Error())
	require.NotContains(t, err.Error(), "SELECT")
	require.Less(t, slowest, 10*time.Second)
	require.Positive(t, slowest)
	require.Equal(t, before, w.definitions())

	// It is tried again.
	time.AfterFunc(500*time.Millisecond, func() { _ = holder.Close(context.Background()) })
	require.NoError(t, pgadopt.Widen(ctx, w.pool, table, nil))
	require.Equal(t, map[string]pgadopt.Phase{"person": pgadopt.PhaseWidened}, w.phases())
}

func TestManyWidenAtOnce(t *testing.T) {
	w := newDDLWorld(t, pgtest.Shared(t), plainPerson+`; CREATE TABLE other (id int PRIMARY KEY, name char(4))`, plainPersonMap+`
  other: {subject: person=id, personal: [name]}`)
	tables := w.tables()
	errs := make([]error, 8)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { errs[i] = pgadopt.Widen(context.Background(), w.pool, tables[i%2], nil) })
	}
	all.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	require.Len(t, w.phases(), 2)
}

func TestWhatDoesNotGoLeavesEverything(t *testing.T) {
	ctx := t.Context()
	w := newDDLWorld(t, pgtest.Shared(t), plainPerson+`; CREATE VIEW ages AS SELECT born + 1 AS next FROM person`, plainPersonMap)
	before := w.definitions()
	err := pgadopt.Widen(ctx, w.pool, w.tables()[0], nil)
	require.ErrorContains(t, err, `view "public"."ages"`)
	require.ErrorIs(t, err, keystore.ErrInvalid)
	w.exec(`DROP VIEW ages; CREATE VIEW mine AS SELECT * FROM mails; CREATE MATERIALIZED VIEW m AS SELECT * FROM mine`)
	err = pgadopt.Widen(ctx, w.pool, w.tables()[0], nil)
	require.ErrorContains(t, err, "materialized view public.m depends on view public.mine")
	w.exec(`DROP MATERIALIZED VIEW m; DROP VIEW mine; CREATE VIEW ages AS SELECT born + 1 AS next FROM person`)
	require.Equal(t, before, w.definitions())

	plan := &pgadopt.Plan{Findings: []pgadopt.Finding{{Level: pgadopt.Blocks, Table: "person", What: "is in the way", Do: "move it"}}}
	err = pgadopt.Widen(ctx, w.pool, w.tables()[0], plan)
	require.ErrorContains(t, err, "is in the way; move it")
	require.ErrorIs(t, err, keystore.ErrInvalid)

	// A value that does not fit the type is neither quoted nor cut off.
	w.exec(`DROP VIEW ages`)
	before = w.definitions()
	w.widen()
	require.NoError(t, pgadopt.Reopen(ctx, w.pool, w.tables()[0]))
	table := w.tables()[0]
	for _, sql := range []string{`UPDATE person SET born = 'topsecret'`, `UPDATE person SET born = '1815-12-10', mail = repeat('topsecret', 9)`} {
		w.exec(sql)
		err = pgadopt.RetryDDL(ctx, w.pool, table, "undo", func(ctx context.Context, tx pgx.Tx) error {
			if err := pgadopt.Lock(ctx, tx, table); err != nil {
				return err
			}
			return pgadopt.Restore(ctx, tx, table)
		})
		require.ErrorIs(t, err, keystore.ErrInvalid)
		require.NotContains(t, err.Error(), "topsecret")
		require.Equal(t, map[string]pgadopt.Phase{"person": pgadopt.PhaseUndoing}, w.phases())
	}
	w.exec(`UPDATE person SET mail = repeat('x', 50)`)
	w.putBack()
	require.Equal(t, before, w.definitions())
}

func TestPhases(t *testing.T) {
	ctx := t.Context()
	w := newDDLWorld(t, pgtest.Shared(t), plainPerson, plainPersonMap)
	require.Empty(t, w.phases())
	enforce := func() error {
		_, err := pgadopt.Enforce(ctx, w.pool, w.tables(), pgadopt.EnforceOptions{})
		return err
	}
	require.ErrorIs(t, pgadopt.Reopen(ctx, w.pool, w.tables()[0]), keystore.ErrState)
	require.ErrorIs(t, enforce(), keystore.ErrState)
	w.widen()
	err := enforce()
	require.ErrorIs(t, err, keystore.ErrState)
	require.ErrorContains(t, err, "plaintext left")
	require.NotContains(t, err.Error(), "ada@")
	w.seal(keystoretest.New(t))
	require.NoError(t, enforce())
	require.Equal(t, pgadopt.PhaseEnforced, w.phases()["person"])
	require.NoError(t, pgadopt.Widen(ctx, w.pool, w.tables()[0], nil))
	require.ErrorIs(t, pgadopt.SaveCursor(ctx, w.pool, "person", pgadopt.PhaseWidened, nil, 0), pgadopt.ErrPhase)
	require.NoError(t, pgadopt.Reopen(ctx, w.pool, w.tables()[0]))
	require.NoError(t, pgadopt.Reopen(ctx, w.pool, w.tables()[0]))
	require.ErrorIs(t, enforce(), keystore.ErrState)
	require.ErrorIs(t, pgadopt.Widen(ctx, w.pool, w.tables()[0], nil), keystore.ErrState)
	require.NoError(t, pgadopt.SaveCursor(ctx, w.pool, "person", pgadopt.PhaseUndoing, []string{"1", ""}, 7))
	records, err := pgadopt.Records(ctx, w.pool)
	require.NoError(t, err)
	r := records["person"]
	require.Equal(t, []string{"1", ""}, r.Cursor)
	require.EqualValues(t, 7, r.Done)
	require.NotZero(t, r.Widened)
	require.NotZero(t, r.Enforced)
	require.NotEmpty(t, r.Server)

	// What the map says now is not what was adopted.
	for yaml, says := range map[string]string{
		"tables:\n  person: {subject: person=id, personal: [mail]}":                  "born",
		"tables:\n  person: {db: other, subject: person=id, personal: [mail, born]}": `"public"."other"`,
	} {
		other := newDDLWorld(t, w.server, `CREATE TABLE other (id int PRIMARY KEY, mail text, born text)`, yaml)
		other.pool, other.dsn = w.pool, w.dsn
		w.exec(`CREATE TABLE IF NOT EXISTS other (id int PRIMARY KEY, mail text, born text)`)
		err := pgadopt.Reopen(ctx, w.pool, other.tables()[0])
		require.ErrorIs(t, err, keystore.ErrInvalid)
		require.ErrorContains(t, err, says)
	}
}

func TestPlaintextThatIsWrittenMeanwhile(t *testing.T) {
	ctx := t.Context()
	w := newDDLWorld(t, pgtest.Shared(t), plainPerson, plainPersonMap)
	w.widen()
	w.seal(keystoretest.New(t))
	before := w.definitions()
	conn := w.hold("an-old-program", `INSERT INTO person VALUES (2, 'topsecret')`)
	tables := w.tables()
	var writer sync.WaitGroup
	writer.Go(func() { // ends when the lock is waited for
		for waiting := false; !waiting && ctx.Err() == nil; time.Sleep(time.Millisecond) {
			err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'person'::regclass AND NOT granted)`).Scan(&waiting)
			if err != nil {
				return
			}
		}
		_, _ = conn.Exec(ctx, "COMMIT")
	})
	_, err := pgadopt.Enforce(ctx, w.pool, tables, pgadopt.EnforceOptions{})
	writer.Wait()
	require.ErrorIs(t, err, keystore.ErrInvalid)
	require.ErrorContains(t, err, "oubli adopt run")
	require.NotContains(t, err.Error(), "topsecret")
	require.Equal(t, before, w.definitions())
	require.Equal(t, pgadopt.PhaseAdopted, w.phases()["person"])
}

func TestBookkeepingThatIsNotOurs(t *testing.T) {
	ctx := t.Context()
	w := newDDLWorld(t, pgtest.Shared(t), plainPerson, plainPersonMap)
	w.exec(`CREATE SCHEMA oubli_adopt`)
	_, err := pgadopt.Records(ctx, w.pool)
	require.ErrorIs(t, err, keystore.ErrInvalid)
	require.ErrorIs(t, pgadopt.Widen(ctx, w.pool, w.tables()[0], nil), keystore.ErrInvalid)
	w.exec(`DROP SCHEMA oubli_adopt`)
	w.widen()
	w.exec(`UPDATE oubli_adopt.version SET version = 2`)
	_, err = pgadopt.Records(ctx, w.pool)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "newer oubli")
	w.exec(`UPDATE oubli_adopt.version SET version = 1`)

	// What somebody made of the domains does not keep the last table from coming back.
	w.exec(`CREATE TABLE mine (m oubli_adopt.sealed_text)`)
	w.putBack()
	require.Empty(t, w.phases())
	w.widen()
	w.exec(`DROP TABLE mine`)
	w.putBack()
	require.NotContains(t, w.definitions(), "oubli_adopt")
}

func TestAnEnforcedDatabaseIsDumpedAndRestored(t *testing.T) {
	ctx := t.Context()
	server := pgtest.Shared(t)
	w := newDDLWorld(t, server, readTestdata(t, "fights-back.sql"), readTestdata(t, "fights-back.yaml"))
	require.NotEmpty(t, w.dump(), "the server that tests share has a pg_dump")
	keys := keystoretest.New(t)
	w.widen()
	w.seal(keys)
	w.enforce()
	file := filepath.Join(t.TempDir(), "dump")
	require.NoError(t, exec.Command(server.Bin("pg_dump"), "-Fc", "-f", file, w.dsn).Run())

	other := &ddlWorld{t: t, server: server, dsn: server.Database(t), data: w.data}
	other.pool = connectTo(t, other.dsn)
	out, err := exec.Command(server.Bin("pg_restore"), "--exit-on-error", "-d", other.dsn, file).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, w.dump(), other.dump())
	require.Equal(t, w.phases(), other.phases())
	require.Empty(t, other.enforce().Left)
	verify, err := pgadopt.Verify(ctx, pgadopt.Config{DB: other.pool, Keys: keys, Tables: other.tables()})
	require.NoError(t, err)
	require.NotEmpty(t, verify.Tables)
	_, err = other.pool.Exec(ctx, `UPDATE "Shop".member SET email = 'plain'`)
	require.ErrorContains(t, err, "sealed_text")
	for _, table := range other.tables() {
		require.NoError(t, pgadopt.Reopen(ctx, other.pool, table))
	}
	require.False(t, strings.Contains(other.dump(), "quendolin.zwicklbauer"))
}
