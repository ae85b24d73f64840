package anonymize_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
)

// counting counts the round trips that read from a backend.
type counting struct {
	*memstore.Store
	reads atomic.Int64
}

func (c *counting) Get(ctx context.Context, keys [][]byte) ([]keystore.Record, error) {
	c.reads.Add(1)
	return c.Store.Get(ctx, keys)
}

func (c *counting) Scan(ctx context.Context, from, to []byte, limit int) ([]keystore.Record, error) {
	c.reads.Add(1)
	return c.Store.Scan(ctx, from, to, limit)
}

// customers are n customers in a table of their own, read by a process with a cold cache.
func customers(t *testing.T, n int64) (*anonymize.Table[customer], *counting, []keystore.Subject) {
	t.Helper()
	ctx := background(t)
	db, roots := memstore.New(), memstore.NewRoots()
	require.NoError(t, keystore.Create(ctx, db, roots, &keystore.CreateOptions{Shards: 64}))
	d := newData(t)
	open := func(b keystore.Backend) (*anonymize.Eraser, *fieldcrypt.Codec[customer]) {
		keys, err := keystore.Open(ctx, b, roots, nil)
		require.NoError(t, err)
		e, err := anonymize.New(keys, nil)
		require.NoError(t, err)
		c, err := fieldcrypt.NewCodec[customer](keys, "customers", nil)
		require.NoError(t, err)
		return e, c
	}
	_, codec := open(db)
	var all []keystore.Subject
	for id := range n {
		row, err := codec.Seal(ctx, customer{ID: id + 1, FirstName: fmt.Sprintf("Ada%d", id+1), Country: "NL"})
		require.NoError(t, err)
		d.customers.put(row)
		all = append(all, subj(t, fmt.Sprintf("customer/%d", id+1)))
	}
	cold := &counting{Store: db}
	e, codec := open(cold)
	return anonymize.Register(e, codec, d.customers), cold, all
}

func TestExportOfManyIsOneRoundTrip(t *testing.T) {
	ctx := background(t)
	table, db, all := customers(t, 800)
	_, err := table.Export(ctx, all[:600]...) // the keys of the shards are at hand from here
	require.NoError(t, err)
	before := db.reads.Load()
	rows, err := table.Export(ctx, all[600:]...)
	require.NoError(t, err)
	require.Equal(t, int64(1), db.reads.Load()-before)
	for i := range rows {
		require.Len(t, rows[i], 1)
		require.Equal(t, fieldcrypt.NamedValue{Name: "first_name", Value: fmt.Sprintf("Ada%d", i+601), Personal: true, State: fieldcrypt.StatusOpen}, rows[i][0][1])
	}
}

func TestStoredAsksNobody(t *testing.T) {
	table, db, all := customers(t, 3)
	before := db.reads.Load()
	rows, err := table.Stored(background(t), all...)
	require.NoError(t, err)
	require.Equal(t, before, db.reads.Load())
	require.Equal(t, []fieldcrypt.NamedValue{
		{Name: "ID", Value: int64(2), State: fieldcrypt.StatusOpen},
		{Name: "first_name", Personal: true},
		{Name: "email", Personal: true},
		{Name: "phone", Personal: true},
		{Name: "birth_date", Personal: true},
		{Name: "Country", Value: "NL", State: fieldcrypt.StatusOpen},
		{Name: "Newsletter", Value: false, State: fieldcrypt.StatusOpen},
	}, rows[1][0])
	require.NotContains(t, fmt.Sprint(rows), "oubli1", "no ciphertext either")
}

func TestExportOfManyIsOfThoseOnly(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1, 2, 3)
	_, err := p.eraser.Anonymize(ctx, subj(t, "customer/2"))
	require.NoError(t, err)
	asked := []keystore.Subject{subj(t, "customer/3"), subj(t, "supplier/1"), subj(t, "customer/9"), subj(t, "customer/2"), {}, subj(t, "customer/3")}
	rows, err := p.invoiceT.Export(ctx, asked...)
	require.NoError(t, err)
	require.Equal(t, []int{2, 0, 0, 2, 0, 2}, []int{len(rows[0]), len(rows[1]), len(rows[2]), len(rows[3]), len(rows[4]), len(rows[5])})
	require.Equal(t, rows[0], rows[5])
	require.Equal(t, fieldcrypt.NamedValue{Name: "address", Value: "3 Main Street", Personal: true, State: fieldcrypt.StatusOpen}, rows[0][0][2])
	require.Equal(t, fieldcrypt.NamedValue{Name: "address", Personal: true, State: fieldcrypt.StatusErased}, rows[3][0][2])
	require.NotContains(t, fmt.Sprint(rows), "1 Main Street")

	p.invoices.owner = func(invoice) string { return "supplier/1" }
	rows, err = p.invoiceT.Export(ctx, subj(t, "supplier/1"))
	require.NoError(t, err, "the source is not asked for what the table has not")
	require.Equal(t, [][][]fieldcrypt.NamedValue{nil}, rows)
	p.invoices.owner = func(invoice) string { return "customer/3" }
	for _, f := range []func(context.Context, ...keystore.Subject) ([][][]fieldcrypt.NamedValue, error){p.invoiceT.Export, p.invoiceT.Stored} {
		rows, err = f(ctx, subj(t, "customer/3"))
		require.ErrorIs(t, err, keystore.ErrInvalid, "the source gives somebody else's rows")
		require.Nil(t, rows)
	}
}

