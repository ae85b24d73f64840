package pgrows_test

import (
	"context"
	"database/sql"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// note has a Private in a column of each type, and the fields that hold an envelope in
// place, as somebody has them who writes the statements by hand.
type note struct {
	ID      int64                         `oubli:",subject=person"`
	InText  fieldcrypt.Private[string]    `oubli:"in_text"`
	InBytea fieldcrypt.Private[time.Time] `oubli:"in_bytea"`
	Null    fieldcrypt.Private[int]       `oubli:"nil"`
	Word    string                        `oubli:"word"`
	Pointer *string                       `oubli:"pointer"`
	Binary  []byte                        `oubli:"binary"`
	Privacy fieldcrypt.Status             `db:"-"`
}

const (
	notes      = "CREATE TABLE notes (id bigint PRIMARY KEY, in_text text, in_bytea bytea, \"null\" text, word text, pointer text, \"binary\" bytea)"
	insertNote = "INSERT INTO notes VALUES ($1, $2, $3, $4, $5, $6, $7)"
	selectNote = "SELECT * FROM notes WHERE id = $1"
)

func aNote() note {
	word := "fourth"
	return note{ID: 1, InText: fieldcrypt.NewPrivate("first"), InBytea: fieldcrypt.NewPrivate(time.Date(1815, 12, 10, 0, 0, 0, 0, time.UTC)),
		Word: "third", Pointer: &word, Binary: []byte("\x00fifth")}
}

func requireNote(t testing.TB, codec *fieldcrypt.Codec[note], n note) {
	t.Helper()
	_, readable := n.InText.Get()
	require.False(t, readable, "as it comes from the database")
	require.True(t, n.Null.IsNull())
	require.NoError(t, codec.Open(within(t), &n))
	want := aNote()
	text, _ := n.InText.Get()
	require.Equal(t, "first", text)
	born, _ := n.InBytea.Get()
	require.Equal(t, 1815, born.Year())
	require.Equal(t, []any{want.Word, want.Pointer, want.Binary}, []any{n.Word, n.Pointer, n.Binary})
}

func noteCodec(t testing.TB) *fieldcrypt.Codec[note] {
	codec, err := fieldcrypt.NewCodec[note](keystoretest.New(t), "notes", nil)
	require.NoError(t, err)
	return codec
}

func TestPrivateThroughPgx(t *testing.T) {
	codec := noteCodec(t)
	sealed, err := codec.Seal(within(t), aNote())
	require.NoError(t, err)
	for name, m := range modes {
		t.Run(name, func(t *testing.T) {
			ctx := within(t)
			pool := connect(t, newWorld(t).dsn, mode(m))
			_, err := pool.Exec(ctx, notes)
			require.NoError(t, err)
			for range 2 { // the second time the statement is cached
				_, err = pool.Exec(ctx, insertNote, sealed.ID, sealed.InText, sealed.InBytea, sealed.Null, sealed.Word, sealed.Pointer, sealed.Binary)
				require.NoError(t, err)
				rows, err := pool.Query(ctx, selectNote, 1)
				require.NoError(t, err)
				n, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[note])
				require.NoError(t, err)
				requireNote(t, codec, n)
				_, err = pool.Exec(ctx, "DELETE FROM notes")
				require.NoError(t, err)
			}
		})
	}
}

func TestPrivateThroughDatabaseSQL(t *testing.T) {
	codec := noteCodec(t)
	sealed, err := codec.Seal(within(t), aNote())
	require.NoError(t, err)
	for name := range modes {
		t.Run(name, func(t *testing.T) {
			ctx := within(t)
			db, err := sql.Open("pgx", newWorld(t).dsn+"&default_query_exec_mode="+name)
			require.NoError(t, err)
			defer db.Close()
			_, err = db.ExecContext(ctx, notes)
			require.NoError(t, err)
			_, err = db.ExecContext(ctx, insertNote, sealed.ID, sealed.InText, sealed.InBytea, sealed.Null, sealed.Word, sealed.Pointer, sealed.Binary)
			require.NoError(t, err)
			var n note
			require.NoError(t, db.QueryRowContext(ctx, selectNote, 1).Scan(&n.ID, &n.InText, &n.InBytea, &n.Null, &n.Word, &n.Pointer, &n.Binary))
			requireNote(t, codec, n)

			_, err = db.ExecContext(ctx, insertNote, 2, fieldcrypt.NewPrivate("Lovelace"), nil, nil, nil, nil, nil)
			require.ErrorIs(t, err, keystore.ErrInvalid)
			require.NotContains(t, err.Error(), "Lovelace")
		})
	}
}

// tap records what a connection sends.
type tap struct {
	mu   sync.Mutex
	sent []byte
}

func (w *tap) drain() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.sent
	w.sent = nil
	return b
}

type tappedConn struct {
	net.Conn
	tap *tap
}

func (c tappedConn) Write(b []byte) (int, error) {
	c.tap.mu.Lock()
	c.tap.sent = append(c.tap.sent, b...)
	c.tap.mu.Unlock()
	return c.Conn.Write(b)
}

func TestUnsealedNeverReachesTheWire(t *testing.T) {
	codec, secret := noteCodec(t), fieldcrypt.NewPrivate("Lovelace")
	dsn := newWorld(t).dsn
	for name, m := range modes {
		t.Run(name, func(t *testing.T) {
			ctx := within(t)
			wire := &tap{}
			cfg, err := pgx.ParseConfig(dsn)
			require.NoError(t, err)
			cfg.DefaultQueryExecMode = m
			cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
				return tappedConn{c, wire}, err
			}
			conn, err := pgx.ConnectConfig(ctx, cfg)
			require.NoError(t, err)
			defer conn.Close(ctx)
			_, err = conn.Exec(ctx, "DROP TABLE IF EXISTS notes")
			require.NoError(t, err)
			_, err = conn.Exec(ctx, notes)
			require.NoError(t, err)

			for _, column := range []string{"in_text", "in_bytea"} {
				into := "INSERT INTO notes (id, " + column + ") VALUES ($1, $2)"
				wire.drain()
				_, err = conn.Exec(ctx, into, 1, secret)
				require.ErrorIs(t, err, keystore.ErrInvalid)
				require.ErrorContains(t, err, "seal the row first")
				require.NotContains(t, err.Error(), "Lovelace")
				sent := wire.drain() // at most the statement itself, to have it described
				require.NotContains(t, string(sent), "Lovelace")
				if m == pgx.QueryExecModeExec || m == pgx.QueryExecModeSimpleProtocol {
					require.Empty(t, sent)
				}

				sealed, err := codec.Seal(ctx, aNote())
				require.NoError(t, err)
				_, err = conn.Exec(ctx, into, 1, sealed.InText)
				require.NoError(t, err)
				require.NotEmpty(t, wire.drain(), "the tap hears")
				_, err = conn.Exec(ctx, into, 2, secret)
				require.ErrorIs(t, err, keystore.ErrInvalid)
				if m != pgx.QueryExecModeDescribeExec { // which asks for the parameters' types each time
					require.Empty(t, wire.drain(), "nothing is sent once the statement is known")
				}
				var n int
				require.NoError(t, conn.QueryRow(ctx, "SELECT count(*) FROM notes").Scan(&n))
				require.Equal(t, 1, n)
				_, err = conn.Exec(ctx, "DELETE FROM notes")
				require.NoError(t, err)
			}
		})
	}
}
