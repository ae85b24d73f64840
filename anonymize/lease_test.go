package anonymize_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
)

// office is a keystore that several processes share, with nothing but receivers.
type office struct {
	t     testing.TB
	ctx   context.Context
	db    *memstore.Store
	roots keystore.RootStore
}

func newOffice(t testing.TB, lease time.Duration) *office {
	o := &office{t: t, ctx: background(t), db: memstore.New(), roots: memstore.NewRoots()}
	require.NoError(t, keystore.Create(o.ctx, &desk{Store: o.db}, o.roots, &keystore.CreateOptions{Shards: 64, Lease: lease}))
	return o
}

// desk is one process: its connection, its keystore, its Eraser.
type desk struct {
	*memstore.Store // the database
	keys            *keystore.Store
	eraser          *anonymize.Eraser
	cut             atomic.Bool
	calls           atomic.Int64 // to the database
}

func (d *desk) Get(ctx context.Context, keys [][]byte) ([]keystore.Record, error) {
	d.calls.Add(1)
	if d.cut.Load() {
		return nil, fmt.Errorf("cut off: %w", keystore.ErrUnavailable)
	}
	return d.Store.Get(ctx, keys)
}

func (d *desk) Commit(ctx context.Context, groups []keystore.Group) (int, error) {
	if d.cut.Load() {
		return 0, fmt.Errorf("cut off: %w", keystore.ErrUnavailable)
	}
	return d.Store.Commit(ctx, groups)
}

func (d *desk) Replicated(context.Context) error { return nil }
func (d *desk) Notify(context.Context) error     { return nil }
func (d *desk) Close() error                     { return nil }

func (d *desk) Listen(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return ctx.Err()
}

func (o *office) desk(opts *anonymize.Options) *desk {
	o.t.Helper()
	d := &desk{Store: o.db}
	var err error
	d.keys, err = keystore.Open(o.ctx, d, o.roots, nil)
	require.NoError(o.t, err)
	d.eraser, err = anonymize.New(d.keys, opts)
	require.NoError(o.t, err)
	o.t.Cleanup(func() { d.keys.Close() })
	return d
}

func (d *desk) work(t testing.TB) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.eraser.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
}

func (o *office) people(d *desk, n int) []keystore.Subject {
	o.t.Helper()
	var subs []keystore.Subject
	for i := range n {
		subs = append(subs, subj(o.t, fmt.Sprintf("customer/%d", i+1)))
	}
	_, err := d.keys.Ensure(o.ctx, nil, []string{""}, subs...)
	require.NoError(o.t, err)
	return subs
}

func (o *office) erased(d *desk, subs []keystore.Subject) {
	o.t.Helper()
	require.Eventually(o.t, func() bool {
		for _, st := range func() []keystore.Status {
			sts, err := d.keys.Status(o.ctx, subs...)
			require.NoError(o.t, err)
			return sts
		}() {
			if st.State != keystore.StateErased {
				return false
			}
		}
		return true
	}, 15*time.Second, 5*time.Millisecond)
}

// Before the first receiver hears of it, nobody serves any of a batch from memory: for
// that one lease is waited, not one for each of them.
func TestOneLeaseForABatch(t *testing.T) {
	const lease = 300 * time.Millisecond
	o := newOffice(t, lease)
	d := o.desk(nil)
	var first time.Time
	d.eraser.PreAnonymize("customer", "crm", func(context.Context, anonymize.Erasure) error {
		if first.IsZero() {
			first = time.Now()
		}
		return nil
	})
	subs := o.people(d, 40)
	began := time.Now()
	_, err := d.eraser.Anonymize(o.ctx, subs...)
	require.NoError(t, err)
	require.GreaterOrEqual(t, first.Sub(began), lease)
	require.Less(t, time.Since(began), 20*lease)
}

func TestRequestDoesNotWaitAndRunDoes(t *testing.T) {
	o := newOffice(t, time.Minute)
	var told atomic.Int64
	work := func(d *desk) {
		d.eraser.PreAnonymize("customer", "crm", func(context.Context, anonymize.Erasure) error {
			told.Add(1)
			return nil
		})
		d.work(t)
	}
	d := o.desk(&anonymize.Options{Interval: 5 * time.Millisecond})
	subs := o.people(d, 3)
	require.NoError(t, d.eraser.Request(o.ctx, subs...))
	work(d)
	work(o.desk(nil)) // which meets them later
	time.Sleep(100 * time.Millisecond)
	require.Zero(t, told.Load())
}

// Several workers share what is pending: nobody is told twice, and they do not stand in
// each other's way.
func TestWorkersShareABatch(t *testing.T) {
	o := newOffice(t, 50*time.Millisecond)
	const workers, n = 3, 120
	var mu sync.Mutex
	told, by := map[string]int{}, map[int]int{}
	var desks []*desk
	for w := range workers {
		d := o.desk(&anonymize.Options{Interval: 20 * time.Millisecond})
		d.eraser.PreAnonymize("customer", "crm", func(_ context.Context, e anonymize.Erasure) error {
			mu.Lock()
			told[e.Subject.String()]++
			by[w]++
			mu.Unlock()
			time.Sleep(3 * time.Millisecond)
			return nil
		})
		desks = append(desks, d)
	}
	subs := o.people(desks[0], n)
	require.NoError(t, desks[0].eraser.Request(o.ctx, subs...))
	for _, d := range desks {
		d.calls.Store(0)
		d.work(t)
	}
	o.erased(o.desk(nil), subs)
	calls := int64(0)
	for _, d := range desks {
		calls += d.calls.Load()
	}
	mu.Lock()
	defer mu.Unlock()
	t.Logf("%d reads for %d people; by worker: %v", calls, n, by)
	require.Len(t, told, n)
	for sub, times := range told {
		require.Equal(t, 1, times, sub)
	}
	for w := range workers {
		require.Greater(t, by[w], n/workers/3, "worker %d has its share", w)
	}
}

// A worker that is cut off stops renewing its claim, and another takes over. What the
// first does when it comes back changes nothing.
func TestAWorkerThatIsCutOffLosesItsClaim(t *testing.T) {
	t.Parallel()
	o := newOffice(t, 50*time.Millisecond)
	opts := &anonymize.Options{Lease: 1500 * time.Millisecond, Interval: 20 * time.Millisecond, Backoff: 20 * time.Millisecond}
	a := o.desk(opts)
	subs := o.people(a, 1)
	called, back := make(chan struct{}, 9), make(chan struct{})
	a.eraser.PreAnonymize("customer", "crm", func(context.Context, anonymize.Erasure) error {
		called <- struct{}{}
		<-back // deaf to its context, too
		return nil
	})
	require.NoError(t, a.eraser.Request(o.ctx, subs...))
	a.work(t)
	<-called
	a.cut.Store(true)
	b := o.desk(opts)
	var told atomic.Int64
	b.eraser.PreAnonymize("customer", "crm", func(context.Context, anonymize.Erasure) error { told.Add(1); return nil })
	b.work(t)
	time.Sleep(200 * time.Millisecond)
	require.Zero(t, told.Load(), "the claim is respected while it holds")
	o.erased(b, subs)
	require.Equal(t, int64(1), told.Load())
	a.cut.Store(false)
	close(back)
	time.Sleep(50 * time.Millisecond)
	o.erased(a, subs)
	require.Equal(t, int64(1), told.Load())
	require.Empty(t, called)
}
