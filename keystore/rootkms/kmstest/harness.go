package kmstest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
)

// harness is the keys of one case, with what the cases say again and again.
type harness struct {
	rootkms.Keys
	suite *Suite
}

// sealed is a secret that was wrapped.
type sealed struct {
	key             string
	secret, ad, box []byte
}

var allFates = map[rootkms.Fate]string{rootkms.Gone: "gone", rootkms.Living: "living", rootkms.Dying: "dying", rootkms.Barred: "barred"}

// make makes n keys.
func (h *harness) make(ctx context.Context, n int) (names []string, err error) {
	for range n {
		var store keystore.StoreID
		var root keystore.RootID
		rand.Read(store[:])
		rand.Read(root[:])
		name, err := h.Make(ctx, store, root)
		if err != nil {
			return nil, fmt.Errorf("make a key: %w", err)
		}
		if name == "" || len(name) > 2048 || slices.Contains(names, name) {
			return nil, fmt.Errorf("make a key: its name %q is empty, too long or taken", name)
		}
		names = append(names, name)
	}
	return names, nil
}

// seal wraps a fresh secret.
func (h *harness) seal(ctx context.Context, key string) (*sealed, error) {
	s := &sealed{key: key, secret: make([]byte, 32), ad: []byte("ad of " + key)}
	rand.Read(s.secret)
	secret, ad := bytes.Clone(s.secret), bytes.Clone(s.ad)
	var err error
	if s.box, err = h.Wrap(ctx, key, secret, ad); err != nil {
		return nil, fmt.Errorf("wrap under %s: %w", key, err)
	}
	if !bytes.Equal(secret, s.secret) || !bytes.Equal(ad, s.ad) {
		return nil, fmt.Errorf("wrap under %s changed what it was given", key)
	}
	if len(s.box) == 0 || bytes.Contains(s.box, s.secret) {
		return nil, fmt.Errorf("wrap under %s did not encrypt", key)
	}
	return s, nil
}

// made makes n keys and wraps a secret under each.
func (h *harness) made(ctx context.Context, n int) (list []*sealed, err error) {
	names, err := h.make(ctx, n)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		s, err := h.seal(ctx, name)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// opens checks that secrets can be unwrapped.
func (h *harness) opens(ctx context.Context, list ...*sealed) error {
	for _, s := range list {
		box := bytes.Clone(s.box)
		got, err := h.Unwrap(ctx, s.key, box, s.ad)
		if err != nil {
			return fmt.Errorf("unwrap under %s: %w", s.key, err)
		}
		if !bytes.Equal(got, s.secret) {
			return fmt.Errorf("unwrap under %s gives another secret", s.key)
		}
		if !bytes.Equal(box, s.box) {
			return fmt.Errorf("unwrap under %s changed what it was given", s.key)
		}
	}
	return nil
}

// refuses checks that something can't be unwrapped, and with which error.
func (h *harness) refuses(ctx context.Context, s *sealed, want error) error {
	got, err := h.Unwrap(ctx, s.key, s.box, s.ad)
	if err == nil {
		return fmt.Errorf("unwrap under %s succeeds, want %v", s.key, want)
	}
	if len(got) > 0 {
		return fmt.Errorf("unwrap under %s fails and returns something", s.key)
	}
	return wants(s, err, want)
}

// wants checks an error: its sentinel, and that it tells no secret.
func wants(s *sealed, err, want error) error {
	for _, sentinel := range []error{keystore.ErrNotFound, keystore.ErrTampered, keystore.ErrUnavailable, keystore.ErrErased} {
		if errors.Is(err, sentinel) != (sentinel == want) {
			return fmt.Errorf("key %s: got the error %v, want one that wraps %v and nothing else", s.key, err, want)
		}
	}
	for _, text := range []string{string(s.secret), hex.EncodeToString(s.secret), base64.StdEncoding.EncodeToString(s.secret), base64.StdEncoding.EncodeToString(s.box), hex.EncodeToString(s.box), string(s.box)} {
		if len(text) >= 16 && strings.Contains(err.Error(), text) { // a shorter one may stand in a name by chance
			return fmt.Errorf("key %s: the error tells what was wrapped", s.key)
		}
	}
	return nil
}

// fate asks for the state of keys, which must all be among those of fates.
func (h *harness) fate(ctx context.Context, names []string, fates ...rootkms.Fate) ([]rootkms.KeyState, error) {
	states, err := h.State(ctx, names)
	if err != nil {
		return nil, fmt.Errorf("state of %q: %w", names, err)
	}
	if len(states) != len(names) {
		return nil, fmt.Errorf("state of %d keys tells of %d", len(names), len(states))
	}
	for i, st := range states {
		if !slices.Contains(fates, st.Fate) {
			var want []string
			for _, f := range fates {
				want = append(want, allFates[f])
			}
			return nil, fmt.Errorf("key %s is %s, want %s", names[i], allFates[st.Fate], strings.Join(want, " or "))
		}
		if (st.Fate == rootkms.Dying) == st.Until.IsZero() {
			return nil, fmt.Errorf("key %s is %s, until %s: a dying key has that time, and no other", names[i], allFates[st.Fate], st.Until)
		}
	}
	return states, nil
}

// dead is what a key is once it is destroyed.
func (h *harness) dead() rootkms.Fate {
	if h.Place().Class == keystore.ClassScheduled {
		return rootkms.Dying
	}
	return rootkms.Gone
}

// destroy destroys keys and checks what became of them.
func (h *harness) destroy(ctx context.Context, list ...*sealed) error {
	var names []string
	for _, s := range list {
		names = append(names, s.key)
	}
	given := slices.Clone(names)
	if err := h.Destroy(ctx, names); err != nil {
		return fmt.Errorf("destroy %q: %w", names, err)
	}
	if !slices.Equal(given, names) {
		return fmt.Errorf("destroy changed what it was given")
	}
	for _, s := range list {
		if err := h.refuses(ctx, s, keystore.ErrNotFound); err != nil {
			return fmt.Errorf("destroyed: %w", err)
		}
		if box, err := h.Wrap(ctx, s.key, s.secret, s.ad); err == nil || len(box) > 0 {
			return fmt.Errorf("destroyed: wrap under %s still succeeds", s.key)
		}
	}
	_, err := h.fate(ctx, names, h.dead())
	return err
}

// first returns the first error of steps.
func first(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
