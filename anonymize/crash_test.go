package anonymize_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/internal/fault"
	"github.com/oubli/oubli/keystore"
)

// The process dies at every write to the keystore, each write lost and applied but
// unanswered; the next process finishes, with every receiver called and nobody else hurt.
func TestCrashAtEveryWrite(t *testing.T) {
	same := &anonymize.Options{Worker: "the service"} // takes up its own claims
	begin := func(t *testing.T) (*data, *process) {
		d := newData(t)
		p := d.start(t, same)
		for id := range int64(3) {
			p.addCustomer(id + 1)
		}
		return d, p
	}
	connect := func(p *process) {
		p.listen("crm", nil)
		p.listen("books", nil)
	}
	d, p := begin(t)
	from := d.backend.Groups()
	connect(p)
	_, err := p.eraser.Anonymize(background(t), subj(t, "customer/1"), subj(t, "customer/2"))
	require.NoError(t, err)
	writes := d.backend.Groups() - from
	require.Greater(t, writes, 10)

	for _, mode := range fault.Modes {
		for n := 1; n <= writes; n++ {
			t.Run(fmt.Sprintf("%s %d", mode, n), func(t *testing.T) {
				ctx := background(t)
				d, p := begin(t)
				connect(p)
				d.backend.FailAt(n, mode)
				erase := []keystore.Subject{subj(t, "customer/1"), subj(t, "customer/2")}
				results, err := p.eraser.Anonymize(ctx, erase...)
				if d.backend.Died() {
					require.Error(t, err)
				}
				for i, r := range results {
					if r.Err == nil {
						require.Equal(t, erase[i], r.Subject)
					}
				}
				heard := p.heard()
				d.backend.Revive()

				q := d.start(t, same)
				connect(q)
				var acked []string
				sts, err := q.keys.Status(ctx, erase...)
				require.NoError(t, err)
				for _, st := range sts {
					if st.Journal != nil {
						for _, name := range st.Journal.Acked {
							acked = append(acked, name+" "+st.Subject.String())
						}
						if st.State == keystore.StateErased || st.Journal.Blanking {
							require.Len(t, st.Journal.Acked, 2, "nothing is blanked or destroyed before all have acknowledged")
						}
					}
				}
				_, err = q.eraser.Anonymize(ctx, erase...)
				require.NoError(t, err)
				again := q.heard()
				for _, s := range erase {
					for _, name := range []string{"crm", "books"} {
						call := name + " " + s.String()
						require.True(t, slices.Contains(heard, call) || slices.Contains(again, call), "%s: at least once", call)
						require.False(t, slices.Contains(acked, call) && slices.Contains(again, call), "%s: not after its acknowledgement", call)
					}
					c := q.open(ctx, map[string]int64{"1": 1, "2": 2}[s.ID()])
					require.Equal(t, fieldcrypt.StatusErased, c.Privacy)
					require.Equal(t, "Erased", c.FirstName)
				}
				require.Equal(t, "Ada3", q.open(ctx, 3).FirstName)
				require.NotEmpty(t, q.invoices.get(30).Address)
			})
		}
	}
}

// The process dies between two rows of the application's tables.
func TestCrashBetweenRows(t *testing.T) {
	dead := errors.New("killed")
	for n := range 4 {
		for _, op := range []string{"read", "save"} {
			t.Run(fmt.Sprintf("%s %d", op, n), func(t *testing.T) {
				ctx := background(t)
				p := newProcess(t, 1)
				p.listen("crm", nil)
				count := 0
				die := func(o string) error {
					if o != op {
						return nil
					}
					if count++; count > n {
						return dead
					}
					return nil
				}
				p.customers.fail = func(o string, _ customer) error { return die(o) }
				p.invoices.fail = func(o string, _ invoice) error { return die(o) }
				_, first := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
				p.customers.fail, p.invoices.fail = nil, nil

				q := p.data.start(t, nil)
				q.listen("crm", nil)
				_, err := q.eraser.Anonymize(ctx, subj(t, "customer/1"))
				require.NoError(t, err)
				if n < 3 {
					require.ErrorIs(t, first, dead)
				}
				require.Equal(t, []string{"crm customer/1"}, append(p.heard(), q.heard()...))
				require.Equal(t, "Erased", q.open(ctx, 1).FirstName)
				for _, id := range []int64{10, 11} {
					i := q.invoices.get(id)
					require.Nil(t, i.Note)
					require.NoError(t, q.invoiceC.Open(context.Background(), &i))
					require.Equal(t, fieldcrypt.StatusErased, i.Privacy)
				}
			})
		}
	}
}
