package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oubli/oubli/keystore"
)

// storeReport is the keystore as a whole, as "oubli status --json" writes it.
type storeReport struct {
	Keystore  string `json:"keystore"`
	ID        string `json:"id"`
	Epoch     uint64 `json:"epoch"`
	Advancing bool   `json:"advancing"` // an advance has begun and is not finished
	Grace     string `json:"grace"`
	Lease     string `json:"lease"` // how long a process may serve from memory; "" where none shares the keystore
	rootsReport
	Late       string            `json:"late"` // the standbys that older roots wait for, and why
	Overdue    int               `json:"overdue"`
	Unadvanced int               `json:"unadvanced"`       // destroyed, but no advance has taken it in
	Subjects   map[string]int    `json:"subjects"`         // by state
	Erasing    []keystore.Status `json:"erasing"`          // unfinished erasures
	NotFinal   []keystore.Status `json:"not_final"`        // erased, not yet final
	Tables     []tableReport     `json:"tables,omitempty"` // of the data map, with --db
}

// tableReport is how far the adoption of a table has come.
type tableReport struct {
	Table    string     `json:"table"`
	Relation string     `json:"relation"` // in the database
	Phase    string     `json:"phase"`    // "" where no adoption was begun
	Enforced *time.Time `json:"enforced,omitempty"`
	LSN      string     `json:"lsn,omitempty"` // WAL and backups of before may hold plaintext
}

// report tells how far the adoptions of the tables have come.
func (t *tables) report() []tableReport {
	list := []tableReport{}
	for _, table := range t.list {
		r := tableReport{Table: table.Map.Table, Relation: table.Quoted}
		if known := t.records[table.Map.Table]; known != nil {
			r.Phase = string(known.Phase)
			if !known.Enforced.IsZero() {
				r.Enforced, r.LSN = &known.Enforced, known.LSN
			}
		}
		list = append(list, r)
	}
	return list
}

func (t tableReport) words() string {
	switch {
	case t.Phase == "":
		return "not adopted by oubli adopt"
	case t.Enforced != nil:
		words := t.Phase + " at " + when(*t.Enforced)
		if t.LSN != "" {
			words += "; WAL and backups from before position " + t.LSN + " may hold plaintext"
		}
		return words
	}
	return t.Phase
}

// health reports on the keystore without looking at every subject.
func health(ctx context.Context, keys *openKeystore) (*storeReport, keystore.Health, error) {
	info, err1 := keys.Info(ctx)
	h, err2 := keys.Health(ctx)
	if err := errors.Join(err1, err2); err != nil {
		return nil, h, err
	}
	r := &storeReport{Keystore: info.Name, ID: info.ID.String(), Epoch: h.Epoch, Advancing: h.Advancing,
		Grace: info.Grace.String(), Overdue: h.Overdue, Unadvanced: h.Unadvanced,
		rootsReport: reportRoots(keys.at(h.Root), info.Root, info.Grace, h.Roots, h.Unnamed),
		Subjects:    map[string]int{}, Erasing: []keystore.Status{}, NotFinal: []keystore.Status{}}
	r.Moving, r.Away = h.Moving, append(r.Away, h.Away...)
	if info.Lease > 0 {
		r.Lease = info.Lease.String()
	}
	if b, ok := keys.backend.(keystore.Shared); ok {
		r.Late = late(ctx, b)
	}
	return r, h, nil
}

// late says which standbys have not replayed what is committed now, after a moment.
func late(ctx context.Context, b keystore.Shared) string {
	const moment = time.Second
	ctx, cancel := context.WithTimeoutCause(ctx, moment, fmt.Errorf("still so after %v", moment))
	defer cancel()
	if err := b.Replicated(ctx); err != nil {
		return oneLine(err.Error())
	}
	return ""
}

// report reports on all of it.
func report(ctx context.Context, keys *openKeystore) (*storeReport, error) {
	r, h, err := health(ctx, keys)
	if err != nil {
		return nil, err
	}
	for st, err := range keys.All(ctx) {
		if err != nil {
			return nil, err
		}
		r.Subjects[st.State.String()]++
	}
	for st, err := range keys.Pending(ctx) {
		if err != nil {
			return nil, err
		}
		st.History = nil // of single subjects only
		r.Erasing = append(r.Erasing, st)
	}
	var dead []keystore.Subject
	for _, t := range h.NotFinal {
		dead = append(dead, t.Subject)
	}
	if len(dead) > 0 {
		r.NotFinal, err = keys.Status(ctx, unique(dead)...)
		for i := range r.NotFinal {
			r.NotFinal[i].History = nil
		}
	}
	return r, err
}
