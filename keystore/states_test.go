package keystore_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
	"github.com/stretchr/testify/require"
)

func TestRestrictedSubjectsOpenForListedPurposes(t *testing.T) {
	ctx := context.Background()
	s := keystoretest.New(t)
	ann := subject(t, 1)
	id, sealed := seal(t, s, ann, "", "Ann")
	require.ErrorIs(t, joined(s.Restrict(ctx, nil, subject(t, 9))), keystore.ErrUnknownSubject)
	require.NoError(t, joined(s.Restrict(ctx, &keystore.RestrictOptions{Purposes: []string{"audit"}}, ann)))

	_, err := open(ctx, s, ann, id, sealed)
	require.ErrorIs(t, err, keystore.ErrRestricted)
	_, err = open(keystore.WithPurpose(ctx, "sales"), s, ann, id, sealed)
	require.ErrorIs(t, err, keystore.ErrRestricted)
	text, err := open(keystore.WithPurpose(ctx, "audit"), s, ann, id, sealed)
	require.NoError(t, err)
	require.Equal(t, "Ann", text)
	k, err := s.Ensure(ctx, nil, []string{"", "new"}, ann)
	require.NoError(t, err)
	require.ErrorIs(t, k[0].WriteErr(), keystore.ErrRestricted)

	var listed []keystore.Subject
	for st, err := range s.Restricted(ctx) {
		require.NoError(t, err)
		listed = append(listed, st.Subject)
	}
	require.Equal(t, []keystore.Subject{ann}, listed)
	require.NoError(t, joined(s.Release(ctx, ann)))
	require.NoError(t, joined(s.Release(ctx, ann)))
	_, err = open(ctx, s, ann, id, sealed)
	require.NoError(t, err)
	for range s.Restricted(ctx) {
		t.Fatal("nobody is restricted any more")
	}
}

func TestAHoldRefusesDestruction(t *testing.T) {
	ctx := context.Background()
	s := keystoretest.New(t)
	ann, bob := subject(t, 1), subject(t, 2)
	seal(t, s, ann, "", "Ann")
	seal(t, s, bob, "", "Bob")
	require.NoError(t, joined(s.Restrict(ctx, &keystore.RestrictOptions{Hold: "case 7"}, ann)))
	es, err := s.Erase(ctx, keystore.Request{Subject: ann}, keystore.Request{Subject: bob})
	require.NoError(t, err)
	require.ErrorIs(t, es[0].Err, keystore.ErrHeld)
	require.Equal(t, keystore.StateRestricted, es[0].State)
	require.NoError(t, es[1].Err, "one person's failure stops nobody else")
	require.Equal(t, keystore.StateErased, es[1].State)
	_, err = s.Withdraw(ctx, ann, "tax")
	require.ErrorIs(t, err, keystore.ErrHeld)
	require.NoError(t, joined(s.Release(ctx, ann)))
	es, err = s.Erase(ctx, keystore.Request{Subject: ann})
	require.NoError(t, err)
	require.NoError(t, es[0].Err)
	require.True(t, es[0].Final)
}

