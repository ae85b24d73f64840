package pgadopt

import (
	"context"
	"maps"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/internal/pgtest"
)

func TestOldTransactionsAreCounted(t *testing.T) {
	ctx := context.Background()
	pool, err := pgmap.Connect(ctx, pgtest.Shared(t).Database(t))
	require.NoError(t, err)
	defer pool.Close()
	count := func() int {
		d := &findings{}
		require.NoError(t, readOnly(ctx, pool, func(tx pgx.Tx) error { return d.activity(ctx, tx, map[string]string{"archive_mode": "off"}, "0") }))
		return len(d.all)
	}
	require.Zero(t, count())
	tx, err := pool.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(ctx)
	require.Equal(t, 1, count())
}

func TestSettingsThatMatter(t *testing.T) {
	found := func(values map[string]string) string {
		d := &findings{}
		d.logs(values)
		d.standbys(values)
		var all []string
		for _, f := range d.all {
			require.Equal(t, Note, f.Level)
			require.NotEmpty(t, f.Do)
			all = append(all, f.Object)
		}
		return strings.Join(all, "; ")
	}
	quiet := map[string]string{
		"log_statement": "ddl", "log_min_duration_statement": "-1", "log_min_duration_sample": "-1", "log_transaction_sample_rate": "0", "log_min_error_statement": "panic",
		"log_parameter_max_length_on_error": "0", "auto_explain.log_min_duration": "-1", "pgaudit.log": "none", "synchronous_standby_names": "", "archive_mode": "off",
	}
	require.Empty(t, found(quiet))
	for name, value := range map[string]string{
		"log_statement": "all", "log_min_duration_statement": "100", "log_min_duration_sample": "0", "log_transaction_sample_rate": "1", "log_min_error_statement": "error",
		"log_parameter_max_length_on_error": "-1", "auto_explain.log_min_duration": "1", "pgaudit.log": "write", "synchronous_standby_names": "*", "archive_mode": "always",
	} {
		loud := maps.Clone(quiet)
		loud[name] = value
		require.Contains(t, found(loud), name, value)
	}
}
