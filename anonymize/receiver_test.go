package anonymize_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

func TestReceiversHearInOrderAndByFilter(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1, 2)
	s, err := p.supplierC.Seal(ctx, supplier{ID: 7, Name: "Grace"})
	require.NoError(t, err)
	p.suppliers.put(s)

	p.eraser.PreAnonymize("customer", "crm", func(ctx context.Context, e anonymize.Erasure) error {
		for i, err := range p.invoiceT.Rows(ctx, e) {
			if err != nil {
				return err
			}
			p.called(fmt.Sprintf("crm %s %d %s %s", e.Subject, i.ID, i.Address, *i.Note))
		}
		return nil
	})
	p.customerT.PreAnonymize("newsletter", func(ctx context.Context, e anonymize.Erasure, c customer) error {
		p.called(fmt.Sprintf("newsletter %s %s %s %s", c.FirstName, c.Email, *c.Phone, c.Privacy))
		return nil
	})
	p.supplierT.PreAnonymize("purchase", func(ctx context.Context, e anonymize.Erasure, s supplier) error {
		p.called("purchase " + s.Name)
		return nil
	})
	p.invoiceT.PreAnonymize("books", func(ctx context.Context, e anonymize.Erasure, i invoice) error {
		p.called(fmt.Sprintf("books %d %s", i.ID, i.Address))
		return nil
	})

	_, err = p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	require.Equal(t, []string{
		"crm customer/1 10 1 Main Street note of 1",
		"crm customer/1 11 1 Main Street note of 1",
		"newsletter Ada1 ada1@example.com +31 1 open",
		"books 10 1 Main Street",
		"books 11 1 Main Street",
	}, p.heard())

	_, err = p.eraser.Anonymize(ctx, subj(t, "supplier/7"))
	require.NoError(t, err)
	require.Equal(t, []string{"purchase Grace"}, p.heard())
}

func TestReceiverHandsOnNothingOfOthers(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1, 2)
	p.eraser.PreAnonymize("customer", "crm", func(ctx context.Context, e anonymize.Erasure) error {
		for _, err := range p.supplierT.Rows(ctx, e) {
			if err != nil {
				return err
			}
		}
		return nil
	})
	_, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.ErrorIs(t, err, keystore.ErrInvalid, "a table of another kind has no rows of the subject")

	for _, id := range []string{"customer/2", "customer/99"} {
		forged := anonymize.Erasure{Subject: subj(t, id)}
		n := 0
		for _, err := range p.customerT.Rows(ctx, forged) {
			n++
			require.ErrorIs(t, err, keystore.ErrState, "an Erasure that no receiver was handed opens nothing")
		}
		require.Equal(t, 1, n)
	}
}

func TestFailingReceiverStopsItsSubjectAlone(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1, 2, 3)
	broken := errors.New("the CRM is down")
	var fails bool
	p.listen("first", nil)
	p.eraser.PreAnonymize("customer", "crm", func(ctx context.Context, e anonymize.Erasure) error {
		p.called("crm " + e.Subject.String())
		if fails && e.Subject.ID() == "2" {
			return broken
		}
		return nil
	})
	p.listen("last", nil)
	stored := p.customers.get(2)

	fails = true
	results, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"), subj(t, "customer/2"), subj(t, "customer/3"))
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, "1 of 3 subjects are not erased")
	require.ErrorContains(t, err, "customer/2")
	require.Equal(t, []string{"erased", "erasing", "erased"}, []string{results[0].State, results[1].State, results[2].State})
	require.ErrorContains(t, results[1].Err, `receiver of customer "crm"`)
	require.NoError(t, results[0].Err)
	require.NotContains(t, p.heard(), "last customer/2")
	require.Equal(t, stored, p.customers.get(2), "nothing is blanked while a receiver is pending")
	require.Equal(t, fieldcrypt.StatusWithheld, p.open(ctx, 2).Privacy)

	fails = false
	results, err = p.eraser.Anonymize(ctx, subj(t, "customer/2"))
	require.NoError(t, err)
	require.Equal(t, "erased", results[0].State)
	require.Equal(t, []string{"crm customer/2", "last customer/2"}, p.heard(), "the one that acknowledged is not called again")
}

