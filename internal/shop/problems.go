package shop

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/oubli/oubli/keystore"
)

// problem is an error that is the caller's.
type problem struct {
	status int
	text   string
}

func (p *problem) Error() string { return p.text }

func badRequest(text string) error { return &problem{http.StatusBadRequest, text} }

// errWithheld: there is such a customer, and nobody may read them now.
var errWithheld = &problem{http.StatusUnavailableForLegalReasons, "withheld: the customer is restricted or being erased"}

var errNone = &problem{http.StatusNotFound, "there is none"}

// answer finds what an error means to a client. An outage comes first: it must never
// look like somebody who is not there, or was erased.
func answer(err error) *problem {
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	var known *problem
	var connect *pgconn.ConnectError
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &known):
		return known
	case is(keystore.ErrUnavailable, keystore.ErrBehind, keystore.ErrMismatch, keystore.ErrClosed), errors.As(err, &connect),
		errors.As(err, &pg) && strings.HasPrefix(pg.Code, "57P"): // the server is shutting down or starting
		return &problem{http.StatusServiceUnavailable, "try again later"}
	case is(pgx.ErrNoRows): // and not keystore.ErrNotFound, which also says that a keystore is not there
		return errNone
	case is(keystore.ErrErasing, keystore.ErrRestricted):
		return errWithheld
	case is(keystore.ErrErased, keystore.ErrWithdrawn):
		return &problem{http.StatusGone, "erased: nothing personal can be written about this customer"}
	case is(keystore.ErrState):
		return &problem{http.StatusConflict, "another erasure of this customer is under way: ask again when it is done"}
	case is(keystore.ErrHeld):
		return &problem{http.StatusConflict, "a legal hold forbids it"}
	case errors.As(err, &pg) && strings.HasPrefix(pg.Code, "23"): // the constraints of the tables
		return &problem{http.StatusUnprocessableEntity, "the row is not allowed: " + pg.ConstraintName}
	}
	return &problem{http.StatusInternalServerError, "this is our fault"}
}

// handle makes a handler of a function that answers with a value or fails.
func (s *Shop) handle(f func(r *http.Request) (status int, v any, err error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
		status, v, err := f(r)
		if err != nil {
			p := answer(err)
			if p.status >= 500 {
				// Errors name table, field, person and key, and hold no value.
				s.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
			}
			status, v = p.status, map[string]string{"error": p.text}
		}
		w.Header().Set("Content-Type", "application/json")
		if e, ok := v.(Erasure); ok && status == http.StatusAccepted {
			w.Header().Set("Location", erasureURL(e.Customer))
		}
		w.WriteHeader(status)
		if err := json.NewEncoder(w).Encode(v); err != nil {
			s.log.Warn("the answer was not taken", "path", r.URL.Path, "error", err)
		}
	})
}
