package rootfile

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

func rehearse(t *testing.T, s *Store) keystore.Rehearsal {
	t.Helper()
	r, err := s.Rehearse(t.Context())
	require.NoError(t, err)
	return r
}

// failed lists the steps that did not go as they must.
func failed(r keystore.Rehearsal) (list []string) {
	for _, s := range r.Steps {
		if !s.OK {
			list = append(list, s.What+": "+s.Note)
		}
	}
	return list
}

func TestRehearse(t *testing.T) {
	ps := paths(t, 2)
	a := newRoot(1)
	s := created(t, ps, a)
	before := load(t, s)
	for range 3 {
		r := rehearse(t, s)
		require.Empty(t, failed(r))
		require.True(t, r.Proven())
		require.Contains(t, r.Steps[len(r.Steps)-1].Note, "copies on write")
		var what []string
		for _, step := range r.Steps {
			what = append(what, step.What)
		}
		all := strings.Join(what, "\n")
		for _, p := range ps {
			require.Equal(t, 3, strings.Count(all, p), all)
		}
	}
	after := load(t, s)
	require.Equal(t, before.Living, after.Living)
	require.Len(t, after.Destroyed, 3)
	for _, p := range ps {
		require.NotContains(t, strings.Join(names(t, p), " "), oldInfix)
	}
}

// A rehearsal that could not find a fault would prove nothing.
func TestRehearseFindsWhatIsNotDestroyed(t *testing.T) {
	renames := 0
	// wiping tells whether an operation of the destruction is on the file that it replaced;
	// before, it writes its new content over an older one.
	wiping := func(op, path string) bool {
		if op == "rename" {
			renames++
		}
		return renames == 2 && strings.Contains(path, oldInfix)
	}
	for what, c := range map[string]struct {
		hook     hook
		expected []string
	}{
		"the old file is not overwritten": {
			func(op, path string, do func() error) error {
				if wiping(op, path) && op == "write" {
					return nil
				}
				return do()
			}, []string{"still open here"},
		},
		"the old file stays": {
			func(op, path string, do func() error) error {
				if wiping(op, path) && (op == "write" || op == "remove") {
					return nil
				}
				return do()
			}, []string{"still open here", "no file beside"},
		},
		"somebody copies each root file": {
			func(op, path string, do func() error) error {
				err := do()
				if op == "rename" && !strings.HasSuffix(path, anchorSuffix) {
					b, _ := os.ReadFile(path)
					if _, err := os.Stat(path + "~"); err != nil {
						os.WriteFile(path+"~", b, 0o600)
					}
				}
				return err
			}, []string{"still open here", "no file beside"},
		},
		"the destruction fails": {
			func(op, path string, do func() error) error {
				if wiping(op, path) && op == "open" {
					return errDead
				}
				return do()
			}, []string{"destroyed on every mirror", "still open here", "no file beside"},
		},
	} {
		renames = 0
		ps := paths(t, 1)
		created(t, ps, newRoot(1))
		s, err := New(ps, &Options{Host: "here", hook: c.hook})
		require.NoError(t, err)
		r := rehearse(t, s)
		require.False(t, r.Proven(), what)
		list := failed(r)
		require.Len(t, list, len(c.expected), "%s: %q", what, list)
		for i := range list {
			require.Contains(t, list[i], c.expected[i], what)
		}
	}
}

func TestRehearseNeedsEveryMirror(t *testing.T) {
	ps := paths(t, 2)
	s := created(t, ps, newRoot(1))
	before := everyByte(t, ps)
	require.NoError(t, os.Rename(filepath.Dir(ps[1]), filepath.Dir(ps[1])+"-away"))
	_, err := s.Rehearse(t.Context())
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.NoError(t, os.Rename(filepath.Dir(ps[1])+"-away", filepath.Dir(ps[1])))
	require.True(t, bytes.Equal(before, everyByte(t, ps)), "nothing was written")
	_, err = open(t, paths(t, 1), nil).Rehearse(t.Context())
	require.ErrorIs(t, err, keystore.ErrNotFound)
}

// A rehearsal dies at each of its file operations. The roots that were there live on, and
// what is left of the scratch root goes with the next destruction.
func TestCrashInARehearsal(t *testing.T) {
	for _, mode := range []string{lost, applied, torn} {
		for n := 1; ; n++ {
			ps := paths(t, 2)
			a, b := newRoot(1), newRoot(2)
			quick := &testDisk{} // does not sync
			require.NoError(t, open(t, ps, quick).Create(t.Context(), contents(a, b)))
			d := &testDisk{failAt: n, mode: mode}
			r, err := open(t, ps, d).Rehearse(context.Background())
			d.close()
			if !d.dead {
				require.NoError(t, err)
				require.True(t, r.Proven())
				require.Greater(t, n, 20)
				break
			}
			require.False(t, err == nil && r.Proven(), "%s at %d", mode, n)
			s := open(t, ps, quick)
			c := load(t, s)
			require.Subset(t, c.Living, []keystore.Root{a, b})
			require.LessOrEqual(t, len(c.Living), 3)
			var others []keystore.RootID
			for _, root := range c.Living[2:] {
				others = append(others, root.ID)
			}
			require.NoError(t, s.Destroy(t.Context(), append(others, b.ID)))
			require.Equal(t, []keystore.Root{a}, load(t, s).Living)
			for _, root := range append(c.Living[2:], b) {
				require.False(t, bytes.Contains(everyByte(t, ps), root.Key[:]), "%s at %d", mode, n)
			}
			require.True(t, rehearse(t, s).Proven())
			quick.close()
		}
	}
}
