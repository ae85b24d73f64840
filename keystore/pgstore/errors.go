package pgstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/oubli/oubli/keystore"
)

var (
	errStandby = fmt.Errorf("%w: the server is a standby, whose answers may be old", keystore.ErrUnavailable)
	errFsync   = fmt.Errorf("%w: the server runs with fsync=off, and a loss of power would lose keys", keystore.ErrUnavailable)
)

// errLost is what a connection that ended fails with.
var errLost = errors.New("the connection to the server was lost")

// unsent is an error before anything was sent that could have been applied.
type unsent struct{ error }

func (e *unsent) Unwrap() error { return e.error }

// hints tell what to do about an error of the server.
var hints = map[string]string{
	"25006": "the server only reads: it is a standby, or default_transaction_read_only is on; let the DSN lead to the primary",
	"28000": "is the user right, and let in by pg_hba.conf?",
	"28P01": "is the password right?",
	"3D000": "is the database in the DSN right?",
	"3F000": "a keystore is made with oubli init",
	"42P01": "a keystore is made with oubli init",
	"53100": "the server's disk is full; what was committed is safe: make room and try again",
	"53200": "the server is out of memory",
	"53300": "the server has no connection left: raise max_connections, or lower the pools that use it",
	"55P03": "somebody held a record's lock for longer than lock_timeout allows",
	"57014": "the statement was canceled, by statement_timeout if nobody did: raise it for this role",
	"57P03": "the server is starting up or shutting down: try again",
}

// explain turns the error of an operation into one that wraps a sentinel of keystore and
// tells what to do next.
func (s *Store) explain(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("postgres keystore %s: %s: %w", s.name, op, s.cause(err))
}

func (s *Store) cause(err error) error {
	for _, sentinel := range []error{
		keystore.ErrUnavailable, keystore.ErrNotFound, keystore.ErrExists, keystore.ErrConflict,
		keystore.ErrInvalid, keystore.ErrReadOnly, keystore.ErrClosed,
	} {
		if errors.Is(err, sentinel) {
			return err
		}
	}
	if s.closed.Load() {
		return keystore.ErrClosed
	}
	hint := ""
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch hint = hints[pg.Code]; {
		case pg.Code == "42501":
			hint = fmt.Sprintf("grant usage on schema %s, and select, insert, update, delete on its tables, to the role", quote(s.schema))
		case pg.Routine == "mdextend": // a limit on the size of files has no code of its own
			hint = hints["53100"]
		case pg.Code == "08P01" && strings.Contains(pg.Message, "startup parameter"):
			hint = "the pooler does not let this setting of the DSN through: take it out, or name it in ignore_startup_parameters"
		}
	}
	if hint != "" {
		hint = " (" + hint + ")"
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", keystore.ErrUnavailable, err)
	case pg != nil:
		return fmt.Errorf("%w: %w%s", keystore.ErrUnavailable, pg, hint)
	}
	// As text: the driver's errors hold the settings of the connection.
	return fmt.Errorf("%w: %s", keystore.ErrUnavailable, err)
}
