package browsertest

import (
	"context"
	"iter"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// guest is a row about somebody whose id may be anything.
type guest struct {
	ID      string            `oubli:",subject=guest"`
	Name    string            `oubli:"name,replace=Erased"`
	Privacy fieldcrypt.Status `json:"-"`
}

// guests are a table in memory.
type guests struct {
	mu   sync.Mutex
	rows map[string]guest
}

func (g *guests) RowsOf(_ context.Context, s keystore.Subject) iter.Seq2[guest, error] {
	return func(yield func(guest, error) bool) {
		g.mu.Lock()
		row, ok := g.rows[s.ID()]
		g.mu.Unlock()
		if ok {
			yield(row, nil)
		}
	}
}

func (g *guests) SaveFields(_ context.Context, row guest, _ []string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rows[row.ID] = row
	return nil
}

// hotel has guests with these ids, each known as its id.
func hotel(t *testing.T, ids ...string) (*anonymize.Eraser, *anonymize.Table[guest]) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	codec, err := fieldcrypt.NewCodec[guest](keys, "guests", nil)
	require.NoError(t, err)
	eraser, err := anonymize.New(keys, nil)
	require.NoError(t, err)
	g := &guests{rows: map[string]guest{}}
	for _, id := range ids {
		row, err := codec.Seal(ctx, guest{ID: id, Name: "Known as " + id})
		require.NoError(t, err)
		g.rows[id] = row
	}
	return eraser, anonymize.Register(eraser, codec, g)
}
