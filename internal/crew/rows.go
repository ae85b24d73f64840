//go:build linux

package crew

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// person is the kind of all subjects.
const person = "person"

// CreateTable makes the application's table.
const CreateTable = `
create table notes (row bigint primary key, subject bigint not null, version bigint not null,
	text text not null, tax text not null, raw bytea not null);
create index on notes (subject)`

// note is a row of the application.
type note struct {
	Row     int64  `oubli:",key"`
	Subject int64  `oubli:",subject=person"`
	Version int64  // of this row's content
	Text    string `oubli:"text,replace=Erased"`
	Tax     string `oubli:"tax,purpose=tax,replace=Erased"`
	Privacy fieldcrypt.Status

	// The text once more, under the subject's key itself, for those who look keys up.
	Raw []byte
}

// wants are what a version of a row holds.
func wants(row, version int64) (text, tax string) {
	r := rand.New(rand.NewPCG(uint64(row), uint64(version)))
	filler := make([]byte, r.IntN(120))
	for i := range filler {
		filler[i] = byte(r.Uint32())
	}
	text = fmt.Sprintf("row %d version %d %s", row, version, base64.RawStdEncoding.EncodeToString(filler))
	return text, fmt.Sprintf("tax of row %d version %d", row, version)
}

// Subject is the subject of a number.
func Subject(id int64) keystore.Subject {
	s, err := keystore.NewSubject(person, id)
	if err != nil {
		panic(err)
	}
	return s
}

const rawHead = 4 + 12 // key id, nonce

// sealRaw seals text with the primary key.
func sealRaw(k keystore.Keys, row int64, text string) ([]byte, error) {
	id, key, err := k.Primary("")
	if err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint32(nil, id)
	b = binary.LittleEndian.AppendUint64(b, rand.Uint64())
	b = binary.LittleEndian.AppendUint32(b, rand.Uint32())
	return key.Seal(b, b[4:rawHead], []byte(text), rawBinding(row)), nil
}

// errDamaged: what a key sealed does not open with it.
var errDamaged = errors.New("the ciphertext does not authenticate")

// openRaw opens what sealRaw sealed. It is nothing until keys were found fresh.
func openRaw(k keystore.Keys, row int64, raw []byte) (string, error) {
	_, key, err := k.Key(binary.BigEndian.Uint32(raw))
	if err != nil {
		return "", err
	}
	plain, err := key.Open(nil, raw[4:rawHead], raw[rawHead:], rawBinding(row))
	if err != nil {
		return "", errDamaged
	}
	return string(plain), nil
}

func rawBinding(row int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(row)) }

// table is the application's table, as it is stored.
type table struct{ pool *pgxpool.Pool }

const noteColumns = "row, subject, version, text, tax, raw"

func (t table) of(ctx context.Context, subjects ...int64) ([]note, error) {
	rows, err := t.pool.Query(ctx, "select "+noteColumns+" from notes where subject = any($1)", subjects)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanNote)
}

func (t table) all(ctx context.Context) ([]note, error) {
	rows, err := t.pool.Query(ctx, "select "+noteColumns+" from notes order by row")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanNote)
}

func scanNote(r pgx.CollectableRow) (n note, err error) {
	err = r.Scan(&n.Row, &n.Subject, &n.Version, &n.Text, &n.Tax, &n.Raw)
	return n, err
}

func (t table) put(ctx context.Context, n note) error {
	_, err := t.pool.Exec(ctx, `
insert into notes (`+noteColumns+`) values ($1, $2, $3, $4, $5, $6)
on conflict (row) do update set version = excluded.version, text = excluded.text, tax = excluded.tax, raw = excluded.raw`,
		n.Row, n.Subject, n.Version, n.Text, n.Tax, n.Raw)
	return err
}