func TestKeepingAPurpose(t *testing.T) {
	ctx := context.Background()
	s := keystoretest.New(t)
	ann := subject(t, 1)
	nameID, name := seal(t, s, ann, "", "Ann")
	taxID, tax := seal(t, s, ann, "tax", "Street 1")

	es, err := s.Erase(ctx, keystore.Request{Subject: ann, Keep: []string{"tax", "unheard-of"}})
	require.NoError(t, err)
	require.Equal(t, keystore.StateRestricted, es[0].State)
	require.Equal(t, []string{"tax"}, es[0].Kept)
	require.True(t, es[0].Final, "what was destroyed is")

	_, err = open(ctx, s, ann, nameID, name)
	require.ErrorIs(t, err, keystore.ErrWithdrawn)
	_, err = open(ctx, s, ann, taxID, tax)
	require.ErrorIs(t, err, keystore.ErrRestricted)
	forTax := keystore.WithPurpose(ctx, "tax")
	text, err := open(forTax, s, ann, taxID, tax)
	require.NoError(t, err)
	require.Equal(t, "Street 1", text)
	_, err = open(forTax, s, ann, nameID, name)
	require.ErrorIs(t, err, keystore.ErrWithdrawn)
	k, err := s.Ensure(forTax, nil, []string{"", "tax"}, ann)
	require.NoError(t, err)
	require.True(t, k[0].Withdrawn(""))
	_, _, err = k[0].Primary("")
	require.ErrorIs(t, err, keystore.ErrWithdrawn, "nothing new is sealed under what was withdrawn")
	require.ErrorIs(t, joined(s.Release(ctx, ann)), keystore.ErrState)

	// The same again changes nothing; a later erasure takes the rest.
	es, err = s.Erase(ctx, keystore.Request{Subject: ann, Keep: []string{"tax"}})
	require.NoError(t, err)
	require.Equal(t, keystore.StateRestricted, es[0].State)
	es, err = s.Erase(ctx, keystore.Request{Subject: ann})
	require.NoError(t, err)
	require.Equal(t, keystore.StateErased, es[0].State)
	_, err = open(forTax, s, ann, taxID, tax)
	require.ErrorIs(t, err, keystore.ErrErased)
	_, err = open(ctx, s, ann, nameID, name)
	require.ErrorIs(t, err, keystore.ErrErased)
}

func TestWithdrawingAPurpose(t *testing.T) {
	ctx := context.Background()
	s := keystoretest.New(t)
	ann := subject(t, 1)
	nameID, name := seal(t, s, ann, "", "Ann")
	adsID, ads := seal(t, s, ann, "ads", "likes tea")
	e, err := s.Withdraw(ctx, ann, "ads")
	require.NoError(t, err)
	require.True(t, e.Final)
	require.Equal(t, keystore.StateActive, e.State)
	_, err = open(ctx, s, ann, adsID, ads)
	require.ErrorIs(t, err, keystore.ErrWithdrawn)
	_, err = open(ctx, s, ann, nameID, name)
	require.NoError(t, err)
	_, err = open(ctx, s, ann, nameID+1, name)
	require.ErrorIs(t, err, keystore.ErrUnknownKey)
}

func TestRotatedKeysStillOpen(t *testing.T) {
	ctx := context.Background()
	s := keystoretest.New(t)
	ann := subject(t, 1)
	oldID, old := seal(t, s, ann, "", "before")
	errs, err := s.Rotate(ctx, ann, subject(t, 2))
	require.NoError(t, err)
	require.NoError(t, errs[0])
	require.ErrorIs(t, errs[1], keystore.ErrUnknownSubject)
	newID, fresh := seal(t, s, ann, "", "after")
	require.NotEqual(t, oldID, newID)
	for id, sealed := range map[uint32][]byte{oldID: old, newID: fresh} {
		_, err := open(ctx, s, ann, id, sealed)
		require.NoError(t, err)
	}
	st, err := s.Status(ctx, ann)
	require.NoError(t, err)
	require.Len(t, st[0].Keys, 2)
	require.True(t, st[0].Keys[1].Primary && !st[0].Keys[0].Primary)
}

