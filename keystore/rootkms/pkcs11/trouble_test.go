//go:build cgo

package pkcs11

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
)

// A PIN that was wrong is tried once, by one process as often as it likes to open.
func TestWrongPIN(t *testing.T) {
	c := newToken(t)
	right := c.PIN
	asked := testPIN + "-but-wrong"
	c.PIN = func() (string, error) { return asked, nil }
	var tries atomic.Int32
	_, err := open(t.Context(), c, logins{module{testModule(t)}, &tries})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "the PIN is wrong and is not tried again")
	require.NotContains(t, err.Error(), testPIN)
	require.EqualValues(t, 1, tries.Load())

	// A token that goes away and comes back when the file holds another PIN.
	k := openKeys(t, Config{Token: c.Token, Module: c.Module, PIN: func() (string, error) {
		if tries.Load() == 1 {
			return right()
		}
		return asked, nil
	}}, func(m cryptoki) cryptoki { return logins{m, &tries} })
	require.NoError(t, testModule(t).Logout(k.session.handle))
	for range 5 {
		_, err = k.State(t.Context(), []string{someKey(k)})
		require.ErrorIs(t, err, keystore.ErrUnavailable)
		require.NotContains(t, err.Error(), testPIN)
	}
	require.EqualValues(t, 3, tries.Load(), "one good, one bad")
	asked = testPIN
	require.NoError(t, k.Check(t.Context()))
}

func TestPINThatMustNotBeTried(t *testing.T) {
	c := newToken(t)
	for flag, why := range map[uint]string{
		pkcs11.CKF_USER_PIN_FINAL_TRY: "the next wrong one locks the token",
		pkcs11.CKF_USER_PIN_LOCKED:    "the security officer must set a new PIN",
	} {
		on, n := new(atomic.Bool), new(atomic.Int32)
		on.Store(true)
		_, err := open(t.Context(), c, logins{flagged{module{testModule(t)}, on, flag, 0, ""}, n})
		require.ErrorIs(t, err, keystore.ErrUnavailable)
		require.ErrorContains(t, err, why)
		require.Zero(t, n.Load())
	}
	c.PIN = func() (string, error) { return readPIN("/no/such/file") }
	_, err := Open(t.Context(), c)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "/no/such/file")
}

func TestSecurityOfficerIsLoggedIn(t *testing.T) {
	c := newToken(t)
	m := testModule(t)
	slot, _, err := find(module{m}, c)
	require.NoError(t, err)
	s, err := m.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	require.NoError(t, err)
	require.NoError(t, m.Login(s, pkcs11.CKU_SO, testSOPIN))
	_, err = Open(t.Context(), c)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "logged in as another user")
	require.NoError(t, m.CloseSession(s))
	openKeys(t, c, nil)
}

// Whatever others in the process do to sessions, keys neither seem gone nor are out of reach.
func TestSessionIsLost(t *testing.T) {
	c := newToken(t)
	n := new(atomic.Int32)
	k := openKeys(t, c, func(m cryptoki) cryptoki { return logins{m, n} })
	require.EqualValues(t, 1, n.Load())
	w := makeWrapped(t, k, "root")
	m := testModule(t)
	for name, lose := range map[string]func(){
		"logged out":     func() { require.NoError(t, m.Logout(k.session.handle)) },
		"session closed": func() { require.NoError(t, m.CloseSession(k.session.handle)) },
		"all closed": func() {
			slot, _, err := find(module{m}, c)
			require.NoError(t, err)
			require.NoError(t, m.CloseAllSessions(slot))
		},
		"finalized": func() { require.NoError(t, m.Finalize()) },
	} {
		lose()
		states, err := k.State(t.Context(), []string{w.name})
		require.NoError(t, err, name)
		require.Equal(t, rootkms.Living, states[0].Fate, name)
		lose()
		w.requireOpens(t, k)
	}
	require.EqualValues(t, 9, n.Load())

	// Another part of the process is logged in already, or just before.
	b := openKeys(t, c, func(m cryptoki) cryptoki { return logins{m, n} })
	w.requireOpens(t, b)
	require.EqualValues(t, 9, n.Load())
	require.NoError(t, m.Logout(b.session.handle))
	w.requireOpens(t, openKeys(t, c, func(m cryptoki) cryptoki { return overtaken{m} }))
}

