package keystore_test

import (
	"strings"
	"testing"

	"github.com/oubli/oubli/keystore"
	"github.com/stretchr/testify/require"
)

type orderID int32
type code string
type textID struct{ a, b string }

func (t textID) MarshalText() ([]byte, error) { return []byte(t.a + ":" + t.b), nil }

func TestSubjectsHaveOneText(t *testing.T) {
	n := int64(42)
	uuid := [16]byte{0xf8, 0x1d, 0x4f, 0xae, 0x7d, 0xec, 0x11, 0xd0, 0xa7, 0x65, 0x00, 0xa0, 0xc9, 0x1e, 0x6b, 0xf6}
	for _, c := range []struct {
		id   any
		want string
	}{
		{42, "42"}, {int8(-3), "-3"}, {uint64(1) << 63, "9223372036854775808"}, {orderID(7), "7"}, {&n, "42"},
		{"a/b", "a/b"}, {code("x1"), "x1"}, {uuid, "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"}, {"F81D4FAE-7dec-11D0-a765-00a0c91e6bf6", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"}, {"ABCDEFGH-7DEC", "ABCDEFGH-7DEC"}, {textID{"a", "b"}, "a:b"}, {"Жан", "Жан"},
	} {
		s, err := keystore.NewSubject("customer", c.id)
		require.NoError(t, err)
		require.Equal(t, "customer/"+c.want, s.String())
		require.Equal(t, c.want, s.ID())
		require.Equal(t, "customer", s.Kind())
		again, err := keystore.ParseSubject(s.String())
		require.NoError(t, err)
		require.Equal(t, s, again)
	}
}

func TestSubjectsThatAreRefused(t *testing.T) {
	var none *int64
	var noUUID [16]byte
	for _, id := range []any{0, int64(0), "", "0", nil, none, noUUID, "ann@example.org", "a\nb", " a", "\xff", strings.Repeat("x", 256), 1.5, true, []int{1}} {
		_, err := keystore.NewSubject("customer", id)
		require.ErrorIs(t, err, keystore.ErrInvalid, "%T", id)
		require.NotContains(t, err.Error(), "ann@", "an id that may be personal stays out of the error")
	}
	for _, kind := range []string{"", "a/b", "a b", "x\x00", strings.Repeat("k", 64), "\xff", "k@"} {
		_, err := keystore.NewSubject(kind, 1)
		require.ErrorIs(t, err, keystore.ErrInvalid, "%q", kind)
	}
	for _, text := range []string{"", "customer", "customer/", "/1", "customer/0"} {
		_, err := keystore.ParseSubject(text)
		require.ErrorIs(t, err, keystore.ErrInvalid, "%q", text)
	}
	s, err := keystore.NewSubject("customer", "ann@example.org", keystore.AllowAt())
	require.NoError(t, err)
	require.Equal(t, "customer/ann@example.org", s.String())
}

func FuzzParseSubject(f *testing.F) {
	f.Add("customer/42")
	f.Add("a/b/c")
	f.Add("é/\u2028")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := keystore.ParseSubject(text)
		if err != nil {
			require.ErrorIs(t, err, keystore.ErrInvalid)
			return
		}
		require.True(t, strings.EqualFold(text, s.String())) // UUIDs become lower case
		again, err := keystore.ParseSubject(s.String())
		require.NoError(t, err)
		require.Equal(t, s, again)
		require.Equal(t, s.String(), s.Kind()+"/"+s.ID())
	})
}
