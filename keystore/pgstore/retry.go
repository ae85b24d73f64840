package pgstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/oubli/oubli/keystore"
)

// defaultRetry is how long after its first attempt an operation is tried again. A failover
// may take longer; then callers are told.
const defaultRetry = 3 * time.Second

// attempt is one try of an operation on a connection. again tells, of its error, whether
// the operation may be repeated as far as its effects are concerned.
type attempt func(ctx context.Context, c *pgconn.PgConn) (again bool, err error)

// try runs f until it succeeds, fails for good, or has been tried for long enough.
func (s *Store) try(ctx context.Context, f attempt) error {
	start := time.Now()
	for n := 0; ; n++ {
		again, err := s.once(ctx, f)
		if err == nil || !again || !passes(err) || ctx.Err() != nil || s.closed.Load() {
			return err
		}
		if moved(err) {
			s.pool.Reset() // the other connections lead to the same server
		}
		wait := rand.N(10 * time.Millisecond << min(n, 5))
		limit := s.retryFor
		if lostRace(err) {
			limit *= 4 // the server is there, and somebody else got on
		}
		if time.Since(start)+wait > limit {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

func (s *Store) once(ctx context.Context, f attempt) (again bool, err error) {
	c, err := s.pool.Acquire(ctx)
	if err != nil {
		return true, err
	}
	defer c.Release()
	return f(ctx, c.Conn().PgConn())
}

// lostRace tells whether the server gave up a transaction for the sake of another.
func lostRace(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01")
}

// passes tells whether an error may be gone at the next attempt.
func passes(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) && !isConnect(err) {
		return false
	}
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg):
		switch pg.Code {
		case "40001", "40P01", "25006", "57P01", "57P02", "57P03", "53300":
			return true
		}
		return strings.HasPrefix(pg.Code, "08") && !strings.Contains(pg.Message, "startup parameter")
	case errors.Is(err, errStandby):
		return true
	case errors.Is(err, keystore.ErrUnavailable), errors.Is(err, keystore.ErrConflict):
		return false
	}
	return true // of the connection
}

// moved tells whether an error says that the server is no longer the one to ask.
func moved(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "25006" || strings.HasPrefix(pg.Code, "57P")
	}
	return errors.Is(err, errStandby)
}

func isConnect(err error) bool {
	var c *pgconn.ConnectError
	return errors.As(err, &c)
}

// undone tells whether it is certain that a transaction of n steps, of which the server
// finished complete before it failed with err, was not applied.
func undone(c *pgconn.PgConn, n, complete int, err error) bool {
	// Not by pgconn.SafeToRetry, which says yes to a connection that is lost in the middle
	// of a batch: reading on, it is found closed, as if nothing had been sent.
	var u *unsent
	if errors.As(err, &u) {
		return true
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	if pg.SeverityUnlocalized == "ERROR" {
		return true // rolled back, whether by a step or by the commit itself
	}
	// A server process that ends says so in place of the next answer. Behind a pooler
	// such an answer may be the pooler's, who does not know.
	return sessionOf(c).direct && complete < n && strings.HasPrefix(pg.Code, "57P")
}
