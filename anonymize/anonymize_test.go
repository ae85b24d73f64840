package anonymize_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/internal/fault"
	"github.com/oubli/oubli/keystore"
)

func TestAnonymizeBlanksAndDestroys(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1, 2)
	other, otherInvoice := p.customers.get(2), p.invoices.get(20)
	backup := p.customers.get(1)

	results, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	require.Len(t, results, 1)
	require.Equal(t, "erased", results[0].State)
	require.WithinDuration(t, time.Now(), *results[0].FinalAt, 5*time.Second)

	require.Equal(t, [][]string{{"first_name", "email", "phone", "birth_date", "newsletter"}}, p.customers.saves(),
		"changed columns alone are saved, and those that the row's own Anonymize named")
	require.Equal(t, [][]string{{"address", "note"}, {"address", "note"}}, p.invoices.saves())
	stored := p.customers.get(1)
	require.True(t, strings.HasPrefix(stored.FirstName, "oubli1~") && strings.HasSuffix(stored.FirstName, "~Erased"), stored.FirstName)
	require.Nil(t, stored.Phone)
	require.False(t, stored.Newsletter)
	require.Equal(t, "NL", stored.Country)

	c := p.open(ctx, 1)
	require.Equal(t, fieldcrypt.StatusErased, c.Privacy)
	require.Equal(t, "Erased", c.FirstName)
	require.NoError(t, p.customerC.Open(ctx, &backup))
	require.Equal(t, fieldcrypt.StatusErased, backup.Privacy, "a copy of the row from before is dark, too")

	require.Equal(t, other, p.customers.get(2))
	require.Equal(t, otherInvoice, p.invoices.get(20))
	require.Equal(t, "Ada2", p.open(ctx, 2).FirstName)
}

func TestGeneralizationSurvives(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1)
	_, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	v, err := p.customers.get(1).BirthDate.Value()
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(v.(string), "~1990"), "the year is left for statistics")
}

func TestTwiceIsOnce(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1)
	p.listen("crm", nil)
	first, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"), subj(t, "customer/1"))
	require.NoError(t, err)
	require.Equal(t, first[0], first[1])
	require.Equal(t, []string{"crm customer/1"}, p.heard())
	stored, writes := p.customers.get(1), p.backend.Groups()
	p.customers.saves()

	again, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	require.Equal(t, first[0], again[0])
	require.Empty(t, p.heard())
	require.Empty(t, p.customers.saves())
	require.Equal(t, stored, p.customers.get(1))
	require.Equal(t, writes, p.backend.Groups(), "nothing is written")
}

func TestResultAsJSON(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for want, r := range map[string]anonymize.Result{
		`{"subject":"customer/42","state":"erased","final_at":"2026-01-02T03:04:05Z","kept":[],"waiting_for":[],"error":""}`: {Subject: subj(t, "customer/42"), State: "erased", FinalAt: &at},
		`{"subject":"customer/42","state":"erasing","final_at":null,"kept":["tax"],"waiting_for":["crm"],"error":"x"}`:       {Subject: subj(t, "customer/42"), State: "erasing", Kept: []string{"tax"}, WaitingFor: []string{"crm"}, Error: "x", Err: errors.New("x")},
	} {
		got, err := json.Marshal(r)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
}

func TestOnePersonsFailureStopsNobodyElse(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1, 2, 3)
	full := errors.New("disk full")
	p.customers.fail = func(op string, row customer) error {
		if op == "save" && row.ID == 2 {
			return full
		}
		return nil
	}
	before, err := p.keys.Health(ctx)
	require.NoError(t, err)
	results, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"), subj(t, "customer/2"), subj(t, "customer/3"))
	require.ErrorIs(t, err, full)
	var batch *anonymize.BatchError
	require.ErrorAs(t, err, &batch)
	require.Len(t, batch.Failed, 1)
	require.Equal(t, subj(t, "customer/2"), batch.Failed[0].Subject)
	require.Equal(t, []string{"erased", "erasing", "erased"}, []string{results[0].State, results[1].State, results[2].State})
	require.ErrorContains(t, results[1].Err, `SaveFields of table "customers"`)
	after, err := p.keys.Health(ctx)
	require.NoError(t, err)
	require.Equal(t, before.Epoch+1, after.Epoch, "one advance for the batch")

	p.customers.fail = nil
	_, err = p.eraser.Anonymize(ctx, subj(t, "customer/2"))
	require.NoError(t, err)
	require.Equal(t, "Erased", p.open(ctx, 2).FirstName)
}

