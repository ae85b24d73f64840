package anonymize_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/internal/fault"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
	"github.com/oubli/oubli/keystore/memstore"
)

type customer struct {
	ID         int64                         `oubli:",subject=customer"`
	FirstName  string                        `oubli:"first_name,replace=Erased"`
	Email      string                        `oubli:"email"`
	Phone      *string                       `oubli:"phone"`
	BirthDate  fieldcrypt.Private[time.Time] `oubli:"birth_date,blank=year"`
	Privacy    fieldcrypt.Status
	Country    string
	Newsletter bool
}

// Anonymize extends the blanking.
func (c *customer) Anonymize() []string {
	c.Newsletter = false
	return []string{"newsletter"}
}

type invoice struct {
	ID       int64   `oubli:"id,key"`
	Customer int64   `oubli:",subject=customer"`
	Address  string  `oubli:"address,purpose=tax"`
	Note     *string `oubli:"note"`
	Privacy  fieldcrypt.Status
	Total    int
}

type supplier struct {
	ID      int64  `oubli:",subject=supplier"`
	Name    string `oubli:"name"`
	Privacy fieldcrypt.Status
}

// memTable is a table of an application. It is locked while its rows are read, as a
// table behind one connection is.
type memTable[T any] struct {
	mu     sync.Mutex
	rows   map[int64]T
	id     func(T) int64
	owner  func(T) string
	copy   func(dst *T, src T, column string)
	unique func(T) string // of a column under UNIQUE; "" is NULL
	fail   func(op string, row T) error
	saved  [][]string // columns of each SaveFields
}

func (m *memTable[T]) RowsOf(ctx context.Context, s keystore.Subject) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		m.mu.Lock()
		defer m.mu.Unlock()
		var ids []int64
		for id := range m.rows {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		for _, id := range ids {
			row := m.rows[id]
			if m.owner(row) != s.String() {
				continue
			}
			var err error
			if m.fail != nil {
				err = m.fail("read", row)
			}
			if !yield(row, err) || err != nil {
				return
			}
		}
	}
}

func (m *memTable[T]) SaveFields(ctx context.Context, row T, columns []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		if err := m.fail("save", row); err != nil {
			return err
		}
	}
	stored, ok := m.rows[m.id(row)]
	if !ok {
		return fmt.Errorf("no such row")
	}
	for _, c := range columns {
		m.copy(&stored, row, c)
	}
	if m.unique != nil {
		for id, other := range m.rows {
			if id != m.id(row) && m.unique(stored) != "" && m.unique(other) == m.unique(stored) {
				return fmt.Errorf("UNIQUE constraint failed")
			}
		}
	}
	m.rows[m.id(row)] = stored
	m.saved = append(m.saved, slices.Clone(columns))
	return nil
}

func (m *memTable[T]) put(row T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows[m.id(row)] = row
}

func (m *memTable[T]) get(id int64) T {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rows[id]
}

// saves returns the columns of each SaveFields since the last call.
func (m *memTable[T]) saves() [][]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.saved
	m.saved = nil
	return s
}

// data is an application's database: it outlives processes.
type data struct {
	backend   *fault.Backend
	roots     keystore.RootStore
	customers *memTable[customer]
	invoices  *memTable[invoice]
	suppliers *memTable[supplier]
}

// process is one process of the application.
type process struct {
	*data
	t         testing.TB
	keys      *keystore.Store
	eraser    *anonymize.Eraser
	customerC *fieldcrypt.Codec[customer]
	invoiceC  *fieldcrypt.Codec[invoice]
	supplierC *fieldcrypt.Codec[supplier]
	customerT *anonymize.Table[customer]
	invoiceT  *anonymize.Table[invoice]
	supplierT *anonymize.Table[supplier]

	mu    sync.Mutex
	calls []string
}

func newData(t testing.TB) *data {
	d := &data{backend: fault.Wrap(memstore.New()), roots: memstore.NewRoots()}
	require.NoError(t, keystore.Create(context.Background(), d.backend, d.roots, &keystore.CreateOptions{Shards: 64}))
	d.customers = &memTable[customer]{rows: map[int64]customer{}, id: func(c customer) int64 { return c.ID },
		owner:  func(c customer) string { return fmt.Sprintf("customer/%d", c.ID) },
		unique: func(c customer) string { return c.Email },
		copy: func(dst *customer, src customer, column string) {
			switch column {
			case "first_name":
				dst.FirstName = src.FirstName
			case "email":
				dst.Email = src.Email
			case "phone":
				dst.Phone = src.Phone
			case "birth_date":
				dst.BirthDate = src.BirthDate
			case "newsletter":
				dst.Newsletter = src.Newsletter
			}
		}}
	d.invoices = &memTable[invoice]{rows: map[int64]invoice{}, id: func(i invoice) int64 { return i.ID },
		owner: func(i invoice) string { return fmt.Sprintf("customer/%d", i.Customer) },
		copy: func(dst *invoice, src invoice, column string) {
			switch column {
			case "address":
				dst.Address = src.Address
			case "note":
				dst.Note = src.Note
			}
		}}
	d.suppliers = &memTable[supplier]{rows: map[int64]supplier{}, id: func(s supplier) int64 { return s.ID },
		owner: func(s supplier) string { return fmt.Sprintf("supplier/%d", s.ID) },
		copy:  func(dst *supplier, src supplier, column string) { *dst = src }}
	return d
}

