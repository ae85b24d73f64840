package pgmap

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
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

// backup keeps the tables as they are.
func (s *shop) backup() {
	s.exec(`create table old_customers as select * from customers`)
	s.exec(`create table old_invoices as select * from "Invoices"`)
}

// restore brings them back.
func (s *shop) restore() {
	s.exec(`truncate customers, "Invoices"`)
	s.exec(`insert into customers select * from old_customers`)
	s.exec(`insert into "Invoices" select * from old_invoices`)
}

// destroy destroys the keys of customers. Their rows are then as after a restore.
func (s *shop) destroy(customers ...int) {
	s.t.Helper()
	var rs []keystore.Request
	for _, of := range s.subjects(customers...) {
		rs = append(rs, keystore.Request{Subject: of})
	}
	_, err := s.keys.Erase(within(s.t), rs...)
	require.NoError(s.t, err)
}

// stored is everything that stands in the tables.
func (s *shop) stored() string {
	return s.value(`select md5(string_agg(r, '|' order by r)) from (select c::text r from customers c union all select i::text from "Invoices" i) r`)
}

func (s *shop) config() ReconcileConfig {
	return ReconcileConfig{DB: s.db, Keys: s.keys, Tables: s.tables[:2]}
}

// reconcile reconciles, and has no alarms.
func (s *shop) reconcile(cfg ReconcileConfig) *ReconcileReport {
	s.t.Helper()
	report, err := Reconcile(within(s.t), cfg)
	require.NoError(s.t, err)
	require.Empty(s.t, report.Alarms)
	require.Zero(s.t, report.AlarmCount())
	return report
}

func TestReconcileAfterARestore(t *testing.T) {
	ctx := within(t)
	s := newShop(t, 6)
	s.exec(`update customers set photo = null where id = 1`)
	s.erase(6)
	s.backup()
	s.erase(1)
	_, err := s.eraser(nil).AnonymizeWith(ctx, &anonymize.Request{Keep: []string{"tax"}}, s.subjects(2)...)
	require.NoError(t, err)
	s.erase(3)
	require.NoError(t, s.keys.Readmit(ctx, s.subjects(3)[0]))
	require.NoError(t, joined(s.keys.Restrict(ctx, nil, s.subjects(4)[0])))
	s.restore()
	// Somebody else has the number 3 now.
	s.exec(`insert into "Invoices" values (3, 3, 'Elsewhere', 'new', 30)`)
	s.seal(1)

	before, cfg := s.stored(), s.config()
	cfg.DryRun = true
	want := []ReconcileTable{
		{Table: "customers", Rows: 6, Open: 4, Withheld: 4, Blank: 2, Blanked: 3 + 4 + 4},
		{Table: "invoices", Rows: 13, Open: 4 + 2, Withheld: 4 + 2, Blanked: 4 + 2 + 4},
	}
	require.Equal(t, &ReconcileReport{DryRun: true, Tables: want, Alarms: []Alarm{}}, s.reconcile(cfg))
	require.Equal(t, before, s.stored(), "a dry run changes nothing")

	progress := map[string]int64{}
	cfg.DryRun, cfg.Progress = false, func(p ReconcileProgress) { progress[p.Table] = p.Rows }
	require.Equal(t, want, s.reconcile(cfg).Tables)
	require.Equal(t, map[string]int64{"customers": 6, "invoices": 13}, progress)
	require.Equal(t, allBlank, s.blanks(1))
	require.Equal(t, blanked("NULL"), s.read(ctx, 1), "the year went with the key")
	require.Equal(t, []string{"Erased NULL NULL NULL", "2 Main Street NULL", "2 Main Street NULL"}, s.read(keystore.WithPurpose(ctx, "tax"), 2))
	require.Equal(t, append(blanked("NULL"), "Elsewhere new"), s.read(ctx, 3))
	require.NoError(t, joined(s.keys.Release(ctx, s.subjects(4)[0])))
	require.Equal(t, open(4), s.read(ctx, 4))
	require.Equal(t, open(5), s.read(ctx, 5))
	require.Equal(t, "6 13", s.value(`select (select count(*) from customers) || ' ' || (select count(*) from "Invoices")`))

	before = s.stored()
	require.NoError(t, joined(s.keys.Restrict(ctx, nil, s.subjects(4)[0])))
	report := s.reconcile(s.config())
	require.Equal(t, ReconcileTable{Table: "customers", Rows: 6, Open: 4, Withheld: 4, Blank: 2 + 3*2}, report.Tables[0])
	require.Equal(t, before, s.stored(), "twice is once")
}

