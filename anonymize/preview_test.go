package anonymize_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/keystore"
)

func TestPreviewTellsAndChangesNothing(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1, 2)
	require.NoError(t, p.keys.RecordReceivers(ctx, "customer", "elsewhere"))
	p.listen("crm", nil)
	p.invoiceT.PreAnonymize("books", nop[invoice])
	writes := p.backend.Groups()

	plan, err := p.eraser.PreviewWith(ctx, &anonymize.Request{Keep: []string{"tax"}}, subj(t, "customer/1"))
	require.NoError(t, err)
	require.Equal(t, "active", plan.State)
	require.Equal(t, []string{"crm", "books"}, plan.Receivers)
	require.Equal(t, []string{"elsewhere"}, plan.Missing)
	require.Equal(t, []string{"tax"}, plan.Kept)
	require.Equal(t, []anonymize.TablePlan{
		{Table: "customers", Rows: 1, Fields: []string{"first_name", "email", "phone", "birth_date"}, Kept: []string{}},
		{Table: "invoices", Rows: 2, Fields: []string{"note"}, Kept: []string{"address"}},
	}, plan.Tables)
	require.WithinDuration(t, time.Now(), *plan.FinalAt, 5*time.Second)
	require.Empty(t, plan.Refused)

	require.Equal(t, writes, p.backend.Groups())
	require.Empty(t, p.heard())
	require.Empty(t, p.customers.saves())
	require.Equal(t, keystore.StateActive, p.state(subj(t, "customer/1")))
	names, err := p.keys.Receivers(ctx, "customer")
	require.NoError(t, err)
	require.Equal(t, []string{"elsewhere"}, names)
}

func TestPreviewOfWhatWouldNotHappen(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1, 2, 3)
	require.NoError(t, joined(p.keys.Restrict(ctx, &keystore.RestrictOptions{Hold: "court order 7"}, subj(t, "customer/1"))))
	plan, err := p.eraser.Preview(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	require.Equal(t, "court order 7", plan.Hold)
	require.NotEmpty(t, plan.Refused)
	require.Nil(t, plan.FinalAt)

	plan, err = p.eraser.Preview(ctx, subj(t, "customer/99"))
	require.NoError(t, err)
	require.Equal(t, "unknown", plan.State)
	require.Equal(t, keystore.ErrUnknownSubject.Error(), plan.Refused)

	_, err = p.eraser.Anonymize(ctx, subj(t, "customer/2"))
	require.NoError(t, err)
	p.listen("crm", func() error { return errors.New("down") })
	plan, err = p.eraser.Preview(ctx, subj(t, "customer/2"))
	require.NoError(t, err)
	require.Equal(t, "erased", plan.State)
	require.Empty(t, plan.Receivers)
	require.Empty(t, plan.Tables[0].Fields)

	require.Error(t, func() error { _, err := p.eraser.Anonymize(ctx, subj(t, "customer/3")); return err }())
	plan, err = p.eraser.Preview(ctx, subj(t, "customer/3"))
	require.NoError(t, err)
	require.Equal(t, "erasing", plan.State)
	require.Equal(t, []string{"crm"}, plan.Receivers)

	_, err = p.eraser.PreviewWith(ctx, &anonymize.Request{Keep: []string{"taxx"}}, subj(t, "customer/3"))
	require.ErrorIs(t, err, keystore.ErrInvalid)

	raw, err := json.Marshal(plan)
	require.NoError(t, err)
	require.Contains(t, string(raw), `"receivers":["crm"],"missing":[],"kept":[]`)
}
