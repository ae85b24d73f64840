package demo

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// opening makes the shop.
func (s *story) opening(ctx context.Context) error {
	s.head("A music shop, sealed")
	s.say("   Chinook has %d customers and %d invoices. In %s, the keystore is in", len(s.customers), len(s.invoices), s.dir)
	s.say("   keys/, the root in root/, the tables in data/. The grace is 0: erasures are final at once.")
	if err := s.build(ctx, s.plain, 0); err != nil {
		return err
	}
	found, err := s.plaintext("data", "keys", "root")
	if err != nil {
		return err
	}
	s.claim(found, "no name, address, e-mail or telephone number of any customer is in any file")
	raw, err := s.live.customerFile.Get(ctx, kept)
	if err != nil {
		return err
	}
	s.say("           customer/%d in the file: e-mail %.40s…, country %s", kept, raw.Email, raw.Country)
	return nil
}

// plaintext looks for any customer's values in the files of some folders.
func (s *story) plaintext(folders ...string) (found, err error) {
	for _, folder := range folders {
		entries, err := os.ReadDir(s.path(folder))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			file, err := os.ReadFile(s.path(folder, e.Name()))
			if err != nil {
				return nil, err
			}
			for _, c := range s.customers {
				// shorter values occur by chance, or stand in what is not personal
				for _, v := range c.personal() {
					if len(v) > 8 && bytes.Contains(file, []byte(v)) {
						return fmt.Errorf("%s/%s holds a value of customer/%d", folder, e.Name(), c.ID), nil
					}
				}
			}
		}
	}
	return nil, nil
}

// copying makes the backups of last night.
func (s *story) copying(ctx context.Context) error {
	s.head("Last night's backup")
	if err := s.backUp(ctx); err != nil {
		return err
	}
	s.say("   The tables and the keystore are copied to backup/. The root never is in a backup of these.")
	return nil
}

// reading shows that an ordinary repository reads.
func (s *story) reading(ctx context.Context) error {
	s.head("Reading is transparent")
	c, err := s.live.customers.Get(ctx, kept)
	if err != nil {
		return err
	}
	s.say("   customers.Get(%d): %s %s, %s, %s", kept, c.FirstName, c.LastName, c.Address, c.Email)
	why, err := s.sameAsShop(ctx, s.live, everybody)
	if err != nil {
		return err
	}
	s.claim(why, "all %d customers and %d invoices read as they were written", len(s.customers), len(s.invoices))
	return nil
}

func everybody(int64) bool { return true }
func others(id int64) bool { return id != gone && id != kept }

// sameAsShop compares what the repositories read with the shop, for some customers.
func (s *story) sameAsShop(ctx context.Context, d data, who func(int64) bool) (why, err error) {
	customers, err := all(d.customers.List(ctx))
	if err != nil {
		return err, nil // a row that does not open is what we look for
	}
	invoices, err := all(d.invoices.List(ctx))
	if err != nil {
		return err, nil
	}
	n := 0
	for i, c := range customers {
		if c.Privacy = ""; who(c.ID) && !reflect.DeepEqual(c, s.customers[i]) {
			return fmt.Errorf("customer/%d does not read as written", c.ID), nil
		}
		n++
	}
	for i, v := range invoices {
		if v.Privacy = ""; who(v.CustomerID) && !reflect.DeepEqual(v, s.invoices[i]) {
			return fmt.Errorf("invoice %d does not read as written", v.ID), nil
		}
		n++
	}
	return unless(n == len(s.customers)+len(s.invoices), "%d rows were read", n), nil
}

// anonymizing erases two customers, and lets a receiver see them one last time.
func (s *story) anonymizing(ctx context.Context) error {
	s.head("Two customers ask to be forgotten")
	if s.h.before != nil {
		if err := s.h.before(s.world); err != nil {
			return err
		}
	}
	eraser, err := anonymize.New(s.keys, &anonymize.Options{Actor: "demo"})
	if err != nil {
		return err
	}
	customers := anonymize.Register(eraser, s.live.customerKeys, s.live.customerFile)
	anonymize.Register(eraser, s.live.invoiceKeys, s.live.invoiceFile)
	customers.PreAnonymize("newsletter", func(_ context.Context, _ anonymize.Erasure, c Customer) error {
		s.reached = append(s.reached, c.Email)
		return nil
	})
	if !s.h.skip {
		if err := s.anonymizeOne(ctx, eraser, gone); err != nil {
			return err
		}
		if err := s.anonymizeOne(ctx, eraser, kept, "tax"); err != nil {
			return err
		}
	}
	want := []string{s.customer(kept).Email, s.customer(gone).Email}
	slices.Sort(s.reached)
	slices.Sort(want)
	s.claim(unless(slices.Equal(s.reached, want), "the receiver saw %d of 2", len(s.reached)),
		"the newsletter's receiver still saw both e-mail addresses, and could unsubscribe them")
	if s.h.after != nil {
		return s.h.after(s.world)
	}
	return nil
}