// start starts a process on the data, with all tables registered and no receivers.
func (d *data) start(t testing.TB, o *anonymize.Options) *process {
	t.Helper()
	p := d.bare(t, o)
	p.customerT = anonymize.Register(p.eraser, p.customerC, d.customers)
	p.invoiceT = anonymize.Register(p.eraser, p.invoiceC, d.invoices)
	p.supplierT = anonymize.Register(p.eraser, p.supplierC, d.suppliers)
	return p
}

// bare starts a process without tables, as the command line is one.
func (d *data) bare(t testing.TB, o *anonymize.Options) *process {
	t.Helper()
	p := &process{data: d, t: t}
	var err error
	p.keys, err = keystore.Open(context.Background(), d.backend, d.roots, nil)
	require.NoError(t, err)
	t.Cleanup(func() {
		if !d.backend.Died() {
			keystoretest.Check(t, p.keys)
		}
	})
	p.eraser, err = anonymize.New(p.keys, o)
	require.NoError(t, err)
	p.customerC, err = fieldcrypt.NewCodec[customer](p.keys, "customers", nil)
	require.NoError(t, err)
	p.invoiceC, err = fieldcrypt.NewCodec[invoice](p.keys, "invoices", nil)
	require.NoError(t, err)
	p.supplierC, err = fieldcrypt.NewCodec[supplier](p.keys, "suppliers", nil)
	require.NoError(t, err)
	return p
}

// newProcess starts the first process on new data, with some customers.
func newProcess(t testing.TB, customers ...int64) *process {
	t.Helper()
	p := newData(t).start(t, nil)
	for _, id := range customers {
		p.addCustomer(id)
	}
	return p
}

func (p *process) addCustomer(id int64) {
	p.t.Helper()
	ctx := context.Background()
	phone, note := fmt.Sprintf("+31 %d", id), fmt.Sprintf("note of %d", id)
	c, err := p.customerC.Seal(ctx, customer{ID: id, FirstName: fmt.Sprintf("Ada%d", id), Email: fmt.Sprintf("ada%d@example.com", id),
		Phone: &phone, BirthDate: fieldcrypt.NewPrivate(time.Date(1990, 5, 17, 0, 0, 0, 0, time.UTC)), Country: "NL", Newsletter: true})
	require.NoError(p.t, err)
	p.customers.put(c)
	for n := range int64(2) {
		i, err := p.invoiceC.Seal(ctx, invoice{ID: 10*id + n, Customer: id, Address: fmt.Sprintf("%d Main Street", id), Note: &note, Total: 100})
		require.NoError(p.t, err)
		p.invoices.put(i)
	}
}

// open reads a customer as the application does.
func (p *process) open(ctx context.Context, id int64) customer {
	p.t.Helper()
	c := p.customers.get(id)
	require.NoError(p.t, p.customerC.Open(ctx, &c))
	return c
}

func (p *process) state(s keystore.Subject) keystore.State {
	p.t.Helper()
	st, err := p.keys.Status(context.Background(), s)
	require.NoError(p.t, err)
	return st[0].State
}

// called notes a call of a receiver.
func (p *process) called(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, what)
}

// heard returns the calls since the last time.
func (p *process) heard() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.calls
	p.calls = nil
	return c
}

// listen connects a receiver of customers that notes its calls and fails while f does.
func (p *process) listen(name string, f func() error) {
	p.eraser.PreAnonymize("customer", name, func(ctx context.Context, e anonymize.Erasure) error {
		p.called(name + " " + e.Subject.String())
		if f != nil {
			return f()
		}
		return nil
	})
}

func subj(t testing.TB, text string) keystore.Subject {
	t.Helper()
	s, err := keystore.ParseSubject(text)
	require.NoError(t, err)
	return s
}

// background is a context that ends with the test, which may not hang.
func background(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}