func TestRowThatDoesNotOpenHidesNoOther(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1, 2)
	moved := p.customers.get(1)
	moved.Email = p.customers.get(2).Email
	p.customers.put(moved)
	rows, err := p.customerT.Export(ctx, subj(t, "customer/1"), subj(t, "customer/2"))
	require.ErrorIs(t, err, keystore.ErrUnknownKey)
	var b *fieldcrypt.BatchError
	require.ErrorAs(t, err, &b)
	require.Equal(t, subj(t, "customer/1"), b.Rows[0].Subject)
	require.Equal(t, "Ada2", rows[1][0][1].Value)
	stored, err := p.customerT.Stored(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	require.Equal(t, stored[0], rows[0])
	require.NotContains(t, fmt.Sprint(rows[0]), "Ada1")
}

func TestExportWithoutKeystoreTellsNothing(t *testing.T) {
	p := newProcess(t, 1)
	q := p.data.start(t, nil)
	p.backend.FailAt(1, 0)
	p.addCustomerFails()
	rows, err := q.customerT.Export(background(t), subj(t, "customer/1"))
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.Nil(t, rows)
	p.backend.Revive()

	down := errors.New("down")
	p.customers.fail = func(string, customer) error { return down }
	rows, err = q.customerT.Export(background(t), subj(t, "customer/1"))
	require.ErrorIs(t, err, down)
	require.Nil(t, rows)
}

// addCustomerFails meets the fault of the backend.
func (p *process) addCustomerFails() {
	_, err := p.customerC.Seal(context.Background(), customer{ID: 77, FirstName: "Ada"})
	require.Error(p.t, err)
}

// Stored lists the columns of Export, whatever the shape of the row.
func TestStoredHasTheColumnsOfExport(t *testing.T) {
	type named struct {
		First string `oubli:"first"`
		Title string
	}
	type deep struct{ In *Named4 }
	type row struct {
		No     *int64  `oubli:"no,key"`
		Owner  int64   `oubli:",subject=customer" db:"owner_id"`
		Hidden string  `oubli:"-"`
		Secret *string `oubli:"secret,purpose=tax"`
		Name   named
		Other  *named2
		None   *named3
		deep
		Named5
		At       time.Time `json:"at,omitempty"`
		Until    *time.Time
		Tags     []string
		Plain    struct{ A int }
		Born     fieldcrypt.Private[time.Time] `oubli:"born,blank=year"`
		Privacy  fieldcrypt.Status
		internal int
	}
	ctx := background(t)
	p := newData(t).bare(t, nil)
	c, err := fieldcrypt.NewCodec[row](p.keys, "rows", nil)
	require.NoError(t, err)
	no, secret := int64(4), "s"
	r, err := c.Seal(ctx, row{No: &no, Owner: 1, Hidden: "h", Secret: &secret, Name: named{"Ada", "Dr"}, Other: &named2{Nick: "a", Rank: 3},
		deep: deep{&Named4{Call: "b"}}, At: time.Unix(1, 0), Born: fieldcrypt.NewPrivate(time.Unix(2, 0)), internal: 7})
	require.NoError(t, err)
	m := &memTable[row]{rows: map[int64]row{}, id: func(r row) int64 { return *r.No }, owner: func(row) string { return "customer/1" }}
	m.put(r)
	table := anonymize.Register(p.eraser, c, m)
	opened, err := table.Export(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	stored, err := table.Stored(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	for i, v := range opened[0][0] {
		if v.Personal {
			opened[0][0][i] = fieldcrypt.NamedValue{Name: v.Name, Personal: true}
		}
	}
	require.Equal(t, opened, stored)
	columns := table.Columns()
	for i, v := range stored[0][0] {
		require.Equal(t, fieldcrypt.NamedValue{Name: v.Name, Personal: v.Personal}, columns[i])
	}
	require.Len(t, columns, len(stored[0][0]))
	require.Nil(t, anonymize.Register[row](p.eraser, nil, nil).Columns())
	require.Greater(t, len(stored[0][0]), 12)
	require.False(t, strings.Contains(fmt.Sprint(stored), "oubli1"))
}

type named2 struct {
	Nick string `oubli:"nick"`
	Rank int
}

type Named4 struct {
	Call string `oubli:"call"`
}

type Named5 struct {
	Suffix string `oubli:"suffix"`
	Salute string
}

type named3 struct {
	Alias string `oubli:"alias"`
	Note  string
}
