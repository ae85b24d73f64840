package anonymize

import (
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
	if r.FinalAt != nil {
		utc := r.FinalAt.UTC()
		r.FinalAt = &utc
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

// fromErasure makes the Result of a subject whose keys were to be destroyed.
func fromErasure(d keystore.Erasure) Result {
	r := Result{Subject: d.Subject, State: d.State.String(), Kept: append([]string{}, d.Kept...), WaitingFor: []string{}}
	if !d.FinalAt.IsZero() {
		at := d.FinalAt
		r.FinalAt = &at
	}
	switch {
	case d.Err != nil:
		r.Err, r.Error = d.Err, d.Err.Error()
	case len(d.Waiting) > 0:
		return waiting(d.Subject, d.Waiting)
	}
	return r
}

// fromStatus makes the Result of a subject that is not being erased: it is as it
// should be if its keys were destroyed, and otherwise somebody cancelled.
func fromStatus(st keystore.Status) Result {
	if st.Journal == nil || st.Journal.Destroyed.IsZero() {
		return failed(st.Subject, st.State, cancelled(st.Subject))
	}
	d := keystore.Erasure{Subject: st.Subject, State: st.State, Final: st.Final, FinalAt: st.FinalAt}
	switch st.State {
	case keystore.StateErased:
	case keystore.StateRestricted:
		d.Kept = st.Purposes
	default:
		d.Err = cancelled(st.Subject)
	}
	return fromErasure(d)
}

// BatchError says which subjects of a call are not erased as asked. It unwraps to the
// error of each.
type BatchError struct {
	Of     int // subjects in the call
	Failed []Result
}

// Error names at most ten of them.
func (b *BatchError) Error() string {
	var s strings.Builder
	fmt.Fprintf(&s, "anonymize: %d of %d subjects are not erased", len(b.Failed), b.Of)
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
