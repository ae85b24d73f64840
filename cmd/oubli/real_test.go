package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/boltstore"
	"github.com/oubli/oubli/keystore/rootfile"
)

// TestRealProgram kills, interrupts and measures the program.
func TestRealProgram(t *testing.T) {
	const kills = 200
	t.Run("killed with grace 0", func(t *testing.T) { killWhileAnonymizing(t, 0, kills/2) })
	t.Run("killed with grace 1h", func(t *testing.T) { killWhileAnonymizing(t, time.Hour, kills/2) })
	t.Run("killed while restoring with grace 0", func(t *testing.T) { killWhileRestoring(t, 0) })
	t.Run("killed while restoring with grace 1h", func(t *testing.T) { killWhileRestoring(t, time.Hour) })
	t.Run("interrupted", interruptLeavesNothing)
	t.Run("killed while opening", killedOutputIsSwept)
	t.Run("memory", memoryIsFlat)
}

// people is a keystore with a sealed row for each of some subjects, in a folder.
type people struct {
	t    *testing.T
	dir  string
	rows [][]fieldcrypt.Cell // as stored
}

var peopleSpec = fieldcrypt.Spec{Table: "people", Kind: "customer", SubjectColumn: "id",
	Fields: []fieldcrypt.FieldSpec{{Name: "name"}}}

func newPeople(t *testing.T, n int, grace time.Duration) *people {
	p := &people{t: t, dir: t.TempDir()}
	out, err := p.command("init", "--shards", "8", "--grace", grace.String()).CombinedOutput()
	require.NoError(t, err, "%s", out)
	for i := range n {
		p.rows = append(p.rows, []fieldcrypt.Cell{{Text: fmt.Sprint(i + 1)}, {Text: fmt.Sprint("name ", i+1)}})
	}
	keys := p.open(false)
	require.NoError(t, p.bind(keys).Seal(t.Context(), p.rows))
	require.NoError(t, keys.Close())
	return p
}

// command runs the real program in the folder.
func (p *people) command(args ...string) *exec.Cmd {
	c := exec.Command("oubli", args...)
	c.Dir = p.dir
	return c
}

func (p *people) open(readOnly bool) *keystore.Store {
	b, err := boltstore.Open(filepath.Join(p.dir, "oubli.keys"), &boltstore.Options{ReadOnly: readOnly})
	require.NoError(p.t, err)
	roots, err := rootfile.New([]string{filepath.Join(p.dir, "oubli.root")}, nil)
	require.NoError(p.t, err)
	keys, err := keystore.Open(context.Background(), b, roots, &keystore.Options{ReadOnly: readOnly})
	require.NoError(p.t, err)
	return keys
}

func (p *people) bind(keys *keystore.Store) *fieldcrypt.BoundRows {
	codec, err := fieldcrypt.NewRowCodec(keys, peopleSpec, nil)
	require.NoError(p.t, err)
	bound, err := codec.Bind([]string{"id", "name"})
	require.NoError(p.t, err)
	return bound
}

// check reads everybody: all must read but those that must be erased; those that may
// be erased may do either. It returns how many are erased.
func (p *people) check(must, may map[int]bool) (gone int) {
	keys := p.open(false)
	defer func() { require.NoError(p.t, keys.Close()) }()
	rows := make([][]fieldcrypt.Cell, len(p.rows))
	for i := range rows {
		rows[i] = append([]fieldcrypt.Cell(nil), p.rows[i]...)
	}
	_, err := p.bind(keys).Open(p.t.Context(), rows)
	require.NoError(p.t, err)
	for i, row := range rows {
		if row[1].Null {
			gone++
		}
		reads := !row[1].Null && row[1].Text == fmt.Sprint("name ", i+1)
		switch {
		case must[i+1]:
			require.False(p.t, reads, "customer/%d was erased and is back", i+1)
		case !may[i+1]:
			require.True(p.t, reads, "customer/%d is lost", i+1)
		}
	}
	report, err := keys.Verify(p.t.Context())
	require.NoError(p.t, err)
	require.Empty(p.t, report.Problems)
	return gone
}
