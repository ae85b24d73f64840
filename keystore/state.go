package keystore

import (
	"context"
	"slices"
	"time"
)

// State is where a data subject stands: unknown → active ⇄ restricted → erasing → erased.
type State uint8

const (
	StateUnknown    State = iota // no key was ever made
	StateActive                  // read and written as usual
	StateRestricted              // only for listed purposes (GDPR art. 18, legal holds, what an erasure keeps)
	StateErasing                 // an erasure is durably requested; only its receivers still read
	StateErased                  // a tombstone for good
)

func (s State) String() string {
	names := [...]string{"unknown", "active", "restricted", "erasing", "erased"}
	if int(s) < len(names) {
		return names[s]
	}
	return "invalid"
}

// MarshalText gives the name, for JSON.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Journal is the durable course of one erasure, in the subject's own record.
type Journal struct {
	Event      EventID   `json:"event"`
	Requested  time.Time `json:"requested"`
	Actor      string    `json:"actor,omitempty"`
	Receivers  []string  `json:"receivers,omitempty"` // mandatory receivers, frozen by the request
	Acked      []string  `json:"acked,omitempty"`     // those that have acknowledged
	Keep       []string  `json:"keep,omitempty"`      // purposes to keep
	Blanking   bool      `json:"blanking,omitempty"`  // the first row may have been blanked: no way back
	Destroyed  time.Time `json:"destroyed,omitzero"`  // when the keys went; zero until then
	Claim      string    `json:"claim,omitempty"`     // the worker that has taken it on
	ClaimUntil time.Time `json:"claim_until,omitzero"`

	before State // what Cancel goes back to
}

// Waiting lists the receivers that have not acknowledged.
func (j *Journal) Waiting() []string {
	var w []string
	for _, r := range j.Receivers {
		if !slices.Contains(j.Acked, r) {
			w = append(w, r)
		}
	}
	return w
}

// KeyInfo describes a data key without its material.
type KeyInfo struct {
	ID      uint32    `json:"id"`
	Purpose string    `json:"purpose"`
	Created time.Time `json:"created"`
	Primary bool      `json:"primary"` // seals; the others only open
}

// Status is one subject's record, for people. It holds no key material.
type Status struct {
	Subject  Subject   `json:"subject"`
	State    State     `json:"state"`
	Purposes []string  `json:"purposes,omitempty"` // restricted: the listed purposes
	Kept     bool      `json:"kept,omitempty"`     // restricted because an erasure kept these purposes
	Hold     string    `json:"hold,omitempty"`     // why destruction is refused
	Keys     []KeyInfo `json:"keys,omitempty"`
	Dropped  []uint32  `json:"dropped,omitempty"` // ids of destroyed keys
	Gone     []string  `json:"gone,omitempty"`    // withdrawn purposes
	Journal  *Journal  `json:"journal,omitempty"` // the erasure under way, or the last
	Final    bool      `json:"final"`             // what was destroyed is out of reach in every keystore copy
	FinalAt  time.Time `json:"final_at,omitzero"` // the earliest time at which it will be; zero: not known, or nothing destroyed
	History  []Change  `json:"history,omitempty"` // what was done and who asked, oldest first; the last 32
}

type ctxKey int

const (
	ctxPurpose ctxKey = iota
	ctxReveal
	ctxActor
)

// WithPurpose names what the caller reads and writes for. Restricted subjects that
// list this purpose open through the returned context; for others nothing changes.
func WithPurpose(ctx context.Context, purpose string) context.Context {
	return context.WithValue(ctx, ctxPurpose, purpose)
}
