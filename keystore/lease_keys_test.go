package keystore_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// A key that another process made since this one read the ring is read, not called unknown.
func TestKeysThatAnotherProcessMade(t *testing.T) {
	for name, make := range map[string]func(a *process, sub keystore.Subject) string{
		"by rotation": func(a *process, sub keystore.Subject) string {
			errs, err := a.store.Rotate(a.c.ctx, sub)
			require.NoError(a.c.t, err)
			require.NoError(a.c.t, errs[0])
			return ""
		},
		"for another purpose": func(*process, keystore.Subject) string { return "tax" },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, leaseOf(long))
			a, b := c.process(), c.process()
			ann := subject(t, 1)
			seal(t, a.store, ann, "", "x")
			require.True(t, keystore.Fresh(b.keys(ann)))
			id, sealed := seal(t, a.store, ann, make(a, ann), "y")
			k := b.keys(ann)
			_, _, err := k.Key(id)
			require.ErrorIs(t, err, keystore.ErrUnknownKey)
			require.False(t, keystore.Fresh(k), "so that whoever asks looks again")
			text, err := open(c.ctx, b.store, ann, id, sealed)
			require.NoError(t, err)
			require.Equal(t, "y", text)
		})
	}
}

// sharer is the same through the codec, which is what looks again.
type sharer struct {
	ID   int64  `oubli:",subject=customer"`
	Name string `oubli:"name"`
	Note string `oubli:"note,purpose=note"`
	How  fieldcrypt.Status
}

func TestCodecsOpenWhatAnotherProcessSealed(t *testing.T) {
	c := newCluster(t, leaseOf(long))
	a, b := c.process(), c.process()
	codecs := make([]*fieldcrypt.Codec[sharer], 2)
	for i, p := range []*process{a, b} {
		var err error
		codecs[i], err = fieldcrypt.NewCodec[sharer](p.store, "sharers", nil)
		require.NoError(t, err)
	}
	var subs []keystore.Subject
	rows := make([]sharer, 100)
	for i := range rows {
		rows[i] = sharer{ID: int64(i + 1), Name: fmt.Sprint("name ", i), Note: fmt.Sprint("note ", i)}
		subs = append(subs, subject(t, i+1))
		_, _ = seal(t, a.store, subs[i], "", "x")
	}
	_, err := b.store.Lookup(c.ctx, nil, subs...)
	require.NoError(t, err)
	sealed, err := codecs[0].SealAll(c.ctx, rows...) // with a new purpose
	require.NoError(t, err)
	errs, err := a.store.Rotate(c.ctx, subs[:50]...)
	require.NoError(t, err)
	require.NoError(t, errors.Join(errs...))
	half, err := codecs[0].SealAll(c.ctx, rows[:50]...) // and new keys
	require.NoError(t, err)
	copy(sealed, half)

	one := sealed[0]
	require.NoError(t, codecs[1].Open(c.ctx, &one))
	for i := range rows {
		rows[i].How = fieldcrypt.StatusOpen
	}
	require.Equal(t, rows[0], one)
	pointers := make([]*sharer, len(sealed))
	for i := range sealed {
		pointers[i] = &sealed[i]
	}
	require.NoError(t, codecs[1].Open(c.ctx, pointers...))
	require.Equal(t, rows, sealed)
}

