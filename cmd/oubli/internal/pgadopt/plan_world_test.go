package pgadopt_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/cmd/oubli/internal/datamap"
	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/internal/pgtest"
)

// planWorld is a database whose tables are looked at.
type planWorld struct {
	t    testing.TB
	dsn  string
	pool *pgxpool.Pool
}

func newPlanWorld(t testing.TB, server *pgtest.Server, sql ...string) *planWorld {
	t.Helper()
	w := &planWorld{t: t, dsn: server.Database(t) + "&synchronous_commit=off"}
	w.pool = connectTo(t, w.dsn)
	w.exec(sql...)
	return w
}

func (w *planWorld) exec(statements ...string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, sql := range statements {
		_, err := w.pool.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		require.NoError(w.t, err, sql)
	}
}

func (w *planWorld) plan(yaml string) *pgadopt.Plan {
	w.t.Helper()
	return planWith(w.t, w.pool, yaml)
}

func planWith(t testing.TB, pool *pgxpool.Pool, yaml string) *pgadopt.Plan {
	t.Helper()
	m, err := datamap.Parse("map.yaml", []byte(yaml))
	require.NoError(t, err)
	p, err := pgadopt.MakePlan(context.Background(), pool, m)
	require.NoError(t, err)
	for _, f := range p.Findings {
		require.NotEmpty(t, f.What, f)
		require.NotEmpty(t, f.Do, "every finding says what to do: %v", f)
	}
	return p
}

// texts are the plan as people and as programs get it.
func texts(t testing.TB, p *pgadopt.Plan) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, p.Write(&b))
	for _, line := range strings.Split(b.String(), "\n") {
		if len([]rune(line)) > 100 {
			require.Len(t, strings.Fields(line), 1, "too wide: %s", line)
		}
	}
	out, err := json.Marshal(p)
	require.NoError(t, err)
	return b.String() + string(out)
}

// brief is what findings of a level are about: table, column, object.
func brief(p *pgadopt.Plan, l pgadopt.Level) []string {
	list := []string{}
	for _, f := range p.Findings {
		if f.Level == l {
			list = append(list, strings.TrimSuffix(fmt.Sprintf("%s.%s %s", f.Table, f.Column, f.Object), " "))
		}
	}
	return list
}

// requireFinding finds one finding by its level, what it is about, and a part of what it
// says.
func requireFinding(t testing.TB, p *pgadopt.Plan, l pgadopt.Level, about, what string) pgadopt.Finding {
	t.Helper()
	for _, f := range p.Findings {
		if f.Level == l && strings.TrimSuffix(fmt.Sprintf("%s.%s %s", f.Table, f.Column, f.Object), " ") == about && strings.Contains(f.What, what) {
			return f
		}
	}
	var all []string
	for _, f := range p.Findings {
		all = append(all, fmt.Sprintf("%s %s.%s %s: %s", f.Level, f.Table, f.Column, f.Object, f.What))
	}
	require.Failf(t, "not found", "%s %q: %q in\n%s", l, about, what, strings.Join(all, "\n"))
	return pgadopt.Finding{}
}
