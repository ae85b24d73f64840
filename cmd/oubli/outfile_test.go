package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// What somebody wrote while a proposal was being made stays.
func TestANewFileReplacesNothing(t *testing.T) {
	dir := t.TempDir()
	for name, meanwhile := range map[string]string{"oubli.yaml": "corrected", "other.yaml": ""} {
		path := filepath.Join(dir, name)
		out, err := createOut(path, nil)
		require.NoError(t, err)
		out.WriteString("proposed")
		want := "proposed"
		if meanwhile != "" {
			require.NoError(t, os.WriteFile(path, []byte(meanwhile), 0o600))
			want = meanwhile
		}
		err = out.finishNew()
		out.discard()
		require.Equal(t, meanwhile != "", errors.Is(err, fs.ErrExist), err)
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, want, string(text))
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 2)
}