// With another keystore everything is an alarm, and nothing changes: not even the
// plaintext of somebody who is erased there.
func TestReconcileWithAnotherKeystore(t *testing.T) {
	ctx := within(t)
	s := newShop(t, 5)
	s.exec(`insert into customers (id, "First Name") values (9, 'Plain text')`)
	before := s.stored()
	other := keystoretest.New(t)
	var rs []keystore.Request
	for _, of := range s.subjects(1, 2, 9) {
		rs = append(rs, keystore.Request{Subject: of, Unknown: true})
	}
	_, err := other.Erase(ctx, rs...)
	require.NoError(t, err)
	cfg := s.config()
	cfg.Keys, cfg.Plaintext, cfg.MaxAlarms = other, true, 7
	report, err := Reconcile(ctx, cfg)
	require.NoError(t, err)
	require.Equal(t, []ReconcileTable{
		{Table: "customers", Rows: 6, Plaintext: 1, PlaintextErased: 1, Alarms: 20},
		{Table: "invoices", Rows: 10, Alarms: 20},
	}, report.Tables)
	require.True(t, report.PlaintextLeft)
	require.EqualValues(t, 40, report.AlarmCount())
	require.Len(t, report.Alarms, 7)
	a := report.Alarms[0]
	require.Equal(t, []string{"customers", "1", "customer/1", "first_name"}, []string{a.Table, a.Key[0], a.Subject, a.Field})
	require.Len(t, a.KeyID, 8)
	require.ErrorIs(t, a.Err, keystore.ErrUnknownKey)
	require.ErrorIs(t, report.Alarms[6].Err, keystore.ErrUnknownKey)
	require.Equal(t, before, s.stored())

	// In one that never heard of anybody as well.
	cfg.Keys = keystoretest.New(t)
	report, err = Reconcile(ctx, cfg)
	require.NoError(t, err)
	require.ErrorIs(t, report.Alarms[0].Err, keystore.ErrUnknownSubject)
	require.EqualValues(t, 40, report.AlarmCount())
	require.Equal(t, before, s.stored())
}

// The keystore goes away between two pages. What was done stays done, and was right; the
// next call does the rest.
func TestReconcileInAnOutage(t *testing.T) {
	ctx := within(t)
	const customers = 350
	s := newShop(t, customers)
	s.backup()
	var all []int
	for i := range customers {
		all = append(all, i+1)
	}
	s.destroy(all...)
	cfg := s.config()
	pages := 0
	cfg.Progress = func(ReconcileProgress) {
		if pages++; pages == 4 { // 300 rows
			s.backend.FailAt(1, fault.Lost)
			_, err := s.keys.Ensure(ctx, nil, []string{""}, subj(t, "customer/999"))
			require.ErrorIs(t, err, keystore.ErrUnavailable)
		}
	}
	report, err := Reconcile(ctx, cfg)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, `reconcile table "customers"`)
	require.Len(t, report.Tables, 1)
	done := report.Tables[0]
	require.Equal(t, ReconcileTable{Table: "customers", Rows: 300, Blanked: 4 * 300}, done)
	require.Equal(t, "300", s.value(`select count(*) from customers where "First Name" like 'oubli1~%'`))
	require.Equal(t, "50", s.value(`select count(*) from customers c join old_customers o using (id) where c::text = o::text`), "what it could not ask about is as it was")

	s.backend.Revive()
	report = s.reconcile(s.config())
	require.EqualValues(t, []int64{350, 2 * 300, 4 * 50, 4 * 350}, []int64{report.Tables[0].Rows, report.Tables[0].Blank, report.Tables[0].Blanked, report.Tables[1].Blanked})
	require.Equal(t, allBlank, s.blanks(350))

	cfg = s.config()
	backend, roots := memstore.New(), memstore.NewRoots()
	require.NoError(t, keystore.Create(ctx, backend, roots, nil))
	cfg.Keys, err = keystore.Open(ctx, backend, roots, nil)
	require.NoError(t, err)
	require.NoError(t, cfg.Keys.Close())
	report, err = Reconcile(ctx, cfg)
	require.ErrorIs(t, err, keystore.ErrClosed)
	require.Zero(t, report.Tables[0].Rows)
}

// The application goes on: it changes, locks and deletes rows meanwhile, and loses nothing.
func TestReconcileBesideWriters(t *testing.T) {
	ctx := within(t)
	s := newShop(t, 300)
	var all []int
	for i := range 200 {
		all = append(all, i+1)
	}
	s.destroy(all...)

	tx, err := s.db.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(ctx)
	_, err = tx.Exec(ctx, `update customers set visits = visits + 1000 where id <= 50`)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, `delete from customers where id between 51 and 60`)
	require.NoError(t, err)
	stop, writes := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				writes <- n
				return
			default:
			}
			if _, err := s.db.Exec(ctx, `update customers set visits = visits + 1 where id = $1::int`, 61+n*7%240); err != nil {
				writes <- -1
				return
			}
			n++
		}
	}()
	committed := make(chan error, 1)
	time.AfterFunc(200*time.Millisecond, func() { committed <- tx.Commit(ctx) })
	report := s.reconcile(s.config())
	close(stop)
	n := <-writes
	require.NoError(t, <-committed)
	require.Positive(t, n)
	require.Equal(t, ReconcileTable{Table: "customers", Rows: 290, Open: 400, Blanked: 4 * 190}, report.Tables[0])
	require.Equal(t, fmt.Sprint(50*1000+n), s.value(`select sum(visits) from customers`), "no change of the application is lost")
	require.Equal(t, "190", s.value(`select count(*) from customers where "First Name" like 'oubli1~%'`))
	require.Equal(t, open(300), s.read(ctx, 300))
}

