package kmstest

import (
	"testing"
	"time"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
	"github.com/oubli/oubli/keystore/rootkms"
)

// Trial calls a driver for a driver's own tests, and ends the test where a call fails that
// must not.
type Trial struct {
	t    testing.TB
	keys rootkms.Keys
}

// Try returns a Trial of keys.
func Try(t testing.TB, keys rootkms.Keys) *Trial { return &Trial{t, keys} }

var trialSecret, trialData = []byte("the root"), []byte("ad")

// Made makes a key and returns its name.
func (d *Trial) Made() string {
	d.t.Helper()
	name, err := d.keys.Make(d.t.Context(), keystore.StoreID{1}, keystore.RootID{2})
	must(d.t, err)
	return name
}

// Wrapped wraps the words "the root", always the same, by a key.
func (d *Trial) Wrapped(name string) []byte {
	d.t.Helper()
	wrapped, err := d.keys.Wrap(d.t.Context(), name, trialSecret, trialData)
	must(d.t, err)
	return wrapped
}

// Unwrap returns the driver's error, if it has one. Anything but what was wrapped ends the test.
func (d *Trial) Unwrap(name string, wrapped []byte) error {
	d.t.Helper()
	secret, err := d.keys.Unwrap(d.t.Context(), name, wrapped, trialData)
	if err == nil && string(secret) != string(trialSecret) {
		d.t.Fatalf("key %s unwraps something else than was wrapped", name)
	}
	return err
}

// Destroyed destroys keys.
func (d *Trial) Destroyed(names ...string) {
	d.t.Helper()
	must(d.t, d.keys.Destroy(d.t.Context(), names))
}

// Fate tells what has become of a key.
func (d *Trial) Fate(name string) rootkms.KeyState {
	d.t.Helper()
	states, err := d.keys.State(d.t.Context(), []string{name})
	must(d.t, err)
	if len(states) != 1 {
		d.t.Fatalf("got the states of %d keys, asked for 1", len(states))
	}
	return states[0]
}

// Life is a keystore in memory whose roots a service wraps. Its people are customers.
type Life struct {
	Roots   *rootkms.Store
	Backend keystore.Backend
	Store   *keystore.Store // of the process that started last

	t     testing.TB
	clock func() time.Time
}

// Begin makes a keystore and opens it.
func Begin(t testing.TB, keys rootkms.Keys, clock func() time.Time, grace time.Duration) *Life {
	t.Helper()
	l := &Life{Backend: memstore.New(), t: t, clock: clock}
	l.Roots = rootkms.New(keys, rootkms.BackendShelf(memstore.New()), &rootkms.Options{Clock: clock})
	must(t, keystore.Create(t.Context(), l.Backend, l.Roots, &keystore.CreateOptions{Grace: grace, Shards: 16}))
	l.open()
	return l
}

func (l *Life) open() {
	l.t.Helper()
	var err error
	l.Store, err = keystore.Open(l.t.Context(), l.Backend, l.Roots, &keystore.Options{Clock: l.clock})
	must(l.t, err)
}

// Customer returns the subject of that id.
func (l *Life) Customer(id string) keystore.Subject {
	l.t.Helper()
	sub, err := keystore.NewSubject("customer", id)
	must(l.t, err)
	return sub
}

// Ensure makes keys for customers.
func (l *Life) Ensure(ids ...string) error {
	l.t.Helper()
	subs := make([]keystore.Subject, len(ids))
	for i, id := range ids {
		subs[i] = l.Customer(id)
	}
	_, err := l.Store.Ensure(l.t.Context(), nil, []string{""}, subs...)
	return err
}

// Erase erases a customer.
func (l *Life) Erase(id string) keystore.Erasure {
	l.t.Helper()
	list, err := l.Store.Erase(l.t.Context(), keystore.Request{Subject: l.Customer(id)})
	must(l.t, err)
	must(l.t, list[0].Err)
	return list[0]
}

// Opens tells whether a customer's keys can be had by a process that starts now.
func (l *Life) Opens(id string) error {
	l.t.Helper()
	l.open()
	keys, err := l.Store.Lookup(l.t.Context(), nil, l.Customer(id))
	must(l.t, err)
	return keys[0].Err()
}

// Status tells about a customer.
func (l *Life) Status(id string) keystore.Status {
	l.t.Helper()
	list, err := l.Store.Status(l.t.Context(), l.Customer(id))
	must(l.t, err)
	return list[0]
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
