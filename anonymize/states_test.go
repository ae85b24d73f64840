package anonymize_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

func TestKeepThenTakeTheRest(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1)
	p.listen("crm", nil)
	keep := &anonymize.Request{Keep: []string{"tax"}}
	for range 2 { // twice is once
		results, err := p.eraser.AnonymizeWith(ctx, keep, subj(t, "customer/1"))
		require.NoError(t, err)
		require.Equal(t, "restricted", results[0].State)
		require.Equal(t, []string{"tax"}, results[0].Kept)
		require.NotNil(t, results[0].FinalAt)
	}
	require.Equal(t, []string{"crm customer/1"}, p.heard())
	require.Equal(t, [][]string{{"note"}, {"note"}}, p.invoices.saves(), "the kept field stays as it is")

	address := func(ctx context.Context) string {
		i := p.invoices.get(10)
		require.NoError(t, p.invoiceC.Open(ctx, &i))
		return i.Address
	}
	tax := keystore.WithPurpose(ctx, "tax")
	require.Empty(t, address(ctx))
	require.Equal(t, "1 Main Street", address(tax))

	p.invoiceT.PreAnonymize("books", func(ctx context.Context, e anonymize.Erasure, i invoice) error {
		p.called("books " + i.Address)
		return nil
	})
	results, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	require.Equal(t, "erased", results[0].State)
	require.Empty(t, results[0].Kept)
	require.Equal(t, []string{"crm customer/1", "books 1 Main Street", "books 1 Main Street"}, p.heard())
	require.Equal(t, [][]string{{"address"}, {"address"}}, p.invoices.saves())
	require.Empty(t, address(tax))
}

func TestKeepIsNotGuessed(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1)
	_, err := p.eraser.AnonymizeWith(ctx, &anonymize.Request{Keep: []string{"taxx"}}, subj(t, "customer/1"))
	require.ErrorIs(t, err, keystore.ErrInvalid)
	require.ErrorContains(t, err, "taxx")
	require.Equal(t, keystore.StateActive, p.state(subj(t, "customer/1")))

	require.NoError(t, p.eraser.Request(ctx, subj(t, "customer/1")))
	results, err := p.eraser.AnonymizeWith(ctx, &anonymize.Request{Keep: []string{"tax"}}, subj(t, "customer/1"))
	require.ErrorIs(t, err, keystore.ErrState, "a pending erasure would destroy what is to be kept")
	require.Equal(t, "erasing", results[0].State)
}

// Whoever asks for everything gets everything, also where less was requested before.
func TestEverythingAfterAPendingKeep(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1)
	require.NoError(t, p.eraser.RequestWith(ctx, &anonymize.Request{Keep: []string{"tax"}}, subj(t, "customer/1")))
	results, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	require.Equal(t, "erased", results[0].State)
}

func TestHoldRefuses(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1, 2)
	p.listen("crm", nil)
	require.NoError(t, joined(p.keys.Restrict(ctx, &keystore.RestrictOptions{Hold: "court order 7"}, subj(t, "customer/1"))))
	results, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"), subj(t, "customer/2"))
	require.ErrorIs(t, err, keystore.ErrHeld)
	require.Equal(t, []string{"restricted", "erased"}, []string{results[0].State, results[1].State})
	require.Equal(t, []string{"crm customer/2"}, p.heard())

	require.NoError(t, joined(p.keys.Release(ctx, subj(t, "customer/1"))))
	_, err = p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
}

func TestUnknownSubjects(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1)
	for _, e := range []*anonymize.Eraser{p.eraser, p.data.bare(t, nil).eraser} {
		results, err := e.Anonymize(ctx, subj(t, "customer/99"))
		require.ErrorIs(t, err, keystore.ErrUnknownSubject)
		require.Equal(t, "unknown", results[0].State)
	}
	require.ErrorIs(t, p.eraser.Request(ctx, subj(t, "customer/99")), keystore.ErrUnknownSubject)
	_, err := p.eraser.Anonymize(ctx, keystore.Subject{})
	require.ErrorIs(t, err, keystore.ErrInvalid)

	results, err := p.eraser.AnonymizeWith(ctx, &anonymize.Request{Unknown: true}, subj(t, "customer/99"))
	require.NoError(t, err)
	require.Equal(t, "erased", results[0].State)
	_, err = p.customerC.Seal(ctx, customer{ID: 99, FirstName: "Late"})
	require.ErrorIs(t, err, keystore.ErrErased, "the id is burned")
}