// A transaction that lost to others is tried again.
func TestReconcileTriesAgain(t *testing.T) {
	s := newShop(t, 2)
	s.destroy(1)
	s.exec(`create sequence tries`)
	s.exec(`create function lose() returns trigger language plpgsql as $$ begin
		if nextval('tries') = 1 then raise 'lost' using errcode = '40001'; end if; return new; end $$`)
	s.exec(`create trigger lose before update on customers for each row execute function lose()`)
	require.EqualValues(t, 4, s.reconcile(s.config()).Tables[0].Blanked)
	require.Equal(t, allBlank, s.blanks(1))
	require.Equal(t, "2", s.value(`select last_value from tries`))
}

// A row that stays locked is named.
func TestReconcileWithALockedRow(t *testing.T) {
	ctx := within(t)
	s := newShop(t, 3)
	s.destroy(1, 2, 3)
	tx, err := s.db.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(ctx)
	_, err = tx.Exec(ctx, `select from customers where id = 2 for update`)
	require.NoError(t, err)
	cfg := s.config()
	cfg.Patience = 50 * time.Millisecond
	report, err := Reconcile(ctx, cfg)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, `row (2) of "public"."customers"`)
	require.EqualValues(t, 2, report.Tables[0].Rows)
	require.NoError(t, tx.Rollback(ctx))
	require.EqualValues(t, 4, s.reconcile(s.config()).Tables[0].Blanked)
}

// What is neither readable nor erased is reported and left alone, whoever it belongs to.
func TestAlarms(t *testing.T) {
	ctx := within(t)
	s := newShop(t, 5)
	s.backup()
	s.erase(5)
	s.exec(`alter table customers drop constraint customers_email_key`)
	for _, sql := range []string{
		`update customers set email = 'oubli1~AAAAAAAAAAAA~secret' where id = 1`,                                                           // a blank of somebody who lives
		`update customers c set email = (select email from old_customers where id = 3) where id = 2`,                                       // another person's
		`update customers set born = (select "First Name" from old_customers where id = 3) where id = 3`,                                   // another column's
		`update customers set photo = decode('b1ffffffff', 'hex') || decode(repeat('00', 40), 'hex') where id = 4`,                         // an unknown key
		`update customers c set email = (select email from old_customers where id = 4) where id = 5`,                                       // in the row of somebody erased
		`insert into customers select 0, "First Name", null, null, null from old_customers where id = 1`,                                   // nobody's
		`insert into "Invoices" select 77, 1, address, null, 1 from old_invoices where "customerId" = 1 and no = 1`,                        // of an unknown person
		`update "Invoices" set note = (select note from old_invoices where "customerId" = 1 and no = 2) where no = 1 and "customerId" = 1`, // another row's
	} {
		s.exec(sql)
	}
	before := s.stored()
	report, err := Reconcile(ctx, s.config())
	require.NoError(t, err)
	var got []string
	for _, a := range report.Alarms {
		sentinel := "?"
		for name, target := range map[string]error{"tampered": keystore.ErrTampered, "unknown key": keystore.ErrUnknownKey,
			"unknown subject": keystore.ErrUnknownSubject, "invalid": keystore.ErrInvalid} {
			if errors.Is(a.Err, target) {
				sentinel = name
			}
		}
		got = append(got, fmt.Sprintf("%s (%s) %s %s: %s", a.Table, strings.Join(a.Key, " "), a.Subject, a.Field, sentinel))
	}
	require.Equal(t, []string{
		"customers (0)  first_name: invalid",
		"customers (1) customer/1 email: tampered",
		"customers (2) customer/2 email: unknown key",
		"customers (3) customer/3 born: tampered",
		"customers (4) customer/4 photo: unknown key",
		"customers (5) customer/5 email: unknown key",
		"invoices (1 1) customer/1 note: tampered",
		"invoices (77 1) customer/77 address: unknown subject",
	}, got)
	require.Equal(t, before, s.stored())
	raw, err := json.Marshal(report)
	require.NoError(t, err)
	require.NotContains(t, string(raw), "secret")
	require.Contains(t, string(raw), `"key_id":"ffffffff"`)
}