// An id that nobody made costs one more read for each call that meets it, and ends.
func TestAForgedKeyCostsOneRead(t *testing.T) {
	c := newCluster(t, leaseOf(long))
	a, b := c.process(), c.process()
	codec, err := fieldcrypt.NewCodec[sharer](b.store, "sharers", nil)
	require.NoError(t, err)
	others, err := fieldcrypt.NewCodec[sharer](a.store, "sharers", nil)
	require.NoError(t, err)
	good, err := others.SealAll(c.ctx, sharer{1, "Ann", "a", ""}, sharer{2, "Bob", "b", ""})
	require.NoError(t, err)
	opened := good[0]
	require.NoError(t, codec.Open(c.ctx, &opened))
	// What another keystore sealed for the same person has keys that this one never had.
	foreign := newCluster(t, leaseOf(long)).process()
	alien, err := fieldcrypt.NewCodec[sharer](foreign.store, "sharers", nil)
	require.NoError(t, err)
	forged, err := alien.Seal(c.ctx, sharer{1, "Ann", "a", ""})
	require.NoError(t, err)
	for range 3 {
		gets, one := b.gets.Load(), forged
		require.ErrorIs(t, codec.Open(c.ctx, &one), keystore.ErrUnknownKey)
		require.Equal(t, gets+1, b.gets.Load())
		require.Equal(t, forged, one)

		bob, one, two := good[1], forged, forged
		gets = b.gets.Load()
		require.ErrorIs(t, codec.Open(c.ctx, &one, &bob, &two), keystore.ErrUnknownKey)
		require.LessOrEqual(t, b.gets.Load(), gets+2, "who else is of the shard may be read again, too")
		require.Equal(t, "Bob", bob.Name)
	}
}

// A load that another call began may have read before the key was made.
func TestAKeyMadeDuringAnothersLoad(t *testing.T) {
	c := newCluster(t, leaseOf(long))
	a, b := c.process(), c.process()
	ann := subject(t, 1)
	seal(t, a.store, ann, "", "x")
	read, answer := make(chan struct{}), make(chan struct{})
	met := false
	b.through(func(_ context.Context, name string, do func() error) error {
		err := do()
		if !met {
			met = true
			close(read)
			<-answer
		}
		return err
	})
	done := make(chan error)
	go func() {
		_, err := b.store.Lookup(c.ctx, nil, ann)
		done <- err
	}()
	<-read
	id, sealed := seal(t, a.store, ann, "tax", "y")
	joined := make(chan keystore.Keys)
	go func() {
		ks, err := b.store.Lookup(c.ctx, nil, ann)
		if err != nil {
			t.Error(err)
		}
		joined <- ks[0]
	}()
	time.Sleep(30 * time.Millisecond) // until it waits for the first
	close(answer)
	require.NoError(t, <-done)
	k := <-joined
	if _, _, err := k.Key(id); err != nil {
		require.ErrorIs(t, err, keystore.ErrUnknownKey)
		require.False(t, keystore.Fresh(k), "so that whoever asks looks again")
	}
	text, err := open(c.ctx, b.store, ann, id, sealed)
	require.NoError(t, err)
	require.Equal(t, "y", text)
}

// Where people sign up one after the other, their keys are made without a read before;
// somebody who is known, or erased, all the same is what he is.
func TestNewcomersAreExpected(t *testing.T) {
	c := newCluster(t, leaseOf(long))
	a, b := c.process(), c.process()
	id, sealed := seal(t, b.store, subject(t, 900), "", "known")
	seal(t, b.store, subject(t, 901), "", "erased")
	b.through(b.hurried)
	b.must(subject(t, 901))
	for i := range 10 { // of all pages, so that they are remembered
		var many []keystore.Subject
		for n := range 100 {
			many = append(many, subject(t, 1000+100*i+n))
		}
		_, err := a.store.Ensure(c.ctx, nil, []string{""}, many...)
		require.NoError(t, err)
	}
	require.NoError(t, a.store.Poll(c.ctx))
	make := func(n int) (gets, commits int64) {
		gets, commits = a.gets.Load(), a.commits.Load()
		_, err := a.store.Ensure(c.ctx, nil, []string{""}, subject(t, n))
		require.NoError(t, err)
		return a.gets.Load() - gets, a.commits.Load() - commits
	}
	for n := range 8 {
		make(1 + n)
	}
	gets, commits := make(20)
	require.Equal(t, []int64{0, 1}, []int64{gets, commits})
	gets, commits = make(900)
	require.Equal(t, []int64{1, 1}, []int64{gets, commits}, "a conflict, and the read")
	text, err := open(c.ctx, a.store, subject(t, 900), id, sealed)
	require.NoError(t, err)
	require.Equal(t, "known", text)
	make(901)
	require.ErrorIs(t, a.keys(subject(t, 901)).WriteErr(), keystore.ErrErased)
	make(902)
	gets, _ = make(903)
	require.NotZero(t, gets, "after two wrong guesses it looks first")
	c.check()
}