func TestCancelUntilTheFirstRowIsBlanked(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1, 2)
	p.listen("crm", func() error { return errors.New("down") })
	_, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.Error(t, err)
	require.NoError(t, p.eraser.Cancel(ctx, subj(t, "customer/1")))
	require.Equal(t, "Ada1", p.open(ctx, 1).FirstName)
	require.ErrorIs(t, p.eraser.Cancel(ctx, subj(t, "customer/1")), keystore.ErrState)
	require.NoError(t, p.eraser.Retire(ctx, "customer", "crm"))

	p.customers.fail = func(op string, row customer) error {
		if op == "save" {
			return errors.New("disk full")
		}
		return nil
	}
	_, err = p.eraser.Anonymize(ctx, subj(t, "customer/2"))
	require.Error(t, err)
	require.ErrorIs(t, p.eraser.Cancel(ctx, subj(t, "customer/2")), keystore.ErrState)
	p.customers.fail = nil
	p.heard()
	p.listen("late", nil)
	_, err = p.eraser.Anonymize(ctx, subj(t, "customer/2"))
	require.NoError(t, err)
	require.Empty(t, p.heard(), "who connects when rows may be blank already has missed it")
}

// After a Cancel the receivers' acknowledgements count for nothing.
func TestCancelInterruptsAndForgets(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1)
	started := make(chan struct{}, 1)
	wait := true
	p.listen("first", nil)
	p.eraser.PreAnonymize("customer", "slow", func(ctx context.Context, e anonymize.Erasure) error {
		if !wait {
			return nil
		}
		started <- struct{}{}
		<-ctx.Done()
		return nil // deaf: it claims to be done
	})
	failed := make(chan error)
	go func() {
		results, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
		if results[0].State != "active" {
			err = errors.New("state is " + results[0].State)
		}
		failed <- err
	}()
	<-started
	require.NoError(t, p.eraser.Cancel(ctx, subj(t, "customer/1")))
	err := <-failed
	require.ErrorIs(t, err, keystore.ErrState)
	require.ErrorContains(t, err, "cancelled")
	require.Equal(t, "Ada1", p.open(ctx, 1).FirstName)

	wait = false
	p.heard()
	_, err = p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	require.Equal(t, []string{"first customer/1"}, p.heard(), "it is a new erasure")
}

// Somebody who came back can be erased again; what was erased before stays so.
func TestErasedAgainAfterReadmission(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1)
	s := subj(t, "customer/1")
	_, err := p.eraser.Anonymize(ctx, s)
	require.NoError(t, err)
	require.NoError(t, p.keys.Readmit(ctx, s))
	back, err := p.invoiceC.Seal(ctx, invoice{ID: 12, Customer: 1, Address: "9 New Street"})
	require.NoError(t, err)
	p.invoices.put(back)

	p.invoiceT.PreAnonymize("books", func(ctx context.Context, e anonymize.Erasure, i invoice) error {
		p.called("books " + i.Address)
		return nil
	})
	results, err := p.eraser.Anonymize(ctx, s)
	require.NoError(t, err)
	require.Equal(t, "erased", results[0].State)
	require.Equal(t, []string{"books ", "books ", "books 9 New Street"}, p.heard())
	i := p.invoices.get(12)
	require.NoError(t, p.invoiceC.Open(ctx, &i))
	require.Equal(t, fieldcrypt.StatusErased, i.Privacy)
}

// joined is the error of a call that is about one subject.
func joined(errs []error, err error) error { return errors.Join(append(errs, err)...) }
