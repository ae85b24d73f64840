package rootfile

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

// TestMain runs a worker when a test started this binary as another process.
func TestMain(m *testing.M) {
	job := os.Getenv("ROOTFILE_WORKER")
	if job == "" {
		os.Exit(m.Run())
	}
	name, list, _ := strings.Cut(job, "=")
	s, err := New(strings.Split(list, ","), nil)
	if err == nil {
		err = worker(s, name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func worker(s *Store, name string) error {
	if name == "full" {
		// a file may have at most 1,000 bytes from here on
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1000, Max: 1000}); err != nil {
			return err
		}
		return s.Add(context.Background(), newRoot(2))
	}
	n, err := strconv.Atoi(name)
	if err != nil {
		return err
	}
	return churn(s, n)
}

const churns = 8

// churn adds roots, destroys every second one and raises its own page's counter.
func churn(s *Store, n int) error {
	ctx := context.Background()
	for i := range churns {
		r := newRoot(uint64(1000*n + i))
		if err := s.Add(ctx, r); err != nil {
			return err
		}
		counters := make([]uint64, n+1)
		counters[n] = uint64(i + 1)
		subject, err := keystore.NewSubject("customer", 1000*n+i+1)
		if err != nil {
			return err
		}
		ts := keystore.Tombstone{Event: keystore.EventID{byte(n), byte(i), 1}, Subject: subject}
		if err := s.Raise(ctx, keystore.Anchor{Counters: counters}, []keystore.Tombstone{ts}); err != nil {
			return err
		}
		if i%2 == 1 {
			if err := s.Destroy(ctx, []keystore.RootID{r.ID}); err != nil {
				return err
			}
		}
		if _, err := s.Load(ctx); err != nil {
			return err
		}
	}
	return nil
}

func requireChurned(t *testing.T, s *Store, workers int) {
	t.Helper()
	got := load(t, s)
	require.Empty(t, got.Away)
	require.Len(t, got.Living, workers*churns/2)
	require.Len(t, got.Destroyed, workers*churns/2)
	require.Len(t, got.Tombstones, workers*churns)
	require.Len(t, got.Anchor.Counters, workers)
	for _, c := range got.Anchor.Counters {
		require.Equal(t, uint64(churns), c)
	}
}

func TestGoroutinesLoseNothing(t *testing.T) {
	ps := paths(t, 2)
	s := created(t, ps)
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for n := range errs {
		wg.Go(func() {
			of := s // two share a Store, two have their own
			if n > 1 {
				of, _ = New(ps, nil)
			}
			errs[n] = churn(of, n)
		})
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	requireChurned(t, s, len(errs))
}

func start(t *testing.T, job string, ps []string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "ROOTFILE_WORKER="+job+"="+strings.Join(ps, ","))
	cmd.Stderr = &strings.Builder{}
	require.NoError(t, cmd.Start())
	return cmd
}

func TestProcessesLoseNothing(t *testing.T) {
	ps := paths(t, 2)
	s := created(t, ps)
	var cmds []*exec.Cmd
	for n := range 3 {
		cmds = append(cmds, start(t, strconv.Itoa(n), ps))
	}
	for _, cmd := range cmds {
		require.NoError(t, cmd.Wait(), "%s", cmd.Stderr)
	}
	requireChurned(t, s, len(cmds))
}

func TestFileSizeLimit(t *testing.T) {
	ps := paths(t, 1)
	a := newRoot(1)
	s := created(t, ps, a)
	cmd := start(t, "full", ps)
	require.Error(t, cmd.Wait())
	require.Contains(t, fmt.Sprint(cmd.Stderr), "file too large")
	require.Contains(t, fmt.Sprint(cmd.Stderr), ps[0])
	require.Equal(t, []keystore.Root{a}, load(t, s).Living)
	require.NoError(t, s.Add(context.Background(), newRoot(3)))
}
