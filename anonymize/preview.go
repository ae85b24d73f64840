package anonymize

import (
	"context"
	"slices"
	"time"

	"github.com/oubli/oubli/keystore"
)

// Plan is what an erasure would do now.
type Plan struct {
	Subject   keystore.Subject `json:"subject"`
	State     string           `json:"state"`     // now
	Tables    []TablePlan      `json:"tables"`    // registered tables of the subject's kind
	Receivers []string         `json:"receivers"` // that would be called, in this order
	Missing   []string         `json:"missing"`   // recorded receivers that this process lacks: it would wait
	Kept      []string         `json:"kept"`      // purposes whose fields would stay
	Hold      string           `json:"hold"`      // reason of a hold that forbids it, empty if none
	FinalAt   *time.Time       `json:"final_at"`  // from when every copy of the keystore would be dead; nil if it would not happen
	Refused   string           `json:"refused"`   // why it would not happen, empty if it would
}

// TablePlan is what an erasure would do to the subject's rows in one table.
type TablePlan struct {
	Table  string   `json:"table"`
	Rows   int      `json:"rows"`
	Fields []string `json:"fields"` // to be blanked, where they hold something
	Kept   []string `json:"kept"`   // fields of a kept purpose
}

// Preview tells what Anonymize would do, and changes nothing.
func (e *Eraser) Preview(ctx context.Context, s keystore.Subject) (*Plan, error) {
	return e.PreviewWith(ctx, nil, s)
}

// PreviewWith is Preview of AnonymizeWith. r may be nil.
func (e *Eraser) PreviewWith(ctx context.Context, r *Request, s keystore.Subject) (*Plan, error) {
	if err := e.Check(); err != nil {
		return nil, err
	}
	if r == nil {
		r = &Request{}
	}
	if s.IsZero() {
		return nil, invalid("the subject is the zero Subject")
	}
	if err := e.checkKeep(ctx, r.Keep, []keystore.Subject{s}); err != nil {
		return nil, err
	}
	st, err := e.status(ctx, s)
	if err != nil {
		return nil, err
	}
	keep := r.Keep
	if st.State == keystore.StateErasing && st.Journal != nil {
		keep = st.Journal.Keep // what was requested first
	}
	p := &Plan{Subject: s, State: st.State.String(), Hold: st.Hold, Tables: []TablePlan{}, Receivers: []string{},
		Missing: []string{}, Kept: append([]string{}, keep...)}
	if err := e.planReceivers(ctx, p, st); err != nil {
		return nil, err
	}
	for _, t := range e.tablesOf(s.Kind()) {
		rows, err := t.counts(ctx, s)
		if err != nil {
			return nil, err
		}
		for _, info := range ofKind(t, s.Kind()) {
			tp := planTable(info, st, keep)
			tp.Rows = rows[info.Name]
			p.Tables = append(p.Tables, tp)
		}
	}
	switch {
	case st.State == keystore.StateErased:
		p.Receivers, p.Missing = []string{}, []string{}
		if !st.FinalAt.IsZero() {
			p.FinalAt = &st.FinalAt
		}
	case st.Hold != "":
		p.Refused = keystore.ErrHeld.Error()
	case st.State == keystore.StateUnknown && !r.Unknown:
		p.Refused = keystore.ErrUnknownSubject.Error()
	default:
		info, err := e.keys.Info(ctx)
		if err != nil {
			return nil, err
		}
		at := time.Now().Add(info.Grace).UTC().Truncate(time.Second)
		p.FinalAt = &at
	}
	return p, nil
}

// planReceivers finds out who would be called and who is missing.
func (e *Eraser) planReceivers(ctx context.Context, p *Plan, st keystore.Status) error {
	needed, err := e.keys.Receivers(ctx, p.Subject.Kind())
	if err != nil {
		return err
	}
	var acked []string
	if st.State == keystore.StateErasing && st.Journal != nil {
		needed, acked = st.Journal.Waiting(), st.Journal.Acked
	}
	mine := e.connected(p.Subject.Kind())
	for _, name := range mine {
		if !slices.Contains(acked, name) {
			p.Receivers = append(p.Receivers, name)
		}
	}
	for _, name := range needed {
		if !slices.Contains(mine, name) {
			p.Missing = append(p.Missing, name)
		}
	}
	return nil
}

// planTable sorts the fields of a table into those that would be blanked and the kept.
func planTable(t TableInfo, st keystore.Status, keep []string) TablePlan {
	tp := TablePlan{Table: t.Name, Fields: []string{}, Kept: []string{}}
	for _, f := range t.Fields {
		switch {
		case f.Purpose != "" && slices.Contains(keep, f.Purpose):
			tp.Kept = append(tp.Kept, f.Name)
		case st.State != keystore.StateErased && !slices.Contains(st.Gone, f.Purpose):
			tp.Fields = append(tp.Fields, f.Name)
		}
	}
	return tp
}
