package pgstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oubli/oubli/keystore"
)

const connectTimeout = 5 * time.Second

// silence is about how long a server that has gone without a word goes unnoticed.
const silence = 30 * time.Second

// keepAlive asks a connection on which nothing is sent.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: silence / 3, Interval: silence / 6, Count: 4}

func dialer() *net.Dialer { return &net.Dialer{KeepAliveConfig: keepAlive, Control: limitSilence} }

// dial parses dsn. It connects to nothing yet.
func dial(dsn string, o *Options) (*Store, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		// Not the parser's error: it quotes what it did not understand, which may be a
		// part of a password.
		return nil, fmt.Errorf("postgres keystore: %w: the DSN does not parse; it is postgres://user:password@host:port/database, with special characters of the password percent-encoded, or host=… port=… dbname=… user=…", keystore.ErrInvalid)
	}
	config.ConnConfig.DialFunc = dialer().DialContext
	return newStore(config, o)
}

// newStore makes a Store with a pool from config, which it changes.
func newStore(config *pgxpool.Config, o *Options) (*Store, error) {
	o = o.withDefaults()
	if strings.ContainsRune(o.Schema, 0) || len(o.Schema) > 63 {
		return nil, fmt.Errorf("postgres keystore: %w: the name of a schema has at most 63 bytes", keystore.ErrInvalid)
	}
	s := &Store{name: nameOf(&config.ConnConfig.Config, o.Schema), schema: o.Schema,
		standbys: slices.Clone(o.Standbys), readOnly: o.ReadOnly, retryFor: defaultRetry, texts: texts(o.Schema, forShare)}

	config.MaxConns, config.MinConns, config.MinIdleConns = o.MaxConns, 0, 0
	conn := config.ConnConfig
	conn.DefaultQueryExecMode = pgx.QueryExecModeExec // works behind poolers; only seldom used
	if conn.ConnectTimeout == 0 {
		conn.ConnectTimeout = connectTimeout
	}
	if conn.ValidateConnect == nil && len(conn.Fallbacks) > 0 {
		conn.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
	before := conn.OnNotice
	conn.OnNotice = func(c *pgconn.PgConn, n *pgconn.Notice) {
		if session, ok := c.CustomData()[sessionKey].(*session); ok && n.SeverityUnlocalized == "WARNING" {
			session.warning = n.Message
		}
		if before != nil {
			before(c, n)
		}
	}
	after := config.AfterConnect
	config.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		if after != nil {
			if err := after(ctx, c); err != nil {
				return err
			}
		}
		if err := meet(ctx, c.PgConn()); err != nil {
			return err
		}
		s.trace(ctx, c.PgConn())
		return nil
	}
	var err error
	s.pool, err = pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, fmt.Errorf("postgres keystore %s: %w: %s", s.name, keystore.ErrInvalid, err)
	}
	return s, nil
}

// meet finds out whether the connection ends at a server process or at a pooler, which
// tells clients another process id than the server does. Behind a pooler each transaction
// may run in another session, so that nothing can be prepared or set.
func meet(ctx context.Context, c *pgconn.PgConn) error {
	r := c.ExecParams(ctx, "select pg_backend_pid()", nil, nil, nil, binaryFormat).Read()
	if r.Err != nil {
		return r.Err
	}
	if len(r.Rows) != 1 || len(r.Rows[0]) != 1 || len(r.Rows[0][0]) != 4 {
		return errors.New("the server does not tell its process id")
	}
	session := &session{direct: binary.BigEndian.Uint32(r.Rows[0][0]) == c.PID(), prepared: map[string]bool{}}
	c.CustomData()[sessionKey] = session
	if !session.direct {
		return nil
	}
	// One plan for good, whatever the table's size was when it was made.
	return c.Exec(ctx, "set plan_cache_mode = force_generic_plan; set enable_seqscan = off").Close()
}

// nameOf is the URL of the keystore without user and password.
func nameOf(c *pgconn.Config, schema string) string {
	var hosts []string
	add := func(host string, port uint16) {
		at := net.JoinHostPort(host, strconv.Itoa(int(port)))
		if strings.HasPrefix(host, "/") {
			at = net.JoinHostPort(url.PathEscape(host), strconv.Itoa(int(port)))
		}
		if !slices.Contains(hosts, at) { // sslmode=prefer names each host twice
			hosts = append(hosts, at)
		}
	}
	add(c.Host, c.Port)
	for _, f := range c.Fallbacks {
		add(f.Host, f.Port)
	}
	return "postgres://" + strings.Join(hosts, ",") + "/" + url.PathEscape(c.Database) + "?schema=" + url.QueryEscape(schema)
}

// quote makes an identifier of a name.
func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