// Plaintext of somebody who is erased is reported, and blanked when that is asked for.
func TestReconcilePlaintext(t *testing.T) {
	ctx := within(t)
	s := newShop(t, 2)
	s.erase(1)
	s.exec(`update customers set email = 'ada' || id || '@example.org', born = '1990-05-17'`)
	s.exec(`update customers set photo = '\x01ff'`)
	cfg := s.config()
	want := ReconcileTable{Table: "customers", Rows: 2, Open: 1, Blank: 1, Plaintext: 6, PlaintextErased: 3}
	before := s.stored()
	require.Equal(t, want, s.reconcile(cfg).Tables[0])
	require.Equal(t, before, s.stored())

	cfg.Plaintext, cfg.DryRun = true, true
	want.PlaintextBlanked = 3
	require.Equal(t, want, s.reconcile(cfg).Tables[0])
	require.Equal(t, before, s.stored())

	cfg.DryRun = false
	report := s.reconcile(cfg)
	require.Equal(t, want, report.Tables[0])
	require.False(t, report.PlaintextLeft)
	require.Equal(t, allBlank, s.blanks(1))
	require.Equal(t, "ada2@example.org 1990-05-17", s.value(`select email || ' ' || born from customers where id = 2`), "who lives is left alone")

	// One value that the keystore does not know puts it in doubt.
	s.exec(`update customers set email = 'ada1@example.org' where id = 1`)
	s.exec(`insert into "Invoices" select 77, 1, address, null, 1 from "Invoices" where "customerId" = 2 and no = 1`)
	report, err := Reconcile(ctx, cfg)
	require.NoError(t, err)
	require.True(t, report.PlaintextLeft)
	require.EqualValues(t, []int64{1, 0}, []int64{report.Tables[0].PlaintextErased, report.Tables[0].PlaintextBlanked})
	require.Equal(t, "ada1@example.org", s.value(`select email from customers where id = 1`))
}

func TestReconcileInFlatMemory(t *testing.T) {
	const people, each = 300, 100
	s := newShop(t, people)
	s.exec(`truncate "Invoices"`)
	s.exec(`insert into "Invoices" select i, n, repeat(md5(i::text), 16), 'note', n from generate_series(1, $1::int) i, generate_series(1, $2::int) n`, people, each)
	s.seal(1)
	s.destroy(1, 2, 3)
	base, most, pages := heap(), uint64(0), 0
	cfg := s.config()
	cfg.Tables = s.tables[1:2]
	cfg.Progress = func(ReconcileProgress) { most, pages = max(most, heap()), pages+1 }
	start := time.Now()
	report := s.reconcile(cfg)
	t.Logf("%d rows of 0.8 kB in %v, %d pages, at most %d kB more than before", people*each, time.Since(start), pages, int64(most-base)>>10)
	require.Equal(t, ReconcileTable{Table: "invoices", Rows: people * each, Open: 2 * (people - 3) * each, Blanked: 2 * 3 * each}, report.Tables[0])
	require.Greater(t, pages, 10)
	require.Less(t, int64(most)-int64(base), int64(8<<20), "the rows have some 24 MB")
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Long values are few at a time, whichever columns they are in.
func TestLongValuesInFlatMemory(t *testing.T) {
	const many = 1000
	ctx := within(t)
	s := newShop(t, 1)
	s.exec(`insert into customers (id, "First Name", photo, settings) select n, 'x', convert_to(repeat('x', 1 << 15), 'UTF8'), to_jsonb(repeat('x', 1 << 15)) from generate_series(2, $1::int) n`, many)
	s.exec(`insert into "Invoices" select 1, n, repeat('x', 1 << 16), null, n from generate_series(3, $1::int) n`, many)
	s.seal(0)
	s.seal(1)
	tables, err := NewTables(s.db, s.keys, s.tables, nil)
	require.NoError(t, err)
	base, most, rows := heap(), uint64(0), 0
	look := func() {
		if rows++; rows%50 == 0 {
			most = max(most, heap())
		}
	}
	_, err = tables.All(ctx, "customers", func([]fieldcrypt.NamedValue) error { look(); return nil }, func(err error) { t.Error(err) })
	require.NoError(t, err)
	require.NoError(t, s.all[1].eachPage(ctx, s.db, s.subjects(1)[0], false, func([]Row, string, []any) error { rows = 49; look(); return nil }))
	t.Logf("at most %d kB more than before", int64(most-base)>>10)
	require.Less(t, int64(most)-int64(base), int64(16<<20), "there are 64 MB in each table")
}

// joined is the error of a call that is about one subject.
func joined(errs []error, err error) error { return errors.Join(append(errs, err)...) }