// Logged out, a token hides its keys: a search that finds none is not believed.
func TestHiddenIsNotGone(t *testing.T) {
	c := newToken(t)
	times := new(atomic.Int32)
	k := openKeys(t, c, func(m cryptoki) cryptoki { return loggedOut{m, testModule(t), times} })
	w := makeWrapped(t, k, "root")
	state := func() (rootkms.Fate, error) {
		states, err := k.State(t.Context(), []string{w.name})
		if err != nil {
			return 0, err
		}
		return states[0].Fate, nil
	}
	times.Store(1)
	fate, err := state()
	require.NoError(t, err)
	require.Equal(t, rootkms.Living, fate)
	times.Store(1)
	w.requireOpens(t, k)

	times.Store(1000)
	_, err = state()
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	_, err = k.Unwrap(t.Context(), w.name, w.blob, testAD)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.NotErrorIs(t, err, keystore.ErrNotFound)
	require.ErrorIs(t, k.Destroy(t.Context(), []string{w.name}), keystore.ErrUnavailable)
	times.Store(0)
	w.requireOpens(t, k)

	on := new(atomic.Bool)
	swapped := openKeys(t, c, func(m cryptoki) cryptoki { return flagged{m, on, 0, 0, "another"} })
	require.NoError(t, k.Destroy(t.Context(), []string{w.name}))
	on.Store(true)
	_, err = swapped.State(t.Context(), []string{w.name})
	require.ErrorIs(t, err, keystore.ErrUnavailable, "another token does not tell what became of keys on this one")
	require.ErrorContains(t, err, "another token of that label")
	on.Store(false)
	w.requireGone(t, swapped)
}

// A process that starts when another token of that label is there, does not take it for the
// one that made the keys, unless it is told that it replaces that one.
func TestAnotherTokenOfThatLabel(t *testing.T) {
	c := newToken(t)
	k := openKeys(t, c, nil)
	w, dead := makeWrapped(t, k, "root"), makeWrapped(t, k, "dead")
	require.NoError(t, k.Destroy(t.Context(), []string{dead.name}))
	dead.requireGone(t, k)
	require.True(t, strings.HasPrefix(w.name, k.serial+"."))

	on := new(atomic.Bool)
	on.Store(true)
	restored := func(m cryptoki) cryptoki { return flagged{m, on, 0, 0, "an/other 2"} }
	other := openKeys(t, c, restored)
	w.requireOpens(t, other) // what it has, it has
	for what, err := range map[string]error{
		"state":   second(other.State(t.Context(), []string{dead.name})),
		"unwrap":  second(other.Unwrap(t.Context(), dead.name, dead.blob, dead.ad)),
		"destroy": other.Destroy(t.Context(), []string{dead.name}),
	} {
		require.ErrorIs(t, err, keystore.ErrUnavailable, what)
		require.NotErrorIs(t, err, keystore.ErrNotFound, what)
		require.ErrorContains(t, err, "replaces="+k.serial, what)
	}
	own := makeWrapped(t, other, "own")
	require.True(t, strings.HasPrefix(own.name, "an%2Fother%202."))
	require.NoError(t, other.Destroy(t.Context(), []string{own.name}))
	own.requireGone(t, other)
	_, err := k.State(t.Context(), []string{own.name})
	require.ErrorContains(t, err, "replaces=an%2Fother%202)")

	c.Replaces = []string{"x", k.serial}
	told := openKeys(t, c, restored)
	dead.requireGone(t, told)
	require.NoError(t, told.Destroy(t.Context(), []string{w.name}))
	w.requireGone(t, told)
	w.requireGone(t, k)
}