func TestErasureWaitsForRecordedReceivers(t *testing.T) {
	ctx := context.Background()
	s := keystoretest.New(t)
	ann := subject(t, 1)
	id, sealed := seal(t, s, ann, "", "Ann")
	require.NoError(t, s.RecordReceivers(ctx, "customer", "crm", "mail"))
	require.NoError(t, s.RecordReceivers(ctx, "customer", "crm"))

	es, err := s.Erase(ctx, keystore.Request{Subject: ann})
	require.NoError(t, err)
	require.Equal(t, keystore.StateErasing, es[0].State)
	require.Equal(t, []string{"crm", "mail"}, es[0].Waiting)
	require.ErrorIs(t, s.BeginBlanking(ctx, ann), keystore.ErrWaiting)
	_, err = open(ctx, s, ann, id, sealed)
	require.ErrorIs(t, err, keystore.ErrErasing)

	reveal, end, err := s.Reveal(ctx, ann)
	require.NoError(t, err)
	text, err := open(reveal, s, ann, id, sealed)
	require.NoError(t, err)
	require.Equal(t, "Ann", text)
	k, err := s.Ensure(reveal, nil, []string{""}, ann)
	require.NoError(t, err)
	require.ErrorIs(t, k[0].WriteErr(), keystore.ErrErasing, "receivers read, and do not write")
	require.True(t, keystore.Fresh(k[0]))
	end()
	require.False(t, keystore.Fresh(k[0]))
	_, err = open(reveal, s, ann, id, sealed)
	require.ErrorIs(t, err, keystore.ErrErasing, "the capability ended with the receiver")

	require.NoError(t, s.Acknowledge(ctx, ann, "crm"))
	require.NoError(t, s.Retire(ctx, "customer", "mail"))
	require.ErrorIs(t, s.Retire(ctx, "customer", "mail"), keystore.ErrInvalid)
	names, err := s.Receivers(ctx, "customer")
	require.NoError(t, err)
	require.Equal(t, []string{"crm"}, names)
	es, err = s.Erase(ctx, keystore.Request{Subject: ann})
	require.NoError(t, err)
	require.Equal(t, keystore.StateErased, es[0].State)
}

func TestEraseWaitsForReceiversContexts(t *testing.T) {
	ctx := context.Background()
	s := keystoretest.New(t)
	ann := subject(t, 1)
	seal(t, s, ann, "", "Ann")
	_, err := s.RequestErasure(ctx, keystore.Request{Subject: ann})
	require.NoError(t, err)
	_, end, err := s.Reveal(ctx, ann)
	require.NoError(t, err)
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	_, err = s.Erase(short, keystore.Request{Subject: ann})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	end()
	es, err := s.Erase(ctx, keystore.Request{Subject: ann})
	require.NoError(t, err)
	require.Equal(t, keystore.StateErased, es[0].State)
}

func TestCancelGoesBackUntilBlankingBegins(t *testing.T) {
	ctx := context.Background()
	s := keystoretest.New(t)
	ann, bob := subject(t, 1), subject(t, 2)
	seal(t, s, ann, "", "Ann")
	seal(t, s, bob, "", "Bob")
	require.NoError(t, joined(s.Restrict(ctx, &keystore.RestrictOptions{Purposes: []string{"audit"}}, bob)))
	require.ErrorIs(t, s.Cancel(ctx, ann), keystore.ErrState)
	errs, err := s.RequestErasure(ctx, keystore.Request{Subject: ann, Actor: "officer"}, keystore.Request{Subject: bob}, keystore.Request{Subject: ann})
	require.NoError(t, err)
	require.Equal(t, []error{nil, nil, nil}, errs)
	var pending []keystore.Subject
	for st, err := range s.Pending(ctx) {
		require.NoError(t, err)
		pending = append(pending, st.Subject)
	}
	require.Len(t, pending, 2)
	require.True(t, slices.Contains(pending, ann) && slices.Contains(pending, bob))

	require.NoError(t, s.Cancel(ctx, ann))
	require.NoError(t, s.Cancel(ctx, bob))
	sts, err := s.Status(ctx, ann, bob)
	require.NoError(t, err)
	require.Equal(t, keystore.StateActive, sts[0].State)
	require.Equal(t, keystore.StateRestricted, sts[1].State)
	require.Equal(t, []string{"audit"}, sts[1].Purposes)

	_, err = s.RequestErasure(ctx, keystore.Request{Subject: ann})
	require.NoError(t, err)
	require.NoError(t, s.BeginBlanking(ctx, ann))
	require.NoError(t, s.BeginBlanking(ctx, ann))
	require.ErrorIs(t, s.Cancel(ctx, ann), keystore.ErrState)
}

