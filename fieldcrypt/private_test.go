package fieldcrypt_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

func TestPrivateDoesNotPrint(t *testing.T) {
	p := fieldcrypt.NewPrivate("Lovelace")
	type row struct {
		Shown  fieldcrypt.Private[string]
		hidden fieldcrypt.Private[string]
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "p", p, "row", row{p, p})
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "p", p, "ptr", &p, "row", row{p, p})
	text, err := p.MarshalText()
	require.NoError(t, err)
	asJSON, err := json.Marshal(row{p, p})
	require.NoError(t, err)
	for _, s := range []string{
		fmt.Sprint(p), fmt.Sprintf("%v %+v %#v %s %q %x %d", p, p, p, p, p, p, p), fmt.Sprintf("%v %+v %#v", &p, row{p, p}, row{p, p}),
		fmt.Sprintf("%v %#v", []any{p}, map[string]any{"k": &p}), log.String(), string(text), string(asJSON), fmt.Sprint(fmt.Errorf("row %v", p)),
	} {
		require.NotContains(t, s, "Lovelace")
		require.NotContains(t, s, fmt.Sprintf("%x", "Lovelace"))
	}
	require.Equal(t, "[private]", fmt.Sprintf("%#v", p))
}

func TestPrivateIsNotWrittenUnsealed(t *testing.T) {
	ctx := context.Background()
	p := fieldcrypt.NewPrivate("Lovelace")
	_, err := p.Value()
	require.ErrorIs(t, err, keystore.ErrInvalid)
	require.NotContains(t, err.Error(), "Lovelace")

	// Nor what came from a column that holds no envelope.
	require.NoError(t, p.Scan("Lovelace"))
	_, err = p.Value()
	require.Error(t, err)
	b, err := json.Marshal(p)
	require.NoError(t, err)
	require.NotContains(t, string(b), "Lovelace")

	var null fieldcrypt.Private[string]
	v, err := null.Value()
	require.NoError(t, err)
	require.Nil(t, v)
	require.True(t, null.IsNull())
	require.Error(t, p.Scan(3))
	require.NoError(t, p.Scan(nil))
	require.True(t, p.IsNull())

	type row struct {
		ID   int64                      `oubli:",subject=customer"`
		Name fieldcrypt.Private[string] `oubli:"name"`
	}
	c := newCodec[row](t, keystoretest.New(t), "t", nil)
	fresh := fieldcrypt.NewPrivate("Ada")
	sealed := seal(t, c, row{1, fresh})
	again, ok := fresh.Get()
	require.True(t, ok)
	require.Equal(t, "Ada", again, "the caller's Private is untouched")
	v, err = sealed.Name.Value()
	require.NoError(t, err)
	require.Regexp(t, `^oubli1\.`, v)
	_, ok = sealed.Name.Get()
	require.False(t, ok)

	var scanned, decoded row
	require.NoError(t, scanned.Name.Scan([]byte(v.(string))))
	scanned.ID = 1
	require.NoError(t, c.Open(ctx, &scanned))
	name, ok := scanned.Name.Get()
	require.True(t, ok)
	require.Equal(t, "Ada", name)
	require.ErrorIs(t, c.Open(ctx, &scanned), keystore.ErrInvalid, "opened already")

	b, err = json.Marshal(sealed)
	require.NoError(t, err)
	require.Contains(t, string(b), `{"oubli":"oubli1.`)
	require.NoError(t, json.Unmarshal(b, &decoded))
	require.Equal(t, sealed, decoded)
	for _, bad := range []string{`"Ada"`, `{"oubli":"Ada"}`, `{"oubli":"oubli1.x","name":"Ada"}`, `{}`, `3`, `["oubli1.x"]`, `{"oubli":3}`} {
		require.Error(t, json.Unmarshal([]byte(bad), &decoded.Name), bad)
	}
	require.NoError(t, json.Unmarshal([]byte("null"), &decoded.Name))
	require.True(t, decoded.Name.IsNull())
}