// A token that goes away while a wrong tag is told from a fault says nothing about the tag.
func TestTokenGoesWhileItIsAsked(t *testing.T) {
	c := newToken(t)
	k := openKeys(t, c, nil)
	w := makeWrapped(t, k, "root")
	n := new(atomic.Int32)
	leaving := openKeys(t, c, func(m cryptoki) cryptoki { return leaving{m, n} })
	n.Store(3) // it fails once, works twice, and is gone
	_, err := leaving.Unwrap(t.Context(), w.name, w.blob, w.ad)
	require.NotErrorIs(t, err, keystore.ErrTampered)
	n.Store(0)
	w.requireOpens(t, leaving)
}

func TestTokenIsAway(t *testing.T) {
	c := newToken(t)
	is := new(atomic.Bool)
	k := openKeys(t, c, func(m cryptoki) cryptoki { return away{m, is} })
	w := makeWrapped(t, k, "root")
	is.Store(true)
	for range 2 {
		_, err := k.State(t.Context(), []string{w.name})
		require.ErrorIs(t, err, keystore.ErrUnavailable)
		require.ErrorContains(t, err, "there is none at all")
		_, err = k.Unwrap(t.Context(), w.name, w.blob, testAD)
		require.ErrorIs(t, err, keystore.ErrUnavailable)
		require.ErrorIs(t, k.Destroy(t.Context(), []string{w.name}), keystore.ErrUnavailable)
	}
	is.Store(false)
	w.requireOpens(t, k)
}

// Each call fails once and for long, done and not done.
func TestCallsFail(t *testing.T) {
	c := newToken(t)
	for _, does := range []bool{false, true} {
		for _, call := range []string{"generate", "find", "open", "destroy", "session"} {
			f := newFailing(call, pkcs11.CKR_DEVICE_ERROR, 0, does)
			k := openKeys(t, c, f.on)
			w := makeWrapped(t, k, "root")
			k.hangUp()

			f.times.Store(1)
			if call == "session" {
				_, err := k.State(t.Context(), []string{w.name})
				require.NoError(t, err)
			}
			makeWrapped(t, k, "another").requireOpens(t, k)
			f.times.Store(1)
			w.requireOpens(t, k)
			f.times.Store(1)
			require.NoError(t, k.Destroy(t.Context(), []string{w.name}), "%s %v", call, does)
			f.times.Store(0)
			w.requireGone(t, k)

			w = makeWrapped(t, k, "root")
			k.hangUp()
			f.times.Store(1000)
			for what, err := range map[string]error{
				"make":    second(k.Make(t.Context(), someStore, someRoot)),
				"unwrap":  second(k.Unwrap(t.Context(), w.name, w.blob, testAD)),
				"destroy": k.Destroy(t.Context(), []string{w.name}),
			} {
				if err != nil {
					require.ErrorIs(t, err, keystore.ErrUnavailable, "%s while %s fails", what, call)
					require.NotErrorIs(t, err, keystore.ErrNotFound)
					require.NotErrorIs(t, err, keystore.ErrTampered)
				}
			}
			require.Less(t, f.times.Load(), int32(1000), call)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// A token that does not answer keeps nobody beyond the end of his context.
func TestTokenHangs(t *testing.T) {
	c := newToken(t)
	on, release := new(atomic.Bool), make(chan struct{})
	k := openKeys(t, c, func(m cryptoki) cryptoki { return hanging{m, on, release} })
	w := makeWrapped(t, k, "root")
	before := objects(t, k)
	on.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := k.Make(ctx, someStore, someRoot)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	_, err = k.Unwrap(ctx, w.name, w.blob, testAD) // waits for its turn
	require.ErrorIs(t, err, context.DeadlineExceeded)
	close(release)
	w.requireOpens(t, k)
	require.Equal(t, before, objects(t, k), "the key that nobody waited for was given up")

	// Nor for ever whom nothing bounds.
	require.Equal(t, 2*time.Minute, k.patience)
	release = make(chan struct{})
	hung := openKeys(t, c, func(m cryptoki) cryptoki { return hanging{m, on, release} })
	hung.patience = 50 * time.Millisecond
	_, err = hung.Make(context.Background(), someStore, someRoot)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "the token does not answer")
	close(release)
	hung.patience = patience
	w.requireOpens(t, hung)
}
