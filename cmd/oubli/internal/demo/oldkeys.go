package demo

import (
	"context"
	"errors"
	"fmt"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/boltstore"
)

// oldKeys tries to open the keystore of last night with the root of today.
func (s *story) oldKeys(ctx context.Context) error {
	s.head("Somebody finds last night's keystore, and has today's root as well")
	s.claim(s.stillOpens(ctx, s.roots), "the old keystore copy does not open, for nobody at all")
	contents, err := s.roots.Load(ctx)
	if err != nil {
		return err
	}
	s.claim(s.stillOpens(ctx, thief{contents, s.roots.Place()}), "nor for a thief who takes every guard out: its root is gone")
	return nil
}

// stillOpens returns nil if the old copy is refused because its root is gone.
func (s *story) stillOpens(ctx context.Context, roots keystore.RootStore) error {
	b, err := boltstore.Open(s.path("backup", "oubli.keys"), &boltstore.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	keys, err := keystore.Open(ctx, b, roots, &keystore.Options{ReadOnly: true})
	if err == nil {
		return errors.Join(errors.New("it opens"), keys.Close())
	}
	if err := b.Close(); err != nil {
		return err
	}
	if !errors.Is(err, keystore.ErrMismatch) {
		return fmt.Errorf("it is refused for another reason: %w", err)
	}
	return nil
}

// forTax reads what an erasure has kept.
func (s *story) forTax(ctx context.Context) error {
	s.head("What the tax office wants is there, for tax alone")
	backup, err := tables(s.keys, s.path("backup"))
	if err != nil {
		return err
	}
	for _, d := range []struct {
		name string
		data
	}{{"live data", s.live}, {"data backup", backup}} {
		n, why := s.invoicesFor(keystore.WithPurpose(ctx, "tax"), d.data, true)
		s.claim(why, "%s, for tax: the billing address on all %d invoices of customer/%d", d.name, n, kept)
		_, why = s.invoicesFor(ctx, d.data, false)
		s.claim(why, "%s, for no purpose: none of them", d.name)
		_, why = s.invoicesFor(keystore.WithPurpose(ctx, "advertising"), d.data, false)
		s.claim(why, "%s, for advertising: none of them", d.name)
	}
	return nil
}

// invoicesFor checks that the billing addresses of the kept customer read, or that
// they do not, and counts the invoices.
func (s *story) invoicesFor(ctx context.Context, d data, reads bool) (n int, why error) {
	for v, err := range d.invoices.List(ctx) {
		if err != nil {
			return n, err
		}
		if v.CustomerID != kept {
			continue
		}
		was := s.invoices[v.ID-1]
		same := v.BillingAddress == was.BillingAddress && v.BillingCity == was.BillingCity &&
			text(v.BillingPostalCode) == text(was.BillingPostalCode)
		some := v.BillingAddress == was.BillingAddress || v.BillingCity == was.BillingCity ||
			text(v.BillingPostalCode) == text(was.BillingPostalCode)
		if reads && !same {
			return n, fmt.Errorf("invoice %d does not read", v.ID)
		}
		if !reads && some {
			return n, fmt.Errorf("invoice %d reads", v.ID)
		}
		n++
	}
	return n, unless(n > 0, "there is no invoice")
}
