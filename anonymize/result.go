package anonymize

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/oubli/oubli/keystore"
)

// Result is what became of one subject. Erased means that its encrypted fields are;
// it does not say that what remains is anonymous.
//
// Its JSON always has the six fields, null or [] where there is nothing.
type Result struct {
	Subject    keystore.Subject `json:"subject"`
	State      string           `json:"state"`       // of keystore.State: erased; restricted if purposes were kept; erasing while it is pending
	FinalAt    *time.Time       `json:"final_at"`    // from when every copy of the keystore is dead, at the earliest; nil if not known yet
	Kept       []string         `json:"kept"`        // purposes whose fields stay
	WaitingFor []string         `json:"waiting_for"` // receivers that this process lacks
	Error      string           `json:"error"`       // the text of Err

	// Err is why the subject is not erased as asked, nil if it is. An erasure that
	// waits wraps [keystore.ErrWaiting]. The text of a [CallbackError] is the
	// application's own.
	Err error `json:"-"`
}

// MarshalJSON writes the six fields.
func (r Result) MarshalJSON() ([]byte, error) {
	type plain Result
	if r.Kept == nil {
		r.Kept = []string{}
	}
	if r.WaitingFor == nil {
		r.WaitingFor = []string{}
	}
	return json.Marshal(plain(r))
}

// failed makes the Result of a subject that is not erased.
func failed(s keystore.Subject, state keystore.State, err error) Result {
	return Result{Subject: s, State: state.String(), Kept: []string{}, WaitingFor: []string{}, Error: err.Error(), Err: err}
}

// waiting makes the Result of an erasure that lacks receivers.
func waiting(s keystore.Subject, missing []string) Result {
	r := failed(s, keystore.StateErasing, &keystore.Error{Op: "anonymize", Subject: s,
		Err:  fmt.Errorf("%w: %s", keystore.ErrWaiting, strings.Join(missing, ", ")),
		Hint: "run a process that has them, or retire those that will never come back"})
	r.WaitingFor = missing
	return r
}

// fromStatus makes the Result of a subject that is not being erased (any more): it is
// as asked if its keys are gone but for what was to be kept. Otherwise somebody cancelled.
func (e *Eraser) fromStatus(ctx context.Context, st keystore.Status, keep []string) Result {
	if st.State != keystore.StateErased && !(st.Kept && subset(st.Purposes, keep)) {
		return failed(st.Subject, st.State, cancelled(st.Subject))
	}
	r := Result{Subject: st.Subject, State: st.State.String(), Kept: []string{}, WaitingFor: []string{}}
	if st.Kept {
		r.Kept = append(r.Kept, st.Purposes...)
	}
	at := st.FinalAt
	if st.Final && at.IsZero() && st.Journal != nil && !st.Journal.Destroyed.IsZero() {
		if info, err := e.keys.Info(ctx); err == nil {
			at = st.Journal.Destroyed.Add(info.Grace) // the past: it is final already
		}
	}
	if !at.IsZero() {
		at = at.UTC()
		r.FinalAt = &at
	}
	return r
}

// BatchError says which subjects of a call are not erased as asked. It unwraps to the
// error of each.
type BatchError struct {
	Of     int // subjects in the call
	Failed []Result

	what string // is the matter with the failed; empty: they are not erased
}

// Error names at most ten of them.
func (b *BatchError) Error() string {
	var s strings.Builder
	what := b.what
	if what == "" {
		what = "are not erased"
	}
	fmt.Fprintf(&s, "anonymize: %d of %d subjects %s", len(b.Failed), b.Of, what)
	for i, r := range b.Failed {
		if i == 10 {
			fmt.Fprintf(&s, "; and %d more", len(b.Failed)-i)
			break
		}
		fmt.Fprintf(&s, "; %s (%s): %v", r.Subject, r.State, r.Err)
	}
	return s.String()
}

// Unwrap returns the error of each subject.
func (b *BatchError) Unwrap() []error {
	errs := make([]error, len(b.Failed))
	for i, r := range b.Failed {
		errs[i] = r.Err
	}
	return errs
}

func batchError(rs []Result) error {
	b := &BatchError{Of: len(rs)}
	for _, r := range rs {
		if r.Err != nil {
			b.Failed = append(b.Failed, r)
		}
	}
	if len(b.Failed) == 0 {
		return nil
	}
	return b
}

// fatal tells that an error is about the keystore or the call, not about one subject.
func fatal(err error) bool {
	if c := (*CallbackError)(nil); errors.As(err, &c) {
		return false
	}
	for _, f := range []error{keystore.ErrUnavailable, keystore.ErrClosed, keystore.ErrReadOnly, keystore.ErrBehind, keystore.ErrMismatch} {
		if errors.Is(err, f) {
			return true
		}
	}
	return false
}
