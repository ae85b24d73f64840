package kmstest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
)

// Kind is how a [Service] destroys keys.
type Kind int

const (
	// Trimmed has versions of one key and drops the oldest, as Vault's transit engine: a
	// limit is lowered, which can be taken back, and what is below it is trimmed.
	Trimmed Kind = iota
	// Single destroys single keys at once.
	Single
	// Scheduled destroys single keys after a delay, and can be stopped until then.
	Scheduled
)

// Service is a key management service in memory, for tests. Any number of Keys use it. It
// is safe for concurrent use.
type Service struct {
	kind  Kind
	delay time.Duration
	clock func() time.Time

	mu     sync.Mutex
	last   int // versions made so far
	limit  int // Trimmed: the lowest version that may be used
	keys   map[string]*material
	misset string
	calls  map[string]int
	hook   func(call string, do func() error) error
}

// material is a key as the service stores it.
type material struct {
	key     [32]byte
	barred  bool
	destroy time.Time // Scheduled: when it is to go
}

// NewService returns a service without keys. delay is how long one that is [Scheduled]
// takes; clock may be nil.
func NewService(kind Kind, delay time.Duration, clock func() time.Time) *Service {
	if clock == nil {
		clock = time.Now
	}
	if kind != Scheduled {
		delay = 0
	}
	return &Service{kind: kind, delay: delay, clock: clock, limit: 1, keys: map[string]*material{}, calls: map[string]int{},
		hook: func(_ string, do func() error) error { return do() }}
}

// Keys returns a client of the service.
func (s *Service) Keys() rootkms.Keys { return &client{s} }

// Hook has f called with the name of each call of Keys, and what it does. f may do it or
// not, and answers for it: with an error of its own it is an outage. nil: none.
func (s *Service) Hook(f func(call string, do func() error) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hook = f; f == nil {
		s.hook = func(_ string, do func() error) error { return do() }
	}
}

// Calls returns how often each call of Keys was made, by its name, and forgets it.
func (s *Service) Calls() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = map[string]int{}
	return calls
}

// Misconfigure has Check refuse with this reason; "": it no longer does.
func (s *Service) Misconfigure(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.misset = reason
}

// Bar disables a key, as somebody may who runs the service, or enables it again.
func (s *Service) Bar(name string, barred bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.keys[name]; m != nil {
		m.barred = barred
	}
}

// Cancel takes the destruction of keys back that are not gone: of all.
func (s *Service) Cancel() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.purge()
	for _, m := range s.keys {
		m.destroy = time.Time{}
	}
}

// Lose destroys a key for good, as somebody may by mistake.
func (s *Service) Lose(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, name)
}

// Names returns the keys that the service stores, in the order in which they were made.
func (s *Service) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.purge()
	return slices.SortedFunc(maps.Keys(s.keys), func(a, b string) int { return number(a) - number(b) })
}

// Snapshot returns a copy of the service as it is now, such as its operators keep.
func (s *Service) Snapshot() *Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := NewService(s.kind, s.delay, s.clock)
	c.last, c.limit = s.last, s.limit
	for name, m := range s.keys {
		is := *m
		c.keys[name] = &is
	}
	return c
}

// Restore puts a snapshot in the place of what the service stores. Versions that were made
// since are not made again.
func (s *Service) Restore(from *Service) {
	c := from.Snapshot()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys, s.limit, s.last = c.keys, c.limit, max(s.last, c.last)
}

// Plunder is what an attacker does who has everything that the service stores: it opens
// wrapped with any key there is, disabled or below the limit or not, and asks no ad.
func (s *Service) Plunder(wrapped []byte) (secret []byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.purge()
	ad, box, ok := split(wrapped)
	if !ok {
		return nil, false
	}
	for _, m := range s.keys {
		if secret, err := m.open(box, ad); err == nil {
			return secret, true
		}
	}
	return nil, false
}

// purge destroys what is due.
func (s *Service) purge() {
	maps.DeleteFunc(s.keys, func(_ string, m *material) bool {
		return !m.destroy.IsZero() && !m.destroy.After(s.clock())
	})
}

func (m *material) aead() cipher.AEAD {
	block, err := aes.NewCipher(m.key[:])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// What Wrap returns is the length of ad, ad, nonce and ciphertext: ad is no secret, and the
// attacker is to have it.
func (m *material) seal(secret, ad []byte) []byte {
	out := append(binary.AppendUvarint(nil, uint64(len(ad))), ad...)
	nonce := make([]byte, 12)
	rand.Read(nonce)
	return m.aead().Seal(append(out, nonce...), nonce, secret, ad)
}

func (m *material) open(box, ad []byte) ([]byte, error) {
	if len(box) < 12 {
		return nil, keystore.ErrTampered
	}
	return m.aead().Open(nil, box[:12], box[12:], ad)
}

func split(wrapped []byte) (ad, box []byte, ok bool) {
	n, k := binary.Uvarint(wrapped)
	if k <= 0 || n > uint64(len(wrapped)-k) {
		return nil, nil, false
	}
	return wrapped[k : k+int(n)], wrapped[k+int(n):], true
}

func number(name string) int {
	n, _ := strconv.Atoi(name)
	return n
}

// client is the Keys of a Service.
type client struct{ s *Service }

// do makes a call: it counts it, and makes it under the lock, through the hook.
func (c *client) do(ctx context.Context, call string, f func() error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", keystore.ErrUnavailable, context.Cause(ctx))
	}
	c.s.mu.Lock()
	c.s.calls[call]++
	hook := c.s.hook
	c.s.mu.Unlock()
	return hook(call, func() error {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		c.s.purge()
		return f()
	})
}

