package pgadopt_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore/keystoretest"
)

func advice(list []pgadopt.Advice) string {
	var b strings.Builder
	for _, a := range list {
		fmt.Fprintln(&b, a.What, "/", a.Do)
	}
	return b.String()
}

// as connects as another user.
func (w *ddlWorld) as(user string) *pgxpool.Pool {
	return connectTo(w.t, strings.Replace(w.dsn, "postgres@", user+"@", 1))
}

func TestWhatAUserMayNotDoIsLeft(t *testing.T) {
	ctx := t.Context()
	pgtest.EachVersion(t, func(t *testing.T, version int) {
		server := quickServer(t, version)
		w := newDDLWorld(t, server, `CREATE ROLE clerk LOGIN; CREATE ROLE head LOGIN; `+plainPerson+`;
ALTER TABLE person OWNER TO clerk; ALTER VIEW mails OWNER TO clerk; ALTER SCHEMA public OWNER TO clerk; ANALYZE`, plainPersonMap)
		var database string
		require.NoError(t, w.pool.QueryRow(ctx, `SELECT current_database()`).Scan(&database))
		w.exec(`GRANT CREATE ON DATABASE ` + database + ` TO clerk`)
		super := w.pool
		w.pool = w.as("clerk")
		w.widen()
		w.seal(keystoretest.New(t))
		report := w.enforce()
		require.Len(t, report.Left, 2)
		require.Contains(t, advice(report.Left), "VACUUM FULL pg_catalog.pg_statistic;")
		require.Contains(t, advice(report.Left), "VACUUM FULL pg_catalog.pg_statistic_ext_data;")
		require.Contains(t, advice(report.Elsewhere), "pg_checkpoint")
		require.Contains(t, advice(report.Elsewhere), "may not look for them")
		require.Zero(t, report.At)

		// The owner of the database may.
		_, err := super.Exec(ctx, `GRANT clerk TO head`)
		require.NoError(t, err)
		_, err = super.Exec(ctx, `ALTER DATABASE `+database+` OWNER TO head`)
		require.NoError(t, err)
		w.pool = w.as("head")
		report = w.enforce()
		require.Empty(t, report.Left)
		require.NotZero(t, report.At)
		require.Contains(t, advice(report.Elsewhere), "pg_checkpoint")
		w.pool = super
		require.NotContains(t, advice(w.enforce().Elsewhere), "pg_checkpoint")
	})
}

func TestFilesThatACrashLeftAreNamed(t *testing.T) {
	server := quickServer(t, 0)
	w := newDDLWorld(t, server, plainPerson+`; INSERT INTO person SELECT i, 'x' || i, date '1900-01-01' + i FROM generate_series(2, 5000) i`, plainPersonMap)
	w.exec(`DROP VIEW mails`)
	w.hold("widening", `ALTER TABLE person ALTER COLUMN born TYPE text`)
	w.exec(`CHECKPOINT`)
	w.pool.Reset()
	server.Kill()
	server.Up(t)
	w.pool.Reset()
	time.Sleep(2100 * time.Millisecond) // files tell time in seconds
	w.exec(`TRUNCATE person`)
	w.widen()
	w.seal(keystoretest.New(t))
	report := w.enforce()
	require.Len(t, report.Left, 1)
	require.Zero(t, report.At)
	names := regexp.MustCompile(`base/\d+/\d+`).FindAllString(report.Left[0].What, -1)
	require.NotEmpty(t, names)
	for _, name := range names {
		require.NoError(t, os.Remove(filepath.Join(server.Dir(), name)))
	}
	report = w.enforce()
	require.Empty(t, report.Left)
	require.NotZero(t, report.At)
}

func TestTheReport(t *testing.T) {
	ctx := t.Context()
	server := pgtest.Start(t, &pgtest.Options{Archive: true, Settings: map[string]string{"log_statement": "all", "logging_collector": "off", "log_directory": "log"}})
	w := newDDLWorld(t, server, plainPerson, plainPersonMap)
	w.exec(`SELECT pg_create_physical_replication_slot('forgotten', true)`)
	w.widen()
	w.seal(keystoretest.New(t))
	report := w.enforce()
	require.Empty(t, report.Left)
	require.Positive(t, report.Tables[0].Locked)
	require.NotEmpty(t, report.LSN)
	for _, says := range []string{"base backups", "WAL from before", "archive_mode = on", "wal_keep_size = 512MB", "forgotten (physical, not in use)", "log_statement = all", "COPY … FROM"} {
		require.Contains(t, advice(report.Elsewhere), says)
	}
	require.NotContains(t, advice(report.Elsewhere), "standbys, and")
	require.False(t, slices.ContainsFunc(report.Elsewhere, func(a pgadopt.Advice) bool { return a.Do == "" }))
	var text bytes.Buffer
	require.NoError(t, report.Write(&text))
	require.Contains(t, text.String(), "person: enforced and rewritten; locked for ")
	require.Contains(t, text.String(), report.LSN)
	require.NotContains(t, text.String(), "NOT DONE")
	b, err := json.Marshal(report)
	require.NoError(t, err)
	require.Contains(t, string(b), `"lsn":"`+report.LSN)

	records, err := pgadopt.Records(ctx, w.pool)
	require.NoError(t, err)
	require.Equal(t, report.LSN, records["person"].LSN)
	require.Equal(t, report.At, records["person"].Cleaned)
}
