package pgadopt_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/cmd/oubli/internal/datamap"
	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
	"github.com/oubli/oubli/keystore/rootfile"
)

// child names, in the environment of a process that is to run an adoption, its database,
// keystore and root, one a line.
const child = "PGADOPT_TEST_CHILD"

// openKeys opens a keystore that several processes share.
func openKeys(dsn, root string) (*keystore.Store, error) {
	db, err := pgstore.Open(context.Background(), dsn, nil)
	if err != nil {
		return nil, err
	}
	roots, err := rootfile.New([]string{root}, nil)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return keystore.Open(context.Background(), db, roots, nil)
}

// TestRunAsChild is the process that TestKilled kills; without it, it is nothing.
func TestRunAsChild(t *testing.T) {
	where := strings.Split(os.Getenv(child), "\n")
	if len(where) != 3 {
		return
	}
	ctx := context.Background()
	keys, err := openKeys(where[1], where[2])
	require.NoError(t, err)
	defer keys.Close()
	data, err := datamap.Parse("map.yaml", []byte(peopleMap))
	require.NoError(t, err)
	var db *pgxpool.Pool
	var tables []*pgmap.Table
	require.Eventually(t, func() bool { // it may be cut here, too
		if db, err = pgmap.Connect(ctx, where[0]); err == nil {
			tables, err = pgmap.Load(ctx, db, data)
		}
		return err == nil
	}, 10*time.Second, time.Millisecond)
	fmt.Println("begun")
	report, err := pgadopt.Run(ctx, pgadopt.Config{DB: db, Keys: keys, Tables: tables})
	require.NoError(t, err)
	fmt.Println("sealed", report.Tables[0].Sealed, "retried", report.Tables[0].Retried)
}

// startChild starts the process and waits until it works on the table.
func startChild(t *testing.T, dsn, keys, root string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestRunAsChild$", "-test.count=1")
	cmd.Env = append(os.Environ(), child+"="+dsn+"\n"+keys+"\n"+root)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "begun\n", line)
	return cmd, lines
}

// The run dies twenty times at a random moment, its connections are cut at random, and
// applications write all the while: nothing is lost, doubled, or sealed twice.
func TestKilled(t *testing.T) {
	const kills, persons = 20, 300
	ctx := t.Context()
	server := pgtest.Shared(t)
	keysDSN, root := server.Database(t)+"&synchronous_commit=off", filepath.Join(t.TempDir(), "oubli.root")
	backend, err := pgstore.Create(ctx, keysDSN, nil)
	require.NoError(t, err)
	roots, err := rootfile.New([]string{root}, nil)
	require.NoError(t, err)
	require.NoError(t, keystore.Create(ctx, backend, roots, &keystore.CreateOptions{Shards: 64, Lease: 2 * time.Second}))
	require.NoError(t, backend.Close())
	keys, err := openKeys(keysDSN, root)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, keys.Close()) })
	dsn := server.Database(t)
	p := newPeople(t, dsn, keys, 6_000, persons, 3)
	childDSN := dsn + "&application_name=to-be-cut"
	stop := sync.OnceFunc(p.write(ctx, persons))
	t.Cleanup(stop)
	cut, cutting := context.WithCancel(ctx)
	cuts := make(chan int)
	go func() {
		n := 0
		for cut.Err() == nil {
			tag, err := p.db.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'to-be-cut' ORDER BY random() LIMIT 1`)
			if err == nil {
				n += int(tag.RowsAffected())
			}
			time.Sleep(rand.N(150 * time.Millisecond))
		}
		cuts <- n
	}()

	done := 0
	for range kills {
		cmd, out := startChild(t, childDSN, keysDSN, root)
		time.Sleep(rand.N(120 * time.Millisecond))
		_ = cmd.Process.Kill()
		rest, _ := io.ReadAll(out)
		if strings.Contains(string(rest), "sealed") {
			done++
		}
		_ = cmd.Wait()
	}
	cutting()
	t.Logf("killed %d times, %d of them too late; cut %d connections", kills, done, <-cuts)
	require.Less(t, done, kills, "no process was killed at work")
	cmd, out := startChild(t, childDSN, keysDSN, root) // beside another
	report, err := pgadopt.Run(ctx, p.config(keys))
	require.NoError(t, err)
	rest, err := io.ReadAll(out)
	require.NoError(t, err)
	t.Logf("at last: %s", strings.SplitN(string(rest), "\n", 2)[0])
	require.NoError(t, cmd.Wait())
	stop()
	require.Equal(t, pgadopt.PhaseAdopted, report.Tables[0].Phase)
	require.Equal(t, pgadopt.PhaseAdopted, p.phase())

	verified, err := pgadopt.Verify(ctx, p.config(keys))
	require.NoError(t, err)
	require.NoError(t, verified.Tables[0].Err())
	requireKept(t, p.all(), p.opened(keys))
}