func (s *story) anonymizeOne(ctx context.Context, e *anonymize.Eraser, id int64, keep ...string) error {
	sub, err := customer(id)
	if err != nil {
		return err
	}
	results, err := e.AnonymizeWith(ctx, &anonymize.Request{Keep: keep}, sub)
	if err != nil {
		return err
	}
	for _, r := range results {
		line, err := r.MarshalJSON()
		if err != nil {
			return err
		}
		s.say("   %s", line)
	}
	return nil
}

func (s *story) customer(id int64) *Customer {
	return &s.customers[slices.IndexFunc(s.customers, func(c Customer) bool { return c.ID == id })]
}

// erasedEverywhere looks for the two in the live data and in the backup.
func (s *story) erasedEverywhere(ctx context.Context) error {
	s.head("They are unreadable, in the live data and in the backup")
	backup, err := tables(s.keys, s.path("backup"))
	if err != nil {
		return err
	}
	tax := keystore.WithPurpose(ctx, "tax")
	for _, d := range []struct {
		name string
		data
	}{{"live data", s.live}, {"data backup", backup}} {
		s.claim(s.unreadable(tax, d.data, gone), "%s: nothing of customer/%d opens", d.name, gone)
		s.claim(s.unreadable(tax, d.data, kept), "%s: of customer/%d the customer's row opens no field", d.name, kept)
	}
	c, err := s.live.customers.Get(ctx, gone)
	if err != nil {
		return err
	}
	s.say("   customers.Get(%d): %s %s, %s; its status is %q", gone, c.FirstName, c.LastName, c.Email, c.Privacy)
	return nil
}

// unreadable checks that none of an erased customer's values can be read. For whom the
// tax purpose is kept, that is about the customer's row.
func (s *story) unreadable(ctx context.Context, d data, id int64) error {
	c, err := d.customers.Get(ctx, id)
	if err != nil {
		return err
	}
	if c.Privacy != fieldcrypt.StatusErased {
		return fmt.Errorf("its status is %q", c.Privacy)
	}
	was := s.customer(id).personal()
	for _, v := range c.personal() {
		if slices.Contains(was, v) {
			return fmt.Errorf("customer/%d still reads", id)
		}
	}
	if id == kept {
		return nil
	}
	for v, err := range d.invoices.List(ctx) {
		if err != nil {
			return err
		}
		if v.CustomerID != id {
			continue
		}
		full := len(text(v.BillingPostalCode)) > 2
		if full || v.Privacy != fieldcrypt.StatusErased || slices.Contains(was, v.BillingAddress) {
			return fmt.Errorf("invoice %d still reads", v.ID)
		}
	}
	return nil
}

// everyoneElse reads the others from live data and from the backup.
func (s *story) everyoneElse(ctx context.Context) error {
	s.head("Everyone else reads as before")
	backup, err := tables(s.keys, s.path("backup"))
	if err != nil {
		return err
	}
	n := len(s.customers) - 2
	why, err := s.sameAsShop(ctx, s.live, others)
	if err != nil {
		return err
	}
	s.claim(why, "live keystore, live data: the other %d customers and their invoices", n)
	if why, err = s.sameAsShop(ctx, backup, others); err != nil {
		return err
	}
	s.claim(why, "live keystore, data backup: the same %d, so the backup is still worth having", n)
	return nil
}

// statistics compares what must not have changed.
func (s *story) statistics(ctx context.Context) error {
	s.head("The numbers stay")
	invoices, err := all(s.live.invoices.List(ctx))
	if err != nil {
		return err
	}
	before, now := turnover(s.invoices), turnover(invoices)
	s.claim(unless(maps.Equal(before, now), "it is another"), "turnover per country is unchanged: %s, …", best(now, 3))
	report, err := s.keys.Verify(ctx)
	if err != nil {
		return err
	}
	s.claim(unless(len(report.Problems) == 0, "%d problems", len(report.Problems)),
		"the keystore verifies: %d rings, no stale generation, no superseded root", report.Rings)
	return nil
}