func TestPanicStopsItsSubjectAlone(t *testing.T) {
	ctx := background(t)
	d := newData(t)
	var log bytes.Buffer
	p := d.start(t, &anonymize.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	p.addCustomer(1)
	p.addCustomer(2)
	p.customerT.PreAnonymize("crm", func(ctx context.Context, e anonymize.Erasure, c customer) error {
		if c.ID == 1 {
			panic(c.Email)
		}
		return nil
	})
	results, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"), subj(t, "customer/2"))
	require.Error(t, err)
	require.Equal(t, "erased", results[1].State)
	require.Equal(t, "erasing", results[0].State)
	for _, text := range []string{err.Error(), results[0].Error, log.String()} {
		require.NotContains(t, text, "ada1@")
		require.Contains(t, text, "string")
		require.Contains(t, text, "receiver_test.go:")
	}
}

func TestLogHasNoTextOfReceivers(t *testing.T) {
	ctx := background(t)
	d := newData(t)
	var log bytes.Buffer
	p := d.start(t, &anonymize.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	p.addCustomer(1)
	p.customerT.PreAnonymize("crm", func(ctx context.Context, e anonymize.Erasure, c customer) error {
		return fmt.Errorf("no contact %s", c.Email)
	})
	results, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.Error(t, err)
	require.Contains(t, results[0].Error, "no contact ada1@example.com", "the caller is told")
	require.NotContains(t, log.String(), "ada1@")
	require.Contains(t, log.String(), "crm")
	require.Contains(t, log.String(), "customer/1")
}

// What a receiver is handed is worth nothing once it has returned.
func TestCapabilityEndsWithTheReceiver(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1)
	var savedCtx context.Context
	var savedE anonymize.Erasure
	read := func(ctx context.Context) customer {
		c := p.customers.get(1)
		if err := p.customerC.Open(ctx, &c); err != nil {
			return customer{}
		}
		return c
	}
	p.eraser.PreAnonymize("customer", "crm", func(ctx context.Context, e anonymize.Erasure) error {
		savedCtx, savedE = ctx, e
		require.Equal(t, "Ada1", read(ctx).FirstName)
		require.Empty(t, read(context.Background()).FirstName, "without the context nothing opens")
		_, err := p.customerC.Seal(ctx, customer{ID: 1, FirstName: "Eve"})
		require.ErrorIs(t, err, keystore.ErrErasing, "a receiver reads, it does not write")
		return nil
	})
	p.eraser.PreAnonymize("customer", "next", func(ctx context.Context, e anonymize.Erasure) error {
		for _, old := range []context.Context{savedCtx, context.WithoutCancel(savedCtx)} {
			require.Empty(t, read(old).FirstName)
			for _, err := range p.customerT.Rows(old, savedE) {
				require.ErrorIs(t, err, keystore.ErrState)
			}
		}
		return errors.New("not yet")
	})
	_, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.ErrorContains(t, err, "not yet")
	require.Empty(t, read(context.WithoutCancel(savedCtx)).FirstName)
}

func TestRowsEndWithTheReceiver(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1)
	var next func() (invoice, error, bool)
	var stop func()
	p.eraser.PreAnonymize("customer", "crm", func(ctx context.Context, e anonymize.Erasure) error {
		next, stop = iter.Pull2(p.invoiceT.Rows(ctx, e))
		i, err, ok := next()
		require.True(t, ok)
		require.NoError(t, err)
		require.Equal(t, "1 Main Street", i.Address)
		return errors.New("not yet")
	})
	_, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.ErrorContains(t, err, "not yet")
	defer stop()
	i, err, ok := next() // read ahead, maybe, but it does not leave
	require.True(t, ok)
	require.ErrorIs(t, err, keystore.ErrState)
	require.Empty(t, i.Address)
}

func TestSlowReceiverTimesOut(t *testing.T) {
	ctx := background(t)
	p := newData(t).start(t, &anonymize.Options{ReceiverTimeout: 20 * time.Millisecond})
	p.addCustomer(1)
	p.eraser.PreAnonymize("customer", "slow", func(ctx context.Context, e anonymize.Erasure) error {
		<-ctx.Done()
		return ctx.Err()
	})
	results, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, ctx.Err(), "it is the receiver whose time is up")
	require.Equal(t, "erasing", results[0].State)
}

func TestReceiverMayRequestButNotErase(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1, 2)
	p.eraser.PreAnonymize("customer", "household", func(ctx context.Context, e anonymize.Erasure) error {
		_, err := p.eraser.Anonymize(ctx, subj(t, "customer/2"))
		require.ErrorIs(t, err, keystore.ErrState)
		require.ErrorIs(t, p.eraser.Cancel(ctx, e.Subject), keystore.ErrState)
		if e.Subject.ID() == "1" {
			return p.eraser.Request(ctx, subj(t, "customer/2"))
		}
		return nil
	})
	_, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	require.Equal(t, keystore.StateErasing, p.state(subj(t, "customer/2")))
}

func TestMistakesAreReportedTogether(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1)
	p.listen("crm", nil)
	p.listen("crm", nil)
	p.eraser.PreAnonymize("cust/omer", "a", func(context.Context, anonymize.Erasure) error { return nil })
	p.eraser.PreAnonymize("customer", "", func(context.Context, anonymize.Erasure) error { return nil })
	p.eraser.PreAnonymize("customer", "nil", nil)
	p.customerT.PreAnonymize("crm", func(context.Context, anonymize.Erasure, customer) error { return nil })
	anonymize.Register(p.eraser, p.customerC, p.customers)
	anonymize.Register[customer](p.eraser, nil, nil)

	_, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.ErrorIs(t, err, keystore.ErrInvalid)
	for _, part := range []string{`"crm" of customer is connected twice`, "cust/omer", "no name", `"nil"`, `"customers" is registered twice`, "without its codec"} {
		require.ErrorContains(t, err, part)
	}
	require.ErrorIs(t, p.eraser.Request(ctx, subj(t, "customer/1")), keystore.ErrInvalid)
	require.ErrorIs(t, p.eraser.Run(ctx), keystore.ErrInvalid)
	require.Equal(t, keystore.StateActive, p.state(subj(t, "customer/1")))

	p.listen("other", nil) // the same name is free for another kind
	p.eraser.PreAnonymize("supplier", "other", func(context.Context, anonymize.Erasure) error { return nil })
	_, err = p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.NotContains(t, err.Error(), "other")

	_, err = anonymize.New(nil, nil)
	require.ErrorIs(t, err, keystore.ErrInvalid)
	_, err = anonymize.New(p.keys, &anonymize.Options{Lease: -1})
	require.ErrorIs(t, err, keystore.ErrInvalid)
}

func nop[T any](context.Context, anonymize.Erasure, T) error { return nil }