func TestClaimsBelongToOneWorker(t *testing.T) {
	ctx := context.Background()
	s := keystoretest.New(t)
	ann := subject(t, 1)
	seal(t, s, ann, "", "Ann")
	require.ErrorIs(t, s.Claim(ctx, ann, "a", time.Minute), keystore.ErrState)
	_, err := s.RequestErasure(ctx, keystore.Request{Subject: ann})
	require.NoError(t, err)
	require.NoError(t, s.Claim(ctx, ann, "a", time.Minute))
	require.NoError(t, s.Claim(ctx, ann, "a", time.Minute))
	require.ErrorIs(t, s.Claim(ctx, ann, "b", time.Minute), keystore.ErrConflict)
	require.NoError(t, s.Claim(ctx, ann, "a", 0))
	require.NoError(t, s.Claim(ctx, ann, "b", time.Minute))
}

func TestUnknownSubjectsAreErasedOnlyWhenAsked(t *testing.T) {
	ctx := context.Background()
	s := keystoretest.New(t)
	ann := subject(t, 1)
	es, err := s.Erase(ctx, keystore.Request{Subject: ann})
	require.NoError(t, err)
	require.ErrorIs(t, es[0].Err, keystore.ErrUnknownSubject)
	es, err = s.Erase(ctx, keystore.Request{Subject: ann, Unknown: true}, keystore.Request{Subject: ann, Unknown: true})
	require.NoError(t, err)
	require.Equal(t, keystore.StateErased, es[0].State)
	require.Equal(t, keystore.StateErased, es[1].State)
	k, err := s.Ensure(ctx, nil, []string{""}, ann)
	require.NoError(t, err)
	require.ErrorIs(t, k[0].WriteErr(), keystore.ErrErased)
	require.ErrorIs(t, s.Readmit(ctx, subject(t, 2)), keystore.ErrUnknownSubject)
}

// Old entries, of the cache and of the caller, never show a state that has passed.
func TestStatesHoldFromTheCache(t *testing.T) {
	ctx := context.Background()
	s := newPlace(t, 0).mustOpen()
	ann := subject(t, 1)
	id, sealed := seal(t, s, ann, "", "Ann")
	before, err := s.Lookup(ctx, nil, ann)
	require.NoError(t, err)
	require.True(t, keystore.Fresh(before[0]))
	_, err = s.RequestErasure(ctx, keystore.Request{Subject: ann})
	require.NoError(t, err)
	require.False(t, keystore.Fresh(before[0]))
	_, err = open(ctx, s, ann, id, sealed)
	require.ErrorIs(t, err, keystore.ErrErasing)
	require.NoError(t, s.Cancel(ctx, ann))
	_, err = open(ctx, s, ann, id, sealed)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	_, err = open(ctx, s, ann, id, sealed)
	require.ErrorIs(t, err, keystore.ErrClosed)
}

// Who asks for more than an erasure under way destroys gets it, or hears that it is too late.
func TestAskingForMoreThanIsUnderWay(t *testing.T) {
	ctx := context.Background()
	s := keystoretest.New(t)
	ann, bob := subject(t, 1), subject(t, 2)
	ask := func(sub keystore.Subject, keep ...string) error {
		errs, err := s.RequestErasure(ctx, keystore.Request{Subject: sub, Keep: keep})
		require.NoError(t, err)
		return errs[0]
	}
	for _, sub := range []keystore.Subject{ann, bob} {
		seal(t, s, sub, "", "x")
		seal(t, s, sub, "tax", "x")
		seal(t, s, sub, "crm", "x")
		require.NoError(t, ask(sub, "tax", "crm"))
	}
	require.ErrorIs(t, ask(ann, "tax", "other"), keystore.ErrState, "less cannot be asked for")
	require.NoError(t, ask(ann, "crm"))
	require.NoError(t, ask(ann))
	es, err := s.Erase(ctx, keystore.Request{Subject: ann})
	require.NoError(t, err)
	require.Equal(t, keystore.StateErased, es[0].State)

	require.NoError(t, s.BeginBlanking(ctx, bob))
	require.NoError(t, ask(bob, "tax", "crm"))
	require.ErrorIs(t, ask(bob, "tax"), keystore.ErrState)
	st, err := s.Status(ctx, bob)
	require.NoError(t, err)
	require.Equal(t, []string{"crm", "tax"}, st[0].Journal.Keep)
}

// joined is the error of a call that is about one subject.
func joined(errs []error, err error) error { return errors.Join(append(errs, err)...) }