func TestTwoErasedRowsUnderUnique(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1, 2) // customers.email is unique
	_, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"), subj(t, "customer/2"))
	require.NoError(t, err)
	one, two := p.customers.get(1), p.customers.get(2)
	require.NotEmpty(t, one.Email)
	require.NotEqual(t, one.Email, two.Email)
	require.Empty(t, p.open(ctx, 1).Email)
}

func TestNullStaysNullAndEmptyIsContent(t *testing.T) {
	ctx := background(t)
	p := newProcess(t)
	empty := ""
	for id, phone := range map[int64]*string{1: nil, 2: &empty} {
		c, err := p.customerC.Seal(ctx, customer{ID: id, FirstName: "A", Phone: phone})
		require.NoError(t, err)
		p.customers.put(c)
	}
	require.Nil(t, p.customers.get(1).Phone)
	require.NotNil(t, p.customers.get(2).Phone, "an empty text is sealed like any other")
	_, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"), subj(t, "customer/2"))
	require.NoError(t, err)
	saves := p.customers.saves()
	require.NotContains(t, saves[0], "phone", "what was NULL is not written")
	require.Contains(t, saves[1], "phone")
	require.Nil(t, p.customers.get(2).Phone)
}

func TestErasedRowStaysWritable(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1)
	_, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	stored := p.invoices.get(10)

	row := stored
	require.NoError(t, p.invoiceC.Open(ctx, &row))
	row.Total = 50 // a refund
	row.Address, row.Note = stored.Address, stored.Note
	sealed, err := p.invoiceC.Seal(ctx, row)
	require.NoError(t, err)
	require.Equal(t, stored.Address, sealed.Address)
	require.Equal(t, 50, sealed.Total)

	row.Address = "5 New Street"
	_, err = p.invoiceC.Seal(ctx, row)
	require.ErrorIs(t, err, keystore.ErrErased)
}

func TestComposingCommitsNothing(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1)
	p.listen("crm", nil)
	stored, writes := p.customers.get(1), p.backend.Groups()

	row := p.customers.get(1)
	columns, err := p.customerT.Blank(ctx, &row)
	require.NoError(t, err)
	require.Equal(t, []string{"first_name", "email", "phone", "birth_date", "newsletter"}, columns)
	require.NotEqual(t, stored.FirstName, row.FirstName)

	mine := p.open(ctx, 1)
	require.Equal(t, []string{"newsletter"}, mine.Anonymize())

	require.Empty(t, p.heard())
	require.Empty(t, p.customers.saves())
	require.Equal(t, stored, p.customers.get(1))
	require.Equal(t, writes, p.backend.Groups())
	require.Equal(t, "Ada1", p.open(ctx, 1).FirstName)
}

func TestSourceWithRowsOfOthersIsRefused(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1, 2)
	other := p.customers.get(2)
	p.customers.owner = func(customer) string { return "customer/1" } // forgot its WHERE
	results, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.ErrorIs(t, err, keystore.ErrInvalid)
	require.ErrorContains(t, err, "customer/2")
	require.Equal(t, "erasing", results[0].State)
	require.Equal(t, other, p.customers.get(2))
	require.Empty(t, p.customers.saves())
	_, err = p.eraser.Export(ctx, subj(t, "customer/1"))
	require.ErrorIs(t, err, keystore.ErrInvalid)
}

