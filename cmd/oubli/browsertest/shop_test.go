package browsertest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/cmd/oubli/internal/demo"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// customers is how many there are: customer/1 and so on.
const customers = 59

// refusal is what the system says that customers have accounts in.
const refusal = "the CRM answers 502 Bad Gateway"

// shop is the Chinook shop, and the page over it.
type shop struct {
	*demo.Shop
	t      *testing.T
	site   *site
	dir    string
	refuse atomic.Int64 // the customer whose account the CRM doesn't delete
	hang   atomic.Int64 // the customer whom it never answers about
	stop   func()       // nobody works on erasures any more
	end    func()       // the process is over
}

// openShop opens the shop, and somebody works on its erasures. What fails is not tried again
// by itself for as long as a test takes.
func openShop(t *testing.T) *shop {
	s := &shop{t: t, site: newSite(t), dir: t.TempDir()}
	s.begin()
	t.Cleanup(func() { s.end() })
	return s
}

func (s *shop) begin() {
	var err error
	s.Shop, err = demo.Open(context.Background(), s.dir, &anonymize.Options{Backoff: 5 * time.Minute, Worker: "shop"})
	require.NoError(s.t, err)
	s.Customers.PreAnonymize("crm", func(ctx context.Context, _ anonymize.Erasure, c demo.Customer) error {
		if c.ID == s.hang.Load() {
			<-ctx.Done()
			return ctx.Err()
		}
		if c.ID == s.refuse.Load() {
			return errors.New(refusal)
		}
		return nil
	})
	columns, err := s.Columns()
	require.NoError(s.t, err)
	s.site.mount(s.Eraser, columns)
	s.stop = work(s.t, s.Eraser)
	s.end = sync.OnceFunc(func() {
		s.stop()
		require.NoError(s.t, s.Close())
	})
}

// restart is what the application's process goes through.
func (s *shop) restart() {
	s.end()
	s.begin()
}

// customer is the subject of one.
func customer(t *testing.T, id int) keystore.Subject {
	c, err := keystore.NewSubject("customer", id)
	require.NoError(t, err)
	return c
}

// state is the one that the keystore says.
func (s *shop) state(id int) keystore.State {
	s.t.Helper()
	list, err := s.Keys.Status(context.Background(), customer(s.t, id))
	require.NoError(s.t, err)
	return list[0].State
}

// rows is everything that is held about each customer, as it opens.
func (s *shop) rows() map[int][]fieldcrypt.NamedValue {
	s.t.Helper()
	var all []keystore.Subject
	for id := 1; id <= customers; id++ {
		all = append(all, customer(s.t, id))
	}
	c, err := s.Customers.Export(context.Background(), all...)
	require.NoError(s.t, err)
	i, err := s.Invoices.Export(context.Background(), all...)
	require.NoError(s.t, err)
	rows := map[int][]fieldcrypt.NamedValue{}
	for n := range all {
		require.Len(s.t, c[n], 1)
		require.NotEmpty(s.t, i[n])
		rows[n+1] = slices.Concat(append(c[n], i[n]...)...)
	}
	return rows
}

// open are the personal values that can be read.
func open(values []fieldcrypt.NamedValue) []fieldcrypt.NamedValue {
	return slices.DeleteFunc(slices.Clone(values), func(v fieldcrypt.NamedValue) bool {
		return !v.Personal || v.State != fieldcrypt.StatusOpen || v.Value == nil
	})
}

// turnover is what statistics say.
func (s *shop) turnover() map[string]int64 {
	s.t.Helper()
	sums, err := s.Turnover(context.Background())
	require.NoError(s.t, err)
	require.Len(s.t, sums, 24)
	return sums
}

func (s *shop) states(ids []int) (list []keystore.State) {
	s.t.Helper()
	for _, id := range ids {
		list = append(list, s.state(id))
	}
	return list
}
