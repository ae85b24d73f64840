package fieldcrypt_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// Somebody nobody knew becomes known and is erased while her plaintext waits in a batch.
func TestUnknownPeopleWhoAreErasedInAStream(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	type reader struct {
		ID      int64  `oubli:",subject=customer"`
		Name    string `oubli:"name,replace=gone"`
		Privacy fieldcrypt.Status
	}
	c := newCodec[reader](t, keys, "readers", &fieldcrypt.Options{Adopting: []string{"name"}})
	var names []string
	for row, err := range c.OpenSeq(ctx, func(yield func(reader, error) bool) {
		_ = yield(reader{ID: 1, Name: "Ada"}, nil) && yield(reader{ID: 2, Name: "Bob"}, nil) && yield(reader{ID: 3, Name: "Cleo"}, nil)
	}) {
		require.NoError(t, err)
		names = append(names, row.Name)
		if row.ID == 1 {
			seal(t, c, reader{ID: 2, Name: "Bob"})
			erase(t, keys, 2)
		}
	}
	require.Equal(t, []string{"Ada", "gone", "Cleo"}, names)
}
