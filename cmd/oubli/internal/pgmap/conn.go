package pgmap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oubli/oubli/keystore"
)

// DB runs statements: a *pgxpool.Pool, *pgxpool.Conn, *pgx.Conn or pgx.Tx.
type DB interface {
	Begin(ctx context.Context) (pgx.Tx, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Pool is a pool of connections to the application's database.
type Pool = pgxpool.Pool

// Connect makes a pool for the application's database and asks it for a sign of life. Its
// sessions write dates in ISO form and in UTC, texts in UTF-8 and bytes in hex, whatever
// is usual there. No error repeats the DSN, which may hold
// a password.
func Connect(ctx context.Context, dsn string) (*Pool, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, badDSN()
	}
	conn := config.ConnConfig
	conn.DefaultQueryExecMode = pgx.QueryExecModeExec // works behind poolers
	set := func(name, value string) {
		for given := range conn.RuntimeParams {
			if strings.EqualFold(given, name) {
				delete(conn.RuntimeParams, given)
			}
		}
		conn.RuntimeParams[name] = value
	}
	set("datestyle", "ISO, YMD")
	set("timezone", "UTC")
	set("client_encoding", "UTF8")
	set("standard_conforming_strings", "on")
	if conn.RuntimeParams["application_name"] == "" {
		set("application_name", "oubli")
	}
	if conn.ValidateConnect == nil {
		conn.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
	const hex = "hex"
	pool, output, err := connect(ctx, config)
	if err == nil && output != hex { // poolers do not like to be told, so only where it must be
		pool.Close()
		set("bytea_output", hex)
		pool, _, err = connect(ctx, config)
	}
	return pool, err
}

// Place names the database of a DSN, for people: without password or user.
func Place(dsn string) (string, error) {
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return "", badDSN()
	}
	return fmt.Sprintf("database %s on %s:%d", config.Database, config.Host, config.Port), nil
}

func badDSN() error {
	return fmt.Errorf("database: %w: the DSN does not parse; it is postgres://user:password@host:port/database, with special characters of the password percent-encoded", keystore.ErrInvalid)
}

// connect makes the pool, and tells how its sessions write bytes.
func connect(ctx context.Context, config *pgxpool.Config) (pool *Pool, output string, err error) {
	pool, err = pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, "", fmt.Errorf("database: %w", keystore.ErrInvalid)
	}
	if err := pool.QueryRow(ctx, "SELECT pg_catalog.current_setting('bytea_output')").Scan(&output); err != nil {
		pool.Close()
		return nil, "", Fail("connect to the database", err)
	}
	return pool, output, nil
}

// Fail completes an error of the database: what was done, and what the server says. Of
// the server's words only those are kept that cannot hold a value of a row. What is no
// answer of a server, and a server that is going away, is [keystore.ErrUnavailable].
func Fail(what string, err error) error {
	if err == nil {
		return nil
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return &Error{What: what, Err: pg}
	}
	if known(err) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w: %w", what, keystore.ErrUnavailable, err)
}

// known errors say themselves what they are.
func known(err error) bool {
	for _, k := range []error{
		context.Canceled, context.DeadlineExceeded, pgx.ErrNoRows, pgx.ErrTxClosed,
		keystore.ErrInvalid, keystore.ErrUnavailable, keystore.ErrState, keystore.ErrTampered,
		keystore.ErrUnknownSubject, keystore.ErrUnknownKey, keystore.ErrErased, keystore.ErrConflict,
	} {
		if errors.Is(err, k) {
			return true
		}
	}
	return false
}

// Error is an answer of the server. Its text names objects and no value.
type Error struct {
	What string
	Err  *pgconn.PgError // its Detail, Where and Message may quote a value: do not print them
}

// Code is the SQLSTATE.
func (e *Error) Code() string { return e.Err.Code }

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: ", e.What)
	if message(e.Err) {
		b.WriteString(e.Err.Message)
	} else {
		b.WriteString("the server refused a value")
	}
	for _, part := range []struct{ name, value string }{
		{"table", e.Err.TableName}, {"column", e.Err.ColumnName}, {"constraint", e.Err.ConstraintName}, {"type", e.Err.DataTypeName},
	} {
		if part.value != "" {
			fmt.Fprintf(&b, ", %s %s", part.name, part.value)
		}
	}
	fmt.Fprintf(&b, " (SQLSTATE %s)", e.Err.Code)
	return b.String()
}

// Is tells what kind of failure it is.
func (e *Error) Is(target error) bool {
	switch target {
	case keystore.ErrUnavailable:
		return e.Passing() || strings.HasPrefix(e.Err.Code, "57P") || strings.HasPrefix(e.Err.Code, "08") || strings.HasPrefix(e.Err.Code, "53")
	case keystore.ErrInvalid:
		return strings.HasPrefix(e.Err.Code, "22") || strings.HasPrefix(e.Err.Code, "23") || strings.HasPrefix(e.Err.Code, "42")
	}
	return false
}

// Unwrap gives the server's answer.
func (e *Error) Unwrap() error { return e.Err }

// Passing tells whether the same may go well when it is tried again: a lock or a
// deadlock, a serialization failure.
func (e *Error) Passing() bool {
	switch e.Err.Code {
	case "55P03", "40P01", "40001":
		return true
	}
	return false
}

// message tells whether the server's message speaks of objects alone: data exceptions and
// some others quote what they did not understand, and functions of users say what they
// like, under any code. What goes wrong within one may quote it as well.
func message(e *pgconn.PgError) bool {
	switch {
	case strings.HasPrefix(e.Code, "22"), strings.HasPrefix(e.Code, "P0"), e.Code == "42601":
		return false
	case e.Routine == "exec_stmt_raise":
		return false
	case e.Where != "" && !slices.Contains([]string{"40", "53", "55", "57"}, e.Code[:min(2, len(e.Code))]): // of locks and limits
		return false
	case strings.HasPrefix(e.Code, "23"):
		return e.ConstraintName != "" || e.ColumnName != ""
	}
	return len(e.Code) == 5 && strings.ContainsAny(e.Code[:2], "0123456789F") // a class of PostgreSQL's own
}