// roundTrip seals and opens a value, and opens its encoding through a data map.
func roundTrip[T any](t *testing.T, keys *keystore.Store, value T, encoding string) {
	t.Helper()
	ctx := context.Background()
	type row struct {
		ID   int64                 `oubli:",subject=customer"`
		Name fieldcrypt.Private[T] `oubli:"name"`
	}
	c := newCodec[row](t, keys, "t", nil)
	sealed := seal(t, c, row{1, fieldcrypt.NewPrivate(value)})
	text, err := sealed.Name.Value()
	require.NoError(t, err)
	require.NoError(t, c.Open(ctx, &sealed))
	got, ok := sealed.Name.Get()
	require.True(t, ok)
	if f, isFloat := any(value).(float64); !isFloat || !math.IsNaN(f) {
		require.Equal(t, value, got)
	}

	rows := bound(t, keys, fieldcrypt.Spec{Table: "t", Kind: "customer", SubjectColumn: "id",
		Fields: []fieldcrypt.FieldSpec{{Name: "name"}}}, "id", "name")
	cells := [][]fieldcrypt.Cell{{{Text: "1"}, {Text: text.(string)}}}
	_, err = rows.Open(ctx, cells)
	require.NoError(t, err)
	require.Equal(t, encoding, cells[0][1].Text)
}

type level int8

func TestEncodingsOfValues(t *testing.T) {
	keys := keystoretest.New(t)
	roundTrip(t, keys, "Ada", "Ada")
	roundTrip(t, keys, "", "")
	roundTrip(t, keys, fieldcrypt.Status("x"), "x")
	roundTrip(t, keys, []byte{0xFF, 0}, "\xff\x00")
	roundTrip(t, keys, json.RawMessage(`{"a":1}`), `{"a":1}`)
	roundTrip(t, keys, 42, "42")
	roundTrip(t, keys, int64(math.MinInt64), "-9223372036854775808")
	roundTrip(t, keys, uint64(math.MaxUint64), "18446744073709551615")
	roundTrip(t, keys, level(-5), "-5")
	roundTrip(t, keys, true, "true")
	roundTrip(t, keys, false, "false")
	roundTrip(t, keys, 0.1, "0.1")
	roundTrip(t, keys, 1e21, "1e+21")
	roundTrip(t, keys, float32(0.1), "0.1")
	roundTrip(t, keys, math.NaN(), "NaN")
	roundTrip(t, keys, math.Inf(-1), "-Inf")
	roundTrip(t, keys, birth, "1990-05-17T00:00:00Z")
	roundTrip(t, keys, time.Date(2024, 1, 2, 3, 4, 5, 60, time.UTC), "2024-01-02T03:04:05.00000006Z")
	roundTrip(t, keys, netip.MustParseAddr("192.0.2.1"), "192.0.2.1")
	roundTrip(t, keys, map[string]int{"b": 2, "a": 1}, `{"a":1,"b":2}`)
	roundTrip(t, keys, struct{ A []string }{[]string{"x"}}, `{"A":["x"]}`)
}

func TestTimesOfOtherZonesAndDates(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	type row struct {
		ID   int64                         `oubli:",subject=customer"`
		Born fieldcrypt.Private[time.Time] `oubli:"born"`
	}
	c := newCodec[row](t, keys, "t", nil)
	zone := time.FixedZone("x", 3600)
	opened := seal(t, c, row{1, fieldcrypt.NewPrivate(time.Date(2024, 1, 1, 0, 30, 0, 0, zone))})
	require.NoError(t, c.Open(ctx, &opened))
	got, _ := opened.Born.Get()
	require.Equal(t, time.Date(2023, 12, 31, 23, 30, 0, 0, time.UTC), got)

	_, err := c.Seal(ctx, row{1, fieldcrypt.NewPrivate(time.Date(12024, 1, 1, 0, 0, 0, 0, time.UTC))})
	require.ErrorIs(t, err, keystore.ErrInvalid)
	require.ErrorContains(t, err, "t.born")

	// A date that a data map sealed as it stood in its file.
	rows := bound(t, keys, fieldcrypt.Spec{Table: "t", Kind: "customer", SubjectColumn: "id",
		Fields: []fieldcrypt.FieldSpec{{Name: "born"}}}, "id", "born")
	cells := [][]fieldcrypt.Cell{{{Text: "1"}, {Text: "1990-05-17"}}, {{Text: "1"}, {Text: "in spring"}}}
	require.NoError(t, rows.Seal(ctx, cells))
	var date, words row
	date.ID, words.ID = 1, 1
	require.NoError(t, date.Born.Scan(cells[0][1].Text))
	require.NoError(t, words.Born.Scan(cells[1][1].Text))
	err = c.Open(ctx, &date, &words)
	require.ErrorContains(t, err, "not of the field's type")
	require.NotContains(t, err.Error(), "spring")
	got, _ = date.Born.Get()
	require.Equal(t, birth, got)
}
