package keystore_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/boltstore"
	"github.com/oubli/oubli/keystore/keystoretest"
	"github.com/oubli/oubli/keystore/memstore"
	"github.com/oubli/oubli/keystore/rootfile"
)

var raceTime = flag.Duration("race.time", time.Second, "how long readers, writers, erasers and rotators run")

// crowd is people whom readers, writers, erasers, rotators and restricters are at all at
// once. What each finds is held against what had returned when it began, or before its
// last look at whether the keys were fresh.
type crowd struct {
	t      *testing.T
	s      *keystore.Store
	people []*victim

	opened, erased, restricted atomic.Int64
}

type victim struct {
	sub    keystore.Subject
	field  field
	erased atomic.Bool // Erase has returned
	barred atomic.Bool // Restrict has returned, and no Release has begun since
}

func TestCrowd(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		runCrowd(t, memstore.New(), memstore.NewRoots())
	})
	t.Run("bolt", func(t *testing.T) {
		dir := t.TempDir()
		b, err := boltstore.Create(filepath.Join(dir, "keys"), nil)
		require.NoError(t, err)
		roots, err := rootfile.New([]string{filepath.Join(dir, "root")}, nil)
		require.NoError(t, err)
		runCrowd(t, b, roots)
	})
}

func runCrowd(t *testing.T, b keystore.Backend, roots keystore.RootStore) {
	ctx := context.Background()
	require.NoError(t, keystore.Create(ctx, b, roots, &keystore.CreateOptions{Shards: 64}))
	s, err := keystore.Open(ctx, b, roots, &keystore.Options{CacheSize: 300}) // fewer than there are people
	require.NoError(t, err)
	c := &crowd{t: t, s: s}
	for i := range 400 {
		c.people = append(c.people, &victim{sub: subject(t, i+1)})
	}
	for _, v := range c.people {
		v.field.text = v.sub.String()
		require.NoError(t, c.write(v))
	}
	ctx, stop := context.WithTimeout(ctx, *raceTime)
	defer stop()
	var all sync.WaitGroup
	for name, f := range map[string]func(ctx context.Context, n int) error{
		"reader 1": c.read, "reader 2": c.read, "batch reader": c.readMany, "writer": c.ensure,
		"eraser": c.erase, "batch eraser": c.eraseMany, "rotator": c.rotate, "restricter": c.restrict,
	} {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := f(context.Background(), n*7919+len(name)); err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d opened, %d erased, %d restricted", c.opened.Load(), c.erased.Load(), c.restricted.Load())
	require.Positive(t, c.opened.Load())
	require.Positive(t, c.erased.Load())
	require.Positive(t, c.restricted.Load())
	c.verify()
	keystoretest.Check(t, s)
	require.NoError(t, s.Close())
}

func (c *crowd) pick(n int) *victim { return c.people[n%len(c.people)] }

func (c *crowd) write(v *victim) error {
	ks, err := c.s.Ensure(context.Background(), nil, []string{""}, v.sub)
	if err != nil {
		return err
	}
	id, key, err := ks[0].Primary("")
	v.field.id, v.field.sealed = id, key.Seal(make([]byte, 12), make([]byte, 12), []byte(v.field.text), nil)
	return err
}

// judge tells what is wrong with an answer. erased and barred were read before the
// question was asked, so that the answer had to know.
func (c *crowd) judge(v *victim, text string, err error, erased, barred bool) error {
	switch {
	case err == nil && erased:
		return fmt.Errorf("%s opened after its erasure had returned", v.sub)
	case err == nil && text != v.field.text:
		return fmt.Errorf("%s opened as %q", v.sub, text)
	case err == nil:
		c.opened.Add(1)
		return nil
	case errors.Is(err, errStale), errors.Is(err, keystore.ErrErased), errors.Is(err, keystore.ErrErasing), errors.Is(err, keystore.ErrRestricted):
		return nil
	}
	return err
}

// open opens a field with keys, and makes the final check. Erasures and restrictions that
// had returned before it began must be seen by it.
func (c *crowd) open(v *victim, k keystore.Keys) error {
	_, key, err := k.Key(v.field.id)
	if err != nil {
		return c.judge(v, "", err, false, false)
	}
	plain, err := key.Open(nil, v.field.sealed[:12], v.field.sealed[12:], nil)
	if err != nil {
		return err
	}
	erased, barred := v.erased.Load(), v.barred.Load()
	if !keystore.Fresh(k) {
		return nil
	}
	if barred && v.barred.Load() {
		return fmt.Errorf("%s opened after its restriction had returned", v.sub)
	}
	return c.judge(v, string(plain), nil, erased, barred)
}

func (c *crowd) read(ctx context.Context, n int) error { return c.readAll(ctx, c.pick(n)) }

func (c *crowd) readMany(ctx context.Context, n int) error {
	var list []*victim
	for i := range 20 {
		list = append(list, c.pick(n+31*i))
	}
	return c.readAll(ctx, list...)
}

func (c *crowd) readAll(ctx context.Context, list ...*victim) error {
	var subs []keystore.Subject
	for _, v := range list {
		subs = append(subs, v.sub)
	}
	ks, err := c.s.Lookup(ctx, nil, subs...)
	if err != nil {
		return err
	}
	for i, v := range list {
		if err := c.open(v, ks[i]); err != nil {
			return err
		}
	}
	return nil
}

// ensure asks for another key, which an erased subject must never get.
func (c *crowd) ensure(ctx context.Context, n int) error {
	v := c.pick(n)
	erased := v.erased.Load()
	ks, err := c.s.Ensure(ctx, nil, []string{"", fmt.Sprint("purpose ", n%3)}, v.sub)
	if err != nil {
		return err
	}
	if err := ks[0].WriteErr(); err == nil && erased {
		return fmt.Errorf("%s may be written after its erasure had returned", v.sub)
	}
	return c.open(v, ks[0])
}

func (c *crowd) erase(ctx context.Context, n int) error {
	time.Sleep(time.Duration(n%20) * time.Millisecond)
	return c.eraseAll(ctx, c.pick(n))
}

func (c *crowd) eraseMany(ctx context.Context, n int) error {
	time.Sleep(40 * time.Millisecond)
	return c.eraseAll(ctx, c.pick(n), c.pick(n+1), c.pick(n+2))
}

func (c *crowd) eraseAll(ctx context.Context, list ...*victim) error {
	var rs []keystore.Request
	for _, v := range list {
		rs = append(rs, keystore.Request{Subject: v.sub})
	}
	es, err := c.s.Erase(ctx, rs...)
	if err != nil {
		return err
	}
	for i, e := range es {
		if e.Err != nil || e.State != keystore.StateErased || !e.Final {
			return fmt.Errorf("%s is %s, final %t: %v", e.Subject, e.State, e.Final, e.Err)
		}
		if !list[i].erased.Swap(true) {
			c.erased.Add(1)
		}
	}
	return c.readAll(ctx, list...)
}

func (c *crowd) rotate(ctx context.Context, n int) error {
	time.Sleep(time.Millisecond)
	errs, err := c.s.Rotate(ctx, c.pick(n).sub)
	if err == nil && errs[0] != nil && !errors.Is(errs[0], keystore.ErrErased) && !errors.Is(errs[0], keystore.ErrErasing) {
		err = errs[0]
	}
	return err
}

func (c *crowd) restrict(ctx context.Context, n int) error {
	v := c.pick(n)
	err := joined(c.s.Restrict(ctx, nil, v.sub))
	if err == nil {
		v.barred.Store(true)
		c.restricted.Add(1)
		err = c.readAll(ctx, v)
		v.barred.Store(false)
		if err == nil {
			err = joined(c.s.Release(ctx, v.sub))
		}
	}
	if errors.Is(err, keystore.ErrErased) {
		return nil
	}
	return err
}

// verify looks at everybody once more, when all is quiet.
func (c *crowd) verify() {
	ctx := context.Background()
	for _, v := range c.people {
		if v.erased.Load() {
			require.Zero(c.t, c.s.CachedKeys(v.sub), "the cache holds keys of %s", v.sub)
		}
		st, err := c.s.Status(ctx, v.sub)
		require.NoError(c.t, err)
		text, err := openField(ctx, c.s, v.sub, v.field)
		if v.erased.Load() {
			require.ErrorIs(c.t, err, keystore.ErrErased)
			require.Empty(c.t, st[0].Keys, "a new key for %s", v.sub)
			require.True(c.t, st[0].Final)
			continue
		}
		require.NoError(c.t, err, v.sub)
		require.Equal(c.t, v.field.text, text)
	}
}

// Whoever is erased leaves the cache at once, not when next looked up; and a purpose's
// keys go when it is withdrawn.
func TestErasedAreNotCached(t *testing.T) {
	s := keystoretest.New(t)
	ctx := context.Background()
	ann, bob, carl := subject(t, 1), subject(t, 2), subject(t, 3)
	for _, sub := range []keystore.Subject{ann, bob, carl} {
		seal(t, s, sub, "", "x")
		seal(t, s, sub, "tax", "x")
		_, err := s.Lookup(ctx, nil, sub)
		require.NoError(t, err)
		require.Equal(t, 2, s.CachedKeys(sub))
	}
	_, err := s.Erase(ctx, keystore.Request{Subject: ann}, keystore.Request{Subject: bob, Keep: []string{"tax"}})
	require.NoError(t, err)
	require.Zero(t, s.CachedKeys(ann))
	require.LessOrEqual(t, s.CachedKeys(bob), 1)
	_, err = s.Withdraw(ctx, carl, "tax")
	require.NoError(t, err)
	require.LessOrEqual(t, s.CachedKeys(carl), 1)
}
