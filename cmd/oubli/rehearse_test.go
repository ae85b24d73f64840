package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
)

// The scratch root of a rehearsal goes, and not what somebody made in its place meanwhile.
func TestScratchRootIsTakenAway(t *testing.T) {
	ctx := t.Context()
	at := memstore.NewRoots()
	remove, err := stageRehearsal(ctx, at)
	require.NoError(t, err)
	again, err := stageRehearsal(ctx, at) // another rehearsal beside it
	require.NoError(t, err)
	require.NoError(t, again())
	_, err = at.Load(ctx)
	require.NoError(t, err)
	require.NoError(t, remove())
	_, err = at.Load(ctx)
	require.ErrorIs(t, err, keystore.ErrNotFound)

	remove, err = stageRehearsal(ctx, at)
	require.NoError(t, err)
	require.NoError(t, at.Remove(ctx))
	require.NoError(t, keystore.Create(ctx, memstore.New(), at, nil))
	require.NoError(t, remove())
	_, err = at.Load(ctx)
	require.NoError(t, err, "the root of a keystore was taken away")
}
