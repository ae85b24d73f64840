package anonymize_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/keystore"
)

func TestRecordedReceiversCannotBeSkipped(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1, 2)
	p.listen("crm", nil)
	_, err := p.eraser.Anonymize(ctx, subj(t, "customer/2")) // the first erasure records them
	require.NoError(t, err)
	p.heard()

	foreign := p.data.bare(t, nil)
	for range 2 {
		results, err := foreign.eraser.Anonymize(ctx, subj(t, "customer/1"))
		require.ErrorIs(t, err, keystore.ErrWaiting)
		require.Equal(t, "erasing", results[0].State)
		require.Equal(t, []string{"crm"}, results[0].WaitingFor)
		require.NotEmpty(t, results[0].Error)
	}
	done, err := foreign.keys.Erase(ctx, keystore.Request{Subject: subj(t, "customer/1")})
	require.NoError(t, err)
	require.Equal(t, keystore.StateErasing, done[0].State)

	results, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	require.Equal(t, "erased", results[0].State)
	require.Equal(t, []string{"crm customer/1"}, p.heard())
}

func TestTwoProcessesEachWithAReceiver(t *testing.T) {
	ctx := background(t)
	d := newData(t)
	p, q := d.start(t, nil), d.start(t, nil)
	p.addCustomer(1)
	p.listen("crm", nil)
	q.listen("books", nil)
	require.NoError(t, q.eraser.Request(ctx)) // nobody
	require.NoError(t, q.keys.RecordReceivers(ctx, "customer", "books"))

	results, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.ErrorIs(t, err, keystore.ErrWaiting)
	require.Equal(t, []string{"books"}, results[0].WaitingFor)
	require.Equal(t, []string{"crm customer/1"}, p.heard(), "it does what it can")

	results, err = q.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	require.Equal(t, "erased", results[0].State)
	require.Equal(t, []string{"books customer/1"}, q.heard())
	require.Empty(t, p.heard())
}

// The command line may be first, before the application ever ran.
func TestReceiverConnectedAfterTheRequest(t *testing.T) {
	ctx := background(t)
	d := newData(t)
	writer := d.start(t, nil)
	writer.addCustomer(1)
	require.NoError(t, writer.eraser.Request(ctx, subj(t, "customer/1")))

	p := d.start(t, nil)
	p.listen("crm", nil)
	_, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	require.Equal(t, []string{"crm customer/1"}, p.heard())
}

func TestRetire(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1, 2)
	require.NoError(t, p.keys.RecordReceivers(ctx, "customer", "gone"))
	p.listen("broken", func() error { return errors.New("always") })
	_, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.ErrorContains(t, err, "always")

	require.NoError(t, p.eraser.Retire(ctx, "customer", "broken"))
	p.heard()
	results, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.ErrorIs(t, err, keystore.ErrWaiting)
	require.Equal(t, []string{"gone"}, results[0].WaitingFor)
	require.Empty(t, p.heard(), "a retired receiver is not called")

	require.NoError(t, p.eraser.Retire(ctx, "customer", "gone"))
	_, err = p.eraser.Anonymize(ctx, subj(t, "customer/1"), subj(t, "customer/2"))
	require.NoError(t, err)
	names, err := p.keys.Receivers(ctx, "customer")
	require.NoError(t, err)
	require.Empty(t, names, "and not recorded again")
}

// Retiring with another tool reaches a process that still has the receiver.
func TestRetireElsewhere(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1)
	p.listen("broken", func() error { return errors.New("always") })
	_, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.Error(t, err)
	require.NoError(t, p.data.bare(t, nil).eraser.Retire(ctx, "customer", "broken"))
	p.heard()
	_, err = p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	require.Empty(t, p.heard())
}

// What a receiver did for an erasure that was cancelled elsewhere meanwhile does not
// count for the next one.
func TestCancelledAndRequestedElsewhere(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1)
	other := p.data.bare(t, nil)
	var once bool
	var events []keystore.EventID
	p.eraser.PreAnonymize("customer", "crm", func(_ context.Context, e anonymize.Erasure) error {
		events = append(events, e.Event)
		if once {
			return nil
		}
		once = true
		require.NoError(t, other.eraser.Cancel(ctx, e.Subject))
		return other.eraser.Request(ctx, e.Subject)
	})
	_, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.ErrorIs(t, err, keystore.ErrState)
	_, err = p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	require.Len(t, events, 2)
	require.NotEqual(t, events[0], events[1])
}
