package keystore

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// RootStatus is one root that may still live.
type RootStatus struct {
	ID         RootID    `json:"id"`
	Epoch      uint64    `json:"epoch,omitzero"`      // that it was made for, where the root store holds it
	Role       string    `json:"role"`                // current, successor, superseded; dying: superseded, and its destruction has begun
	Superseded time.Time `json:"superseded,omitzero"` // since when
	Dies       time.Time `json:"dies,omitzero"`       // when it is gone at the earliest, with grace and delay
	Overdue    bool      `json:"overdue,omitzero"`    // it should be gone, or dying, and is not
	Lost       string    `json:"lost,omitempty"`      // why its key can't be had; only InspectRoots looks
}

// RootReport is what there is to tell about a keystore's root.
type RootReport struct {
	Store     StoreID       `json:"store"`
	Place     Place         `json:"place"`    // of the root store that was asked
	Recorded  Place         `json:"recorded"` // where the keystore says that its root is
	Grace     time.Duration `json:"grace"`
	Epoch     uint64        `json:"epoch"`
	Advancing bool          `json:"advancing"`         // an advance has begun and is to be finished
	Moving    string        `json:"moving,omitempty"`  // as in Health
	Trusted   bool          `json:"trusted"`           // the record authenticates under its current root
	Roots     []RootStatus  `json:"roots"`             // in the order of the record
	Unnamed   []RootID      `json:"unnamed,omitempty"` // as in Health
	Away      []string      `json:"away,omitempty"`    // parts of the root store that can't be read
}

// InspectRoots tells about a keystore's root, also where the keystore does not open because
// a root is lost. It asks the root store for the key of every living root, one by one, and
// writes nothing. Of the options it takes NextRoots and Clock. It fails where keystore or
// root store can't be read at all, or do not belong together (ErrMismatch).
func InspectRoots(ctx context.Context, b Backend, roots RootStore, o *Options) (RootReport, error) {
	s := newStore(b, roots, o)
	e, check, err := readEpoch(ctx, b)
	if err != nil {
		return RootReport{}, err
	}
	s.configure(e)
	_, _ = s.rootsOf(e) // that the root is elsewhere, the report shows
	place := s.rootStore().Place()
	r := RootReport{Store: e.store, Place: place, Recorded: e.place, Grace: e.grace, Epoch: e.epoch, Advancing: e.intent != nil, Moving: e.other}
	c, err := s.rootStore().Load(ctx)
	if err != nil {
		return r, err
	}
	if c.Store != e.store {
		return r, fmt.Errorf("%w: the root in %s belongs to keystore %s, and %s is keystore %s", ErrMismatch, place.URL, c.Store, b.Name(), e.store)
	}
	r.Away = c.Away
	r.Roots, r.Unnamed = e.rootStatuses(c, place.Delay, s.clock())
	for i := range r.Roots {
		st := &r.Roots[i]
		if st.Role == "dying" {
			continue // nobody is meant to have it
		}
		root, why := s.fetchRoot(ctx, st.ID, c)
		if err := ctx.Err(); err != nil {
			return r, err
		}
		if st.Lost = why; root == nil && why == "" && !e.root(st.ID).superseded() {
			st.Lost = "it is not in " + place.URL
		}
		if root != nil && st.ID == e.current {
			if aead, err := newAEAD(&root.Key); err == nil {
				r.Trusted = check(aead) == nil
			}
		}
	}
	return r, nil
}

// fetchRoot returns a living root with its key, or says why that can't be had.
func (s *Store) fetchRoot(ctx context.Context, id RootID, c RootContents) (root *Root, why string) {
	living := func(r Root) bool { return r.ID == id }
	if d := c.dying(id); d != nil {
		return nil, "it is being destroyed, until " + d.Until.UTC().Format(time.RFC3339)
	}
	if !slices.ContainsFunc(c.Living, living) {
		return nil, ""
	}
	c, err := s.rootStore().Load(ctx, id)
	if err != nil {
		return nil, err.Error()
	}
	if i := slices.IndexFunc(c.Living, living); i >= 0 && c.Living[i].Key != (Secret{}) {
		return &c.Living[i], ""
	}
	return nil, "the root store gave it without its key"
}

// rootStatuses tells what the roots are that may still live, and which ones the record does
// not name.
func (e *epochRecord) rootStatuses(c RootContents, delay time.Duration, now time.Time) (list []RootStatus, unnamed []RootID) {
	dead := e.dead(c)
	for i := range e.roots {
		r := &e.roots[i]
		if slices.Contains(dead, r.id) {
			continue
		}
		st := RootStatus{ID: r.id, Role: "superseded", Superseded: r.since}
		if i := slices.IndexFunc(c.Living, func(l Root) bool { return l.ID == r.id }); i >= 0 {
			st.Epoch = c.Living[i].Epoch
		}
		switch {
		case r.id == e.current:
			st.Role = "current"
		case !r.superseded():
			st.Role = "successor"
		case c.dying(r.id) != nil:
			st.Role, st.Dies = "dying", e.dies(r, c, delay, now)
			st.Overdue = !st.Dies.After(now)
		case slices.Contains(c.Destroyed, r.id): // but the place that the root was moved from may hold it
		default:
			st.Dies = e.dies(r, c, delay, now)
			st.Overdue = e.due(r, now)
		}
		list = append(list, st)
	}
	for _, id := range rootsAt(c) {
		if e.root(id) == nil {
			unnamed = append(unnamed, id)
		}
	}
	return list, unnamed
}
