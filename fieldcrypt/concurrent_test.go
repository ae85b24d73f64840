package fieldcrypt_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// Readers and writers of one person at once, and one who erases: what is read after the
// erasure returned is erased, and nothing new is sealed.
func TestReadersAndWritersWhileErasing(t *testing.T) {
	ctx := context.Background()
	for range 20 {
		keys := keystoretest.New(t)
		c := newCodec[address1](t, keys, "people", nil)
		stored := seal(t, c, address1{ID: 1, Name: "Ada"})
		var erased atomic.Bool
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for range 200 {
					after := erased.Load()
					row := stored
					if err := c.Open(ctx, &row); err != nil {
						t.Errorf("open: %v", err)
					} else if after && row.Privacy != fieldcrypt.StatusErased {
						t.Errorf("opened after the erasure: %s", row.Privacy)
					}
				}
			})
			wg.Go(func() {
				for range 200 {
					after := erased.Load()
					_, err := c.Seal(ctx, address1{ID: 1, Name: "Bob"})
					if err == nil && after {
						t.Error("sealed after the erasure")
					} else if err != nil && !errors.Is(err, keystore.ErrErased) && !errors.Is(err, keystore.ErrErasing) {
						t.Errorf("seal: %v", err)
					}
				}
			})
		}
		wg.Go(func() {
			erase(t, keys, 1)
			erased.Store(true)
		})
		wg.Wait()
		row := stored
		require.NoError(t, c.Open(ctx, &row))
		require.Equal(t, "Erased", row.Name)
	}
}
