package pgstore_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
)

// Groups that are joined into one transaction, and taken apart when they conflict, do what
// memstore does with one after the other.
func TestJoinedGroupsDoWhatSingleOnesDo(t *testing.T) {
	ctx := t.Context()
	s := create(t, pgtest.Shared(t).Database(t), nil)
	round := 0
	rapid.Check(t, func(t *rapid.T) {
		round++
		model := memstore.New()
		revs := map[string]keystore.Rev{} // as the model would have them after the groups drawn so far
		next := keystore.Rev(1)
		draw := func(t *rapid.T) keystore.Group {
			var g keystore.Group
			for i := range rapid.IntRange(0, 4).Draw(t, "writes") {
				key := fmt.Sprintf("%c%d", 'a'+rapid.IntRange(0, 4).Draw(t, "key"), round)
				if slices.ContainsFunc(g, func(w keystore.Write) bool { return string(w.Key) == key }) {
					continue
				}
				w := keystore.Write{Op: keystore.Op(rapid.IntRange(0, 2).Draw(t, "op")), Key: []byte(key), If: revs[key]}
				if rapid.IntRange(0, 19).Draw(t, "wrong") == 0 {
					w.If = keystore.Rev(rapid.IntRange(0, 3).Draw(t, "if"))
				}
				if w.Op == keystore.Put {
					next++
					w.Rev, w.Value = next, fmt.Appendf(nil, "%d-%d", next, i)
				}
				g = append(g, w)
			}
			for _, w := range g {
				if w.Op != keystore.Guard {
					revs[string(w.Key)] = w.Rev
				}
			}
			return g
		}
		for range rapid.IntRange(1, 5).Draw(t, "commits") {
			groups := rapid.SliceOfN(rapid.Custom(draw), 1, 6).Draw(t, "groups")
			want, wantErr := model.Commit(ctx, groups)
			got, err := s.Commit(ctx, groups)
			require.Equal(t, want, got)
			require.Equal(t, wantErr == nil, err == nil, "%v", err)
			require.Equal(t, errors.Is(wantErr, keystore.ErrConflict), errors.Is(err, keystore.ErrConflict), "%v", err)
			clear(revs)
			for c := 'a'; c <= 'e'; c++ {
				key := fmt.Appendf(nil, "%c%d", c, round)
				want, _ := model.Get(ctx, [][]byte{key})
				got, err := s.Get(ctx, [][]byte{key})
				require.NoError(t, err)
				require.Equal(t, want[0].Rev, got[0].Rev, "%s", key)
				require.Equal(t, string(want[0].Value), string(got[0].Value))
				revs[string(key)] = got[0].Rev
			}
		}
	})
}