func TestSourceThatPanicsOrFails(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1, 2)
	p.invoices.fail = func(op string, row invoice) error {
		if row.Customer == 1 {
			panic("value of a person")
		}
		return nil
	}
	results, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"), subj(t, "customer/2"))
	require.Error(t, err)
	require.NotContains(t, err.Error(), "value of")
	require.Equal(t, []string{"erasing", "erased"}, []string{results[0].State, results[1].State})
}

func TestDeadKeystoreEndsTheBatch(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1, 2)
	p.listen("crm", func() error { p.backend.FailAt(1, fault.Lost); return nil })
	results, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"), subj(t, "customer/2"))
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, results[1].Err, "not tried")
	require.Equal(t, []string{"crm customer/1"}, p.heard())
}

func TestGoneContext(t *testing.T) {
	p := newProcess(t, 1)
	ctx, cancel := context.WithCancel(background(t))
	p.eraser.PreAnonymize("customer", "last words", func(context.Context, anonymize.Erasure) error { cancel(); return nil })
	_, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, keystore.StateErasing, p.state(subj(t, "customer/1")))
	require.NoError(t, p.eraser.Retire(context.Background(), "customer", "last words"))
	_, err = p.eraser.Anonymize(background(t), subj(t, "customer/1"))
	require.NoError(t, err)
}

func TestManyAreAFewAdvances(t *testing.T) {
	ctx := background(t)
	p := newData(t).bare(t, nil)
	var all []keystore.Subject
	for id := range 1001 {
		s, err := keystore.NewSubject("customer", id+1)
		require.NoError(t, err)
		all = append(all, s)
	}
	_, err := p.keys.Ensure(ctx, nil, []string{""}, all...)
	require.NoError(t, err)
	before, err := p.keys.Health(ctx)
	require.NoError(t, err)
	results, err := p.eraser.Anonymize(ctx, all...)
	require.NoError(t, err)
	for i, r := range results {
		require.Equal(t, all[i], r.Subject)
		require.Equal(t, "erased", r.State)
	}
	after, err := p.keys.Health(ctx)
	require.NoError(t, err)
	require.Equal(t, before.Epoch+2, after.Epoch)
}

// A process with neither tables nor receivers does not destroy the keys of a subject
// whose rows another one is blanking.
func TestClaimsAreRespectedByAll(t *testing.T) {
	p := newProcess(t, 1)
	s := subj(t, "customer/1")
	require.NoError(t, p.eraser.Request(background(t), s))
	require.NoError(t, p.keys.Claim(background(t), s, "another", time.Minute))
	for _, q := range []*process{p, p.data.bare(t, nil)} {
		ctx, cancel := context.WithTimeout(background(t), 50*time.Millisecond)
		results, err := q.eraser.Anonymize(ctx, s)
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, "erasing", results[0].State)
		require.NotNil(t, p.customers.get(1).Phone)
	}
}

// failingRoots cannot take a new root while it is told so.
type failingRoots struct {
	keystore.RootStore
	fail bool
}

func (r *failingRoots) Add(ctx context.Context, root keystore.Root) error {
	if r.fail {
		return fmt.Errorf("mirror b is away: %w", keystore.ErrUnavailable)
	}
	return r.RootStore.Add(ctx, root)
}

// When the keys are gone but the tree could not advance, the same call again advances.
func TestUnfinishedAdvanceIsFinished(t *testing.T) {
	ctx := background(t)
	d := newData(t)
	roots := &failingRoots{RootStore: d.roots}
	d.roots = roots
	p := d.start(t, nil)
	p.addCustomer(1)

	roots.fail = true
	results, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.Equal(t, "erased", results[0].State)
	require.Nil(t, results[0].FinalAt)
	require.Equal(t, fieldcrypt.StatusErased, p.open(ctx, 1).Privacy)

	roots.fail = false
	results, err = p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	require.NotNil(t, results[0].FinalAt)
}
