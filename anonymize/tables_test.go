package anonymize_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/internal/fault"
	"github.com/oubli/oubli/keystore"
)

// mapped are the customers and invoices of a process as Tables: both of one person change
// together or not at all.
type mapped struct {
	p      *process
	before func(s keystore.Subject) error // Blank, before it commits
	after  func(s keystore.Subject) error // it has committed
	read   func(s keystore.Subject) error // Count and Export
	keep   [][]string                     // of each Blank
}

func (m *mapped) Tables() []anonymize.TableInfo {
	return []anonymize.TableInfo{
		{Name: "customers", Kind: "customer", Fields: m.p.customerC.Fields()},
		{Name: "suppliers", Kind: "supplier", Fields: m.p.supplierC.Fields()},
		{Name: "invoices", Kind: "customer", Fields: m.p.invoiceC.Fields()},
	}
}

func rowsOf[T any](m *memTable[T], s keystore.Subject) (rows []T, err error) {
	for row, err := range m.RowsOf(context.Background(), s) {
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (m *mapped) Blank(ctx context.Context, s keystore.Subject, keep []string) error {
	m.keep = append(m.keep, keep)
	customers, err := rowsOf(m.p.customers, s)
	if err != nil {
		return err
	}
	for i := range customers {
		if _, err := m.p.customerC.Blank(ctx, &customers[i], keep); err != nil {
			return err
		}
	}
	invoices, err := rowsOf(m.p.invoices, s)
	if err != nil {
		return err
	}
	for i := range invoices {
		if _, err := m.p.invoiceC.Blank(ctx, &invoices[i], keep); err != nil {
			return err
		}
	}
	if m.before != nil {
		if err := m.before(s); err != nil {
			return err
		}
	}
	for _, c := range customers {
		m.p.customers.put(c)
	}
	for _, i := range invoices {
		m.p.invoices.put(i)
	}
	if m.after != nil {
		return m.after(s)
	}
	return nil
}

func (m *mapped) Count(ctx context.Context, s keystore.Subject) (map[string]int, error) {
	if m.read != nil {
		if err := m.read(s); err != nil {
			return nil, err
		}
	}
	customers, err := rowsOf(m.p.customers, s)
	if err != nil {
		return nil, err
	}
	invoices, err := rowsOf(m.p.invoices, s)
	return map[string]int{"customers": len(customers), "invoices": len(invoices)}, err
}

func (m *mapped) Export(ctx context.Context, s keystore.Subject) ([]anonymize.TableData, error) {
	if m.read != nil {
		if err := m.read(s); err != nil {
			return nil, err
		}
	}
	customers, err := rowsOf(m.p.customers, s)
	if err != nil {
		return nil, err
	}
	data := anonymize.TableData{Table: "customers"}
	for i := range customers {
		values, err := m.p.customerC.Export(ctx, &customers[i])
		if err != nil {
			return nil, err
		}
		data.Rows = append(data.Rows, values)
	}
	return []anonymize.TableData{data, {Table: "invoices"}}, nil
}

// newMapped starts the first process on new data, its tables registered together.
func newMapped(t testing.TB, customers ...int64) (*process, *mapped) {
	t.Helper()
	p, m := newData(t).startMapped(t, nil)
	for _, id := range customers {
		p.addCustomer(id)
	}
	return p, m
}

func (d *data) startMapped(t testing.TB, o *anonymize.Options) (*process, *mapped) {
	t.Helper()
	p := d.bare(t, o)
	m := &mapped{p: p}
	p.eraser.RegisterTables(m)
	return p, m
}

// blanked tells whether nothing personal is left in a customer's rows, and a year is.
func (p *process) blanked(id int64) bool {
	c, year := p.customers.get(id), ""
	v, err := c.BirthDate.Value()
	require.NoError(p.t, err)
	if text, ok := v.(string); ok {
		year = text[max(0, len(text)-5):]
	}
	i := p.invoices.get(10 * id)
	return c.Phone == nil && i.Note == nil && year == "~1990"
}

func TestTablesAreBlankedBeforeTheKeysAreDestroyed(t *testing.T) {
	ctx := background(t)
	p, m := newMapped(t, 1, 2)
	var at keystore.State
	p.listen("crm", func() error { require.False(t, p.blanked(1)); return nil })
	m.after = func(s keystore.Subject) error { at = p.state(s); return nil }
	results, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	require.Equal(t, "erased", results[0].State)
	require.Equal(t, keystore.StateErasing, at)
	require.True(t, p.blanked(1), "the year needed the plaintext")
	require.Equal(t, fieldcrypt.StatusErased, p.open(ctx, 1).Privacy)
	require.False(t, p.blanked(2))
	require.Equal(t, "Ada2", p.open(ctx, 2).FirstName)

	_, err = p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.NoError(t, err, "twice is once")
	require.Len(t, m.keep, 1)
}

func TestTablesHearWhatIsKept(t *testing.T) {
	ctx := background(t)
	p, m := newMapped(t, 1)
	results, err := p.eraser.AnonymizeWith(ctx, &anonymize.Request{Keep: []string{"tax"}}, subj(t, "customer/1"))
	require.NoError(t, err)
	require.Equal(t, []string{"tax"}, results[0].Kept)
	require.Equal(t, [][]string{{"tax"}}, m.keep)
	require.NotEmpty(t, p.invoices.get(10).Address)

	_, err = p.eraser.AnonymizeWith(ctx, &anonymize.Request{Keep: []string{"taxx"}}, subj(t, "customer/1"))
	require.ErrorIs(t, err, keystore.ErrInvalid, "no table has such a purpose")
	_, err = p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	require.Equal(t, [][]string{{"tax"}, nil}, m.keep, "the rest later")
}

func TestTablesThatFailStopTheErasure(t *testing.T) {
	fault := errors.New("deadlock")
	for name, f := range map[string]func() error{
		"error": func() error { return fault },
		"panic": func() error { panic("secret of ada1@example.com") },
	} {
		t.Run(name, func(t *testing.T) {
			ctx := background(t)
			worker, stop := context.WithCancel(ctx)
			defer stop()
			p, m := newData(t).startMapped(t, &anonymize.Options{Report: func(anonymize.Result) { stop() }})
			p.addCustomer(1)
			p.addCustomer(2)
			m.before = func(s keystore.Subject) error {
				if s.ID() == "1" {
					return f()
				}
				return nil
			}
			results, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"), subj(t, "customer/2"))
			var c *anonymize.CallbackError
			require.ErrorAs(t, err, &c)
			require.Equal(t, "Blank", c.Op)
			require.Equal(t, `tables "customers", "invoices"`, c.On)
			require.NotContains(t, err.Error(), "secret")
			if name == "error" {
				require.ErrorIs(t, err, fault)
			}
			require.Equal(t, []string{"erasing", "erased"}, []string{results[0].State, results[1].State}, "nobody else is stopped")
			require.False(t, p.blanked(1))
			require.True(t, p.blanked(2))

			m.before = nil
			require.NoError(t, p.eraser.Run(worker))
			require.Equal(t, keystore.StateErased, p.state(subj(t, "customer/1")))
			require.True(t, p.blanked(1))
		})
	}
}

// An outage of the tables' database is no outage of the keystore: whoever has rows
// elsewhere is erased.
func TestTablesThatAreUnavailableStopNobodyElse(t *testing.T) {
	p, m := newMapped(t, 1, 2)
	m.before = func(s keystore.Subject) error {
		if s.ID() == "1" {
			return fmt.Errorf("the row is locked: %w", keystore.ErrUnavailable)
		}
		return nil
	}
	results, err := p.eraser.Anonymize(background(t), subj(t, "customer/1"), subj(t, "customer/2"))
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.Equal(t, []string{"erasing", "erased"}, []string{results[0].State, results[1].State})
}

// The process dies when the tables have committed, and at every write after that.
func TestCrashAfterTables(t *testing.T) {
	same := &anonymize.Options{Worker: "the service"}
	for n := 1; ; n++ {
		died := false
		for _, mode := range fault.Modes {
			ctx := background(t)
			d := newData(t)
			p, m := d.startMapped(t, same)
			p.addCustomer(1)
			p.addCustomer(2)
			m.after = func(keystore.Subject) error { d.backend.FailAt(n, mode); return nil }
			_, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
			if d.backend.Died() {
				died = true
				require.Error(t, err)
			}
			require.True(t, p.blanked(1))
			d.backend.Revive()

			q, _ := d.startMapped(t, same)
			_, err = q.eraser.Anonymize(ctx, subj(t, "customer/1"))
			require.NoError(t, err)
			require.True(t, q.blanked(1), "the year outlives the key")
			require.Equal(t, fieldcrypt.StatusErased, q.open(ctx, 1).Privacy)
			require.Equal(t, "Ada2", q.open(ctx, 2).FirstName)
		}
		if !died {
			require.Greater(t, n, 3)
			return
		}
	}
}

func TestPreviewCountsTables(t *testing.T) {
	ctx := background(t)
	p, m := newMapped(t, 1)
	plan, err := p.eraser.PreviewWith(ctx, &anonymize.Request{Keep: []string{"tax"}}, subj(t, "customer/1"))
	require.NoError(t, err)
	require.Equal(t, []anonymize.TablePlan{
		{Table: "customers", Rows: 1, Fields: []string{"first_name", "email", "phone", "birth_date"}, Kept: []string{}},
		{Table: "invoices", Rows: 2, Fields: []string{"note"}, Kept: []string{"address"}},
	}, plan.Tables)
	require.Empty(t, m.keep)

	m.read = func(keystore.Subject) error { panic("no") }
	_, err = p.eraser.Preview(ctx, subj(t, "customer/1"))
	require.ErrorContains(t, err, "Count of tables")
}

func TestExportReadsTables(t *testing.T) {
	ctx := background(t)
	p, m := newMapped(t, 1)
	d, err := p.eraser.Export(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	require.Contains(t, exportCSV(t, d), []string{"customers", "1", "email", "open", "ada1@example.com"})
	require.Len(t, d.Tables, 2)

	_, err = p.eraser.Export(ctx, subj(t, "customer/9"))
	require.ErrorIs(t, err, keystore.ErrUnknownSubject)
	m.read = func(keystore.Subject) error { return errors.New("down") }
	_, err = p.eraser.Export(ctx, subj(t, "customer/1"))
	var c *anonymize.CallbackError
	require.ErrorAs(t, err, &c)
}

// Tables stand beside tables of structs, and take part in what depends on kinds.
func TestTablesBesideStructs(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1)
	m := &others{}
	p.eraser.RegisterTables(m)
	_, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	require.Equal(t, []string{"customer/1"}, m.blanked)
	require.True(t, p.blanked(1))

	// Of a kind that only Tables have: they are not passed by.
	employee := subj(t, "employee/1")
	_, err = p.keys.Ensure(ctx, nil, []string{""}, employee)
	require.NoError(t, err)
	_, err = p.eraser.Anonymize(ctx, employee)
	require.NoError(t, err)
	require.Equal(t, []string{"customer/1", "employee/1"}, m.blanked)
}

// others are tables that only note what they are asked.
type others struct {
	names   []string
	kinds   []string
	blanked []string
}

func (o *others) Tables() (infos []anonymize.TableInfo) {
	if o.names == nil {
		o.names, o.kinds = []string{"sessions", "payroll"}, []string{"customer", "employee"}
	}
	for i, n := range o.names {
		infos = append(infos, anonymize.TableInfo{Name: n, Kind: o.kinds[i]})
	}
	return infos
}

func (o *others) Blank(_ context.Context, s keystore.Subject, _ []string) error {
	o.blanked = append(o.blanked, s.String())
	return nil
}

func (o *others) Count(context.Context, keystore.Subject) (map[string]int, error) { return nil, nil }

func (o *others) Export(context.Context, keystore.Subject) ([]anonymize.TableData, error) {
	return nil, nil
}

func TestMistakesInTables(t *testing.T) {
	p := newProcess(t)
	p.eraser.RegisterTables(nil)
	p.eraser.RegisterTables(&others{names: []string{}})
	p.eraser.RegisterTables(&others{names: []string{"logs", "customers"}, kinds: []string{"customer", "customer"}})
	p.eraser.RegisterTables(&others{names: []string{"logs", "twin", "twin"}, kinds: []string{"customer", "customer", "customer"}})
	p.eraser.RegisterTables(&others{names: []string{"", "bad"}, kinds: []string{"customer", "cust/omer"}})
	anonymize.Register(p.eraser, p.customerC, p.customers)
	err := p.eraser.Check()
	require.ErrorIs(t, err, keystore.ErrInvalid)
	for _, part := range []string{"are nil", "without tables", `"customers" is registered twice`, `"twin" is registered twice`, "has no name", `table "bad"`} {
		require.ErrorContains(t, err, part)
	}
	require.NotContains(t, err.Error(), `"logs" is registered`, "tables with a mistake take no names")
}
