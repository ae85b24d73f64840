package pgrows

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/oubli/oubli/fieldcrypt"
)

// Error is a statement that failed. Its text holds no value: neither what PostgreSQL
// quotes, nor the detail with the values of a key, which the *pgconn.PgError behind it
// still has. Mind that before logging that one's fields.
type Error struct {
	Op    string // get, list, find, create, update, delete, save, rows of
	Table string // physical name, quoted
	Err   error  // the cause: a *pgconn.PgError, or what pgx, the network or package keystore says
}

func (e *Error) Error() string {
	text := quiet(e.Err)
	if h := hint(e.Err); h != "" {
		text += " (" + h + ")"
	}
	return e.Op + " " + e.Table + ": " + text
}

func (e *Error) Unwrap() error { return e.Err }

// errNoRow is not keystore.ErrNotFound, which says that there is no keystore: whoever
// answers 404 to that would call an outage a person who is not there.
var errNoRow = fmt.Errorf("there is no such row: %w", pgx.ErrNoRows)

// quiet is what an error says without the values that PostgreSQL and pgx quote.
func quiet(err error) string {
	text := err.Error()
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
		text = pg.Message
		if strings.HasPrefix(pg.Code, "22") { // data exceptions: invalid input for type x: "…"
			text, _, _ = strings.Cut(text, `: "`)
		}
		return fmt.Sprintf("%s: %s (SQLSTATE %s)", pg.Severity, text, pg.Code)
	}
	if before, _, found := strings.Cut(text, "unable to encode "); found {
		return before + "the value does not fit the column's type"
	}
	return text
}

// hint says what to do about some errors of PostgreSQL, which themselves cannot know.
func hint(err error) string {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return ""
	}
	switch pg.Code {
	case "22001":
		return "a sealed value is longer than its plaintext: make personal columns text or bytea"
	case "26000", "42P05":
		return "behind a pooler in transaction mode set pgx's default_query_exec_mode to exec"
	case "42501":
		if strings.Contains(pg.Message, "sequence") {
			return "ids are drawn before a row is sealed: grant USAGE on the sequence"
		}
	}
	return ""
}

// outdated tells whether a statement failed because the table is no longer as it was.
func outdated(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "42703" || pg.Code == "42P01" || pg.Code == "0A000")
}

// replanned tells whether the server refused a prepared statement because its columns are of
// another type now.
func replanned(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "0A000" && pg.Routine == "RevalidateCachedQuery"
}

// one gives the error of the only row in place of that of a batch.
func one(err error) error {
	if b := (*fieldcrypt.BatchError)(nil); errors.As(err, &b) && len(b.Rows) == 1 {
		return b.Rows[0]
	}
	return err
}
