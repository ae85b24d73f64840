package pgoracle_test

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/oubli/oubli/keystore"
)

// recorder keeps a copy of every record that was committed: what the files must show.
type recorder struct {
	inner   keystore.Shared
	rewrite func(keystore.Group) keystore.Group // a planted fault; nil: none

	mu        sync.Mutex
	committed []keystore.Record
}

func (r *recorder) Get(ctx context.Context, keys [][]byte) ([]keystore.Record, error) {
	return r.inner.Get(ctx, keys)
}

func (r *recorder) Scan(ctx context.Context, from, to []byte, limit int) ([]keystore.Record, error) {
	return r.inner.Scan(ctx, from, to, limit)
}

func (r *recorder) Commit(ctx context.Context, groups []keystore.Group) (int, error) {
	if r.rewrite != nil {
		groups = slices.Clone(groups)
		for i, g := range groups {
			groups[i] = r.rewrite(slices.Clone(g))
		}
	}
	done, err := r.inner.Commit(ctx, groups)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range slices.Concat(groups[:done]...) {
		if w.Op == keystore.Put {
			r.committed = append(r.committed, keystore.Record{Key: w.Key, Value: w.Value, Rev: w.Rev})
		}
	}
	return done, err
}

func (r *recorder) Name() string { return r.inner.Name() }
func (r *recorder) Close() error { return r.inner.Close() }

func (r *recorder) Replicated(ctx context.Context) error { return r.inner.Replicated(ctx) }
func (r *recorder) Notify(ctx context.Context) error     { return r.inner.Notify(ctx) }

func (r *recorder) Listen(ctx context.Context, changed func()) error {
	return r.inner.Listen(ctx, changed)
}

func (r *recorder) all() []keystore.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.committed)
}

// learner is a root store that tells the test of every root there ever was.
type learner struct {
	inner  keystore.RootStore
	dir    string
	hoards bool // a planted fault: what is destroyed is kept

	mu      sync.Mutex
	ever    []keystore.Root
	hoarded []keystore.Root
}

func (l *learner) learn(roots ...keystore.Root) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ever = append(l.ever, roots...)
}

// known returns every root that ever was.
func (l *learner) known() []keystore.Root {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.ever)
}

// left returns the roots that an attacker finds: those whose bytes stand in any file of
// the root store's directory, and what was hoarded.
func (l *learner) left() (left []keystore.Root, err error) {
	var files []byte
	err = filepath.WalkDir(l.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		files = append(files, b...)
		return err
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.ever {
		if bytes.Contains(files, r.Key[:]) {
			left = append(left, r)
		}
	}
	return append(left, l.hoarded...), err
}

func (l *learner) Create(ctx context.Context, c keystore.RootContents) error {
	l.learn(c.Living...)
	return l.inner.Create(ctx, c)
}

func (l *learner) Load(ctx context.Context, keys ...keystore.RootID) (keystore.RootContents, error) {
	return l.inner.Load(ctx, keys...)
}

func (l *learner) Add(ctx context.Context, r keystore.Root) error {
	l.learn(r)
	return l.inner.Add(ctx, r)
}

func (l *learner) Destroy(ctx context.Context, ids []keystore.RootID) error {
	l.mu.Lock()
	for _, r := range l.ever {
		if l.hoards && slices.Contains(ids, r.ID) {
			l.hoarded = append(l.hoarded, r)
		}
	}
	l.mu.Unlock()
	return l.inner.Destroy(ctx, ids)
}

func (l *learner) Raise(ctx context.Context, a keystore.Anchor, ts []keystore.Tombstone) error {
	return l.inner.Raise(ctx, a, ts)
}

func (l *learner) Trim(ctx context.Context, final func(keystore.Tombstone) bool) error {
	return l.inner.Trim(ctx, final)
}

func (l *learner) Remove(ctx context.Context) error { return l.inner.Remove(ctx) }
func (l *learner) Place() keystore.Place            { return l.inner.Place() }
