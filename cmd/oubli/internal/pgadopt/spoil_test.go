package pgadopt_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// A table of fifty people, and what is done to it.
const (
	fiftySQL = `CREATE TABLE t (id bigint PRIMARY KEY, name text, photo bytea);
INSERT INTO t SELECT i, 'Name ' || i, decode(md5(i::text), 'hex') FROM generate_series(1, 50) i`
	fiftyMap = `{tables: {t: {subject: person=id, triggers: [low], personal: [name, photo]}}}`
)

func (w *ddlWorld) config(keys *keystore.Store) pgadopt.Config {
	return pgadopt.Config{DB: w.pool, Keys: keys, Tables: w.tables()}
}

// read returns the rows as PostgreSQL prints them.
func (w *ddlWorld) read() (rows string) {
	w.t.Helper()
	require.NoError(w.t, w.pool.QueryRow(w.t.Context(), `SELECT string_agg(t::text, ' ' ORDER BY id) FROM t`).Scan(&rows))
	return rows
}

// A trigger that somebody accepted and that changes values would spoil envelopes, which
// cannot be mended: nothing is written.
func TestTriggerThatWouldSpoilEnvelopes(t *testing.T) {
	for _, body := range []string{`NEW.name := lower(NEW.name)`, `NEW.name := NULL`, `NEW.photo := '\x00'`, `NEW.name := OLD.name`} {
		w := newDDLWorld(t, pgtest.Shared(t), fiftySQL+`; CREATE FUNCTION low() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN `+body+`; RETURN NEW; END$$;
CREATE TRIGGER low BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION low()`, fiftyMap)
		before := w.read()
		w.widen()
		_, err := pgadopt.Run(t.Context(), w.config(keystoretest.New(t)))
		require.ErrorIs(t, err, keystore.ErrState, body)
		require.ErrorContains(t, err, "a trigger of")
		require.NotContains(t, err.Error(), "ame 1")
		require.Equal(t, before, w.read(), body)
	}
}

// Values of somebody restricted, sealed as text into a bytea, are no plaintext.
func TestUndoOfTextEnvelopesInBytea(t *testing.T) {
	w := newDDLWorld(t, pgtest.Shared(t), fiftySQL, fiftyMap)
	keys, before := keystoretest.New(t), w.read()
	w.widen()
	w.seal(keys)
	w.exec(`UPDATE t SET photo = convert_to('oubli1.' || translate(rtrim(replace(encode(photo, 'base64'), E'\n', ''), '='), '+/', '-_'), 'UTF8')`)
	require.NoError(t, joined(keys.Restrict(t.Context(), &keystore.RestrictOptions{Purposes: []string{"undo"}}, person(t, "7"))))
	report, err := pgadopt.Undo(t.Context(), w.config(keys))
	require.ErrorIs(t, err, keystore.ErrState)
	require.EqualValues(t, 2, report.Tables[0].Withheld)
	_, err = pgadopt.Undo(keystore.WithPurpose(t.Context(), "undo"), w.config(keys))
	require.NoError(t, err)
	require.Equal(t, before, w.read())
}
