package anonymize_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// Readers, writers, rotators and erasers at once. Once Anonymize has returned, nothing
// in the process opens the subject, and no new key appears for it.
func TestEverybodyAtOnce(t *testing.T) {
	const people, erased = 24, 16
	ctx := background(t)
	p := newProcess(t)
	gone := make([]atomic.Bool, people+1) // set when Anonymize has returned
	subjects := make([]keystore.Subject, people+1)
	for id := int64(1); id <= people; id++ {
		p.addCustomer(id)
		subjects[id] = subj(t, fmt.Sprintf("customer/%d", id))
	}
	p.customerT.PreAnonymize("crm", func(ctx context.Context, e anonymize.Erasure, c customer) error {
		if c.Privacy != fieldcrypt.StatusOpen || c.FirstName == "" {
			return fmt.Errorf("the row of %s is %s to its receiver", e.Subject, c.Privacy)
		}
		return nil
	})

	stop := make(chan struct{})
	var background, erasers sync.WaitGroup
	var opened, sealed, refused atomic.Int64
	loop := func(f func(id int64) error) {
		background.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := f(1 + rand.Int64N(people)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	read := func(id int64) error {
		after := gone[id].Load()
		c := p.customers.get(id)
		if err := p.customerC.Open(ctx, &c); err != nil {
			return err
		}
		switch open := strings.HasPrefix(c.FirstName, "Ada") || strings.HasPrefix(c.FirstName, "Eve"); {
		case open && after:
			return fmt.Errorf("customer/%d opened after its erasure had returned", id)
		case open:
			opened.Add(1)
		}
		return nil
	}
	write := func(id int64) error {
		after := gone[id].Load()
		update := customer{ID: id, FirstName: fmt.Sprintf("Eve%d", id), Email: fmt.Sprintf("eve%d@example.com", id)}
		c, err := p.customerC.Seal(ctx, update)
		switch {
		case errors.Is(err, keystore.ErrErased), errors.Is(err, keystore.ErrErasing):
			refused.Add(1)
			return nil
		case err != nil:
			return err
		case after:
			return fmt.Errorf("customer/%d was sealed after its erasure had returned", id)
		}
		sealed.Add(1)
		p.customers.put(c) // may well be later than the blanking
		return nil
	}
	rotate := func(id int64) error {
		errs, err := p.keys.Rotate(ctx, subjects[id])
		if err == nil {
			err = errs[0]
		}
		if errors.Is(err, keystore.ErrErased) || errors.Is(err, keystore.ErrErasing) {
			return nil
		}
		return err
	}
	look := func(id int64) error {
		after := gone[id].Load()
		d, err := p.eraser.Export(ctx, subjects[id])
		if err != nil {
			return err
		}
		for _, table := range d.Tables {
			for _, row := range table.Rows {
				for _, v := range row {
					if after && v.Personal && v.State == fieldcrypt.StatusOpen && v.Value != nil {
						return fmt.Errorf("customer/%d: %s is exported after its erasure had returned", id, v.Name)
					}
				}
			}
		}
		_, err = p.eraser.Preview(ctx, subjects[id])
		return err
	}
	for _, f := range []func(int64) error{read, read, write, rotate, look} {
		loop(f)
	}
	for range 2 { // both erase everybody, in batches of their own
		erasers.Go(func() {
			order := rand.Perm(erased)
			for len(order) > 0 {
				n := min(1+rand.IntN(4), len(order))
				var batch []keystore.Subject
				for _, i := range order[:n] {
					batch = append(batch, subjects[i+1])
				}
				if _, err := p.eraser.Anonymize(ctx, batch...); err != nil {
					t.Error(err)
				}
				for _, i := range order[:n] {
					gone[i+1].Store(true)
				}
				order = order[n:]
			}
		})
	}
	erasers.Wait()
	for id := int64(1); id <= erased; id++ { // once more, now that all are gone
		for _, f := range []func(int64) error{read, write, rotate, look} {
			if err := f(id); err != nil {
				t.Error(err)
			}
		}
	}
	close(stop)
	background.Wait()
	require.Positive(t, opened.Load())
	require.Positive(t, sealed.Load())
	require.Positive(t, refused.Load())

	sts, err := p.keys.Status(ctx, subjects[1:]...)
	require.NoError(t, err)
	for i, st := range sts {
		if i >= erased {
			require.Equal(t, keystore.StateActive, st.State)
			require.NotEmpty(t, p.open(ctx, int64(i+1)).FirstName)
			continue
		}
		require.Equal(t, keystore.StateErased, st.State)
		require.Empty(t, st.Keys, "no new key appears")
		require.True(t, st.Final)
		require.Equal(t, fieldcrypt.StatusErased, p.open(ctx, int64(i+1)).Privacy)
	}
}