// usable returns a key that can be used.
func (s *Service) usable(name string) (*material, error) {
	m := s.keys[name]
	if m == nil || m.barred || !m.destroy.IsZero() || s.kind == Trimmed && number(name) < s.limit {
		return nil, fmt.Errorf("key %s: %w", name, keystore.ErrNotFound)
	}
	return m, nil
}

func (c *client) Make(ctx context.Context, _ keystore.StoreID, _ keystore.RootID) (name string, err error) {
	err = c.do(ctx, "Make", func() error {
		name = c.s.make()
		return nil
	})
	return name, err
}

func (s *Service) make() string {
	s.last++
	m := &material{}
	rand.Read(m.key[:])
	name := strconv.Itoa(s.last)
	s.keys[name] = m
	return name
}

func (c *client) Wrap(ctx context.Context, name string, secret, ad []byte) (wrapped []byte, err error) {
	err = c.do(ctx, "Wrap", func() error {
		m, err := c.s.usable(name)
		if err == nil {
			wrapped = m.seal(secret, ad)
		}
		return err
	})
	return wrapped, err
}

func (c *client) Unwrap(ctx context.Context, name string, wrapped, ad []byte) (secret []byte, err error) {
	err = c.do(ctx, "Unwrap", func() error {
		m, err := c.s.usable(name)
		if err != nil {
			return err
		}
		_, box, ok := split(wrapped)
		if ok {
			secret, err = m.open(box, ad)
		}
		if !ok || err != nil {
			return fmt.Errorf("key %s: %w", name, keystore.ErrTampered)
		}
		return nil
	})
	return secret, err
}

func (c *client) Destroy(ctx context.Context, names []string) error {
	return c.do(ctx, "Destroy", func() error {
		for _, name := range names {
			m := c.s.keys[name]
			switch {
			case m == nil:
			case c.s.kind == Single:
				delete(c.s.keys, name)
			case c.s.kind == Scheduled && m.destroy.IsZero():
				m.destroy = c.s.clock().Add(c.s.delay)
			case c.s.kind == Trimmed:
				if number(name) == c.s.last { // the newest can't be dropped
					c.s.make()
				}
				c.s.limit = max(c.s.limit, number(name)+1)
				maps.DeleteFunc(c.s.keys, func(n string, _ *material) bool { return number(n) < c.s.limit })
			}
		}
		return nil
	})
}

func (c *client) State(ctx context.Context, names []string) (states []rootkms.KeyState, err error) {
	err = c.do(ctx, "State", func() error {
		for _, name := range names {
			m := c.s.keys[name]
			switch {
			case m == nil:
				states = append(states, rootkms.KeyState{Fate: rootkms.Gone})
			case !m.destroy.IsZero():
				states = append(states, rootkms.KeyState{Fate: rootkms.Dying, Until: m.destroy})
			case m.barred || c.s.kind == Trimmed && number(name) < c.s.limit:
				states = append(states, rootkms.KeyState{Fate: rootkms.Barred})
			default:
				states = append(states, rootkms.KeyState{Fate: rootkms.Living})
			}
		}
		return nil
	})
	return states, err
}

func (c *client) Before(living, dead []string) (list []string) {
	if c.s.kind != Trimmed {
		return nil
	}
	newest := 0
	for _, name := range dead {
		newest = max(newest, number(name))
	}
	for _, name := range living {
		if number(name) <= newest {
			list = append(list, name)
		}
	}
	return list
}

func (c *client) Undo(ctx context.Context, names []string) error {
	return c.do(ctx, "Undo", func() error {
		switch c.s.kind {
		case Trimmed:
			oldest := c.s.last
			for name := range c.s.keys {
				oldest = min(oldest, number(name))
			}
			c.s.limit = oldest
		case Scheduled:
			for _, name := range names {
				if m := c.s.keys[name]; m != nil {
					m.destroy = time.Time{}
				}
			}
		}
		for _, name := range names {
			if c.s.keys[name] == nil {
				return fmt.Errorf("key %s: %w", name, keystore.ErrNotFound)
			}
		}
		return nil
	})
}

func (c *client) Check(ctx context.Context) error {
	return c.do(ctx, "Check", func() error {
		if c.s.misset != "" {
			return fmt.Errorf("%w: %s", keystore.ErrMismatch, c.s.misset)
		}
		return nil
	})
}

func (c *client) Place() keystore.Place {
	p := keystore.Place{URL: "fake:", Class: keystore.ClassEffaceable, Delay: c.s.delay}
	switch c.s.kind {
	case Trimmed:
		p.Versions = p.URL
	case Scheduled:
		p.Class = keystore.ClassScheduled
	}
	return p
}
