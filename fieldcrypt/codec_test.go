package fieldcrypt_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

type customer struct {
	ID        int64                         `oubli:",subject=customer" db:"customer_id"`
	FirstName string                        `oubli:"first_name,replace=Erased"`
	Email     string                        `oubli:"email,replace={id}@anonymized.example"`
	Phone     *string                       `oubli:"phone"`
	Photo     []byte                        `oubli:"photo"`
	BirthDate fieldcrypt.Private[time.Time] `oubli:"birth_date,blank=year"`
	Zip       string                        `oubli:"zip,blank=first:2"`
	Hobby     string                        `oubli:"hobby,purpose=marketing"`
	Privacy   fieldcrypt.Status
	Country   string
}

var birth = time.Date(1990, 5, 17, 0, 0, 0, 0, time.UTC)

func ada(id int64) customer {
	phone := "+44 20 7946 0000"
	return customer{
		ID: id, FirstName: "Ada", Email: "ada@example.com", Phone: &phone, Photo: []byte{1, 2, 3},
		BirthDate: fieldcrypt.NewPrivate(birth), Zip: "12345", Hobby: "engines", Country: "GB",
	}
}

func newCodec[T any](t testing.TB, keys *keystore.Store, table string, o *fieldcrypt.Options) *fieldcrypt.Codec[T] {
	t.Helper()
	c, err := fieldcrypt.NewCodec[T](keys, table, o)
	require.NoError(t, err)
	return c
}

func subject(t testing.TB, id any) keystore.Subject {
	t.Helper()
	s, err := keystore.NewSubject("customer", id)
	require.NoError(t, err)
	return s
}

func seal[T any](t testing.TB, c *fieldcrypt.Codec[T], row T) T {
	t.Helper()
	sealed, err := c.Seal(context.Background(), row)
	require.NoError(t, err)
	return sealed
}

func erase(t testing.TB, keys *keystore.Store, id any, keep ...string) {
	t.Helper()
	results, err := keys.Erase(context.Background(), keystore.Request{Subject: subject(t, id), Keep: keep})
	require.NoError(t, err)
	require.NoError(t, results[0].Err)
}

func TestRoundTrip(t *testing.T) {
	ctx := context.Background()
	c := newCodec[customer](t, keystoretest.New(t), "customers", nil)
	row := ada(42)
	phone := row.Phone
	sealed := seal(t, c, row)

	require.Equal(t, ada(42), row, "the caller's row is untouched")
	require.Equal(t, "+44 20 7946 0000", *phone)
	require.NotSame(t, phone, sealed.Phone)
	for _, text := range []string{sealed.FirstName, sealed.Email, *sealed.Phone, sealed.Zip, sealed.Hobby} {
		require.True(t, strings.HasPrefix(text, "oubli1."))
	}
	require.Len(t, sealed.Photo, 3+fieldcrypt.Overhead)
	require.Equal(t, byte(0xB1), sealed.Photo[0])
	require.Equal(t, "GB", sealed.Country)

	stored := sealed.Phone
	before := *stored
	opened := sealed
	require.NoError(t, c.Open(ctx, &opened))
	require.Equal(t, before, *stored, "what the stored row points to is untouched")
	require.Equal(t, fieldcrypt.StatusOpen, opened.Privacy)
	born, ok := opened.BirthDate.Get()
	require.True(t, ok)
	require.Equal(t, birth, born)
	opened.Privacy = ""
	opened.BirthDate = row.BirthDate
	require.Equal(t, row, opened)
}

func TestEmptyAndNull(t *testing.T) {
	ctx := context.Background()
	c := newCodec[customer](t, keystoretest.New(t), "customers", nil)
	empty := ""
	sealed := seal(t, c, customer{ID: 1, Phone: &empty, Photo: []byte{}})
	require.NotEmpty(t, sealed.FirstName, "an empty string is a fact")
	require.NotEmpty(t, *sealed.Phone)
	require.Len(t, sealed.Photo, fieldcrypt.Overhead)
	require.True(t, sealed.BirthDate.IsNull())
	require.NoError(t, c.Open(ctx, &sealed))
	require.Equal(t, "", sealed.FirstName)
	require.Equal(t, "", *sealed.Phone)

	sealed = seal(t, c, customer{ID: 1})
	require.Nil(t, sealed.Phone)
	require.Nil(t, sealed.Photo)
	sealed.FirstName = ""
	require.NoError(t, c.Open(ctx, &sealed), "an empty stored string is NULL")
	require.Equal(t, "", sealed.FirstName)
}

func TestMovedValuesDoNotOpen(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	c := newCodec[customer](t, keys, "customers", nil)
	other := newCodec[customer](t, keys, "suppliers", nil)
	one, two := seal(t, c, ada(1)), seal(t, c, ada(2))

	flip := func(s string) string {
		b := []byte(s)
		b[len(b)-5] ^= 1
		return string(b)
	}
	tests := map[string]struct {
		codec  *fieldcrypt.Codec[customer]
		change func(*customer)
		want   error
	}{
		"another person":  {c, func(r *customer) { r.Email = two.Email }, keystore.ErrUnknownKey},
		"another column":  {c, func(r *customer) { r.Email = one.FirstName }, keystore.ErrTampered},
		"another table":   {other, func(r *customer) {}, keystore.ErrTampered},
		"cut short":       {c, func(r *customer) { r.Email = r.Email[:40] }, keystore.ErrTampered},
		"altered":         {c, func(r *customer) { r.Email = flip(r.Email) }, keystore.ErrTampered},
		"altered bytes":   {c, func(r *customer) { r.Photo = append([]byte(nil), r.Photo...); r.Photo[20] ^= 1 }, keystore.ErrTampered},
		"plaintext":       {c, func(r *customer) { r.Email = "ada@example.com" }, keystore.ErrTampered},
		"newer version":   {c, func(r *customer) { r.Email = "oubli2." + r.Email[7:] }, fieldcrypt.ErrVersion},
		"forged blank":    {c, func(r *customer) { r.Email = "oubli1~0123456789~mallory" }, keystore.ErrTampered},
		"unknown person":  {c, func(r *customer) { r.ID = 99 }, keystore.ErrUnknownSubject},
		"another purpose": {c, func(r *customer) { r.Email = one.Hobby }, keystore.ErrTampered},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bad, good := one, two
			tt.change(&bad)
			stored := bad
			err := tt.codec.Open(ctx, &bad, &good)
			require.ErrorIs(t, err, tt.want)
			require.Equal(t, stored, bad, "a bad row stays as it was stored")
			var b *fieldcrypt.BatchError
			require.ErrorAs(t, err, &b)
			require.Equal(t, 0, b.Rows[0].Row)
			if tt.codec == c {
				require.Len(t, b.Rows, 1)
				require.Equal(t, "Ada", good.FirstName, "the other row is open")
			}
			require.NotContains(t, err.Error(), "ada@")
			require.NotErrorIs(t, err, keystore.ErrErased)
		})
	}
}

type invoice struct {
	ID       int64  `oubli:"invoice_id,key"`
	Customer int64  `oubli:"customer_id,subject=customer"`
	Address  string `oubli:"billing_address,purpose=tax"`
	Note     string `oubli:"note"`
	Privacy  fieldcrypt.Status
	Total    int
}

func TestRowKeyBindsToTheRow(t *testing.T) {
	ctx := context.Background()
	c := newCodec[invoice](t, keystoretest.New(t), "invoices", nil)
	one := seal(t, c, invoice{ID: 1, Customer: 5, Address: "First Street"})
	two := seal(t, c, invoice{ID: 2, Customer: 5, Address: "Second Street"})
	one.Address = two.Address
	require.ErrorIs(t, c.Open(ctx, &one), keystore.ErrTampered)
	require.NoError(t, c.Open(ctx, &two))
	_, err := c.Seal(ctx, invoice{Customer: 5, Address: "x"})
	require.ErrorIs(t, err, keystore.ErrInvalid, "a row without its key")
}

func TestSealedTwice(t *testing.T) {
	ctx := context.Background()
	c := newCodec[customer](t, keystoretest.New(t), "customers", nil)
	sealed := seal(t, c, ada(1))

	_, err := c.Seal(ctx, sealed)
	require.ErrorIs(t, err, keystore.ErrInvalid)
	require.ErrorContains(t, err, "sealed already")

	bytesOnly := ada(1)
	bytesOnly.Photo = sealed.Photo
	_, err = c.Seal(ctx, bytesOnly)
	require.ErrorContains(t, err, "customers.photo")

	// A Private knows that it is sealed; it is checked and stays as it is.
	row := ada(1)
	row.BirthDate = sealed.BirthDate
	again := seal(t, c, row)
	require.Equal(t, sealed.BirthDate, again.BirthDate)
	row.ID = 2
	seal(t, c, ada(2))
	_, err = c.Seal(ctx, row)
	require.ErrorIs(t, err, keystore.ErrUnknownKey, "another person's")

	// What looks like an envelope and is none is content.
	for _, text := range []string{"oubli1.hello", "oubli1~0123456789~x", "oubli9.x", sealed.Email} {
		row := ada(1)
		row.FirstName = text
		opened := seal(t, c, row)
		require.NotEqual(t, text, opened.FirstName)
		require.NoError(t, c.Open(ctx, &opened))
		require.Equal(t, text, opened.FirstName)
	}
}

func TestSealAll(t *testing.T) {
	ctx := context.Background()
	c := newCodec[customer](t, keystoretest.New(t), "customers", nil)
	rows, err := c.SealAll(ctx, ada(1), ada(2), ada(1))
	require.NoError(t, err)
	require.NoError(t, c.Open(ctx, &rows[0], &rows[1], &rows[2]))
	require.Equal(t, "Ada", rows[2].FirstName)

	rows, err = c.SealAll(ctx, ada(1), ada(0), ada(-7), ada(0))
	require.Nil(t, rows)
	var b *fieldcrypt.BatchError
	require.ErrorAs(t, err, &b)
	require.Len(t, b.Rows, 2)
	require.Equal(t, []int{1, 3}, []int{b.Rows[0].Row, b.Rows[1].Row})
	require.ErrorIs(t, err, keystore.ErrInvalid)

	rows, err = c.SealAll(ctx)
	require.NoError(t, err)
	require.Empty(t, rows)
	require.NoError(t, c.Open(ctx))
}

func TestSealFor(t *testing.T) {
	ctx := context.Background()
	c := newCodec[customer](t, keystoretest.New(t), "customers", nil)
	s := subject(t, 7)
	part, err := c.SealFor(ctx, s, customer{Email: "new@example.com", Country: "FR"})
	require.NoError(t, err)
	require.Empty(t, part.FirstName)
	require.Nil(t, part.Phone)
	require.Equal(t, "FR", part.Country)
	part.ID = 7
	require.NoError(t, c.Open(ctx, &part))
	require.Equal(t, "new@example.com", part.Email)

	_, err = c.SealFor(ctx, s, customer{ID: 8, Email: "x"})
	require.ErrorIs(t, err, keystore.ErrInvalid)
	supplier, err := keystore.NewSubject("supplier", 7)
	require.NoError(t, err)
	_, err = c.SealFor(ctx, supplier, customer{Email: "x"})
	require.ErrorIs(t, err, keystore.ErrInvalid)
}

func TestUnavailableIsNoErasure(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	c := newCodec[customer](t, keys, "customers", nil)
	row := seal(t, c, ada(1))
	stored := row
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	unseen := row
	unseen.ID = 77
	err := c.Open(cancelled, &unseen, &row)
	require.Error(t, err)
	var b *fieldcrypt.BatchError
	require.False(t, errors.As(err, &b), "the call failed, not a row")
	require.NotErrorIs(t, err, keystore.ErrErased)
	require.Equal(t, stored, row)
}

type address struct {
	Street string `oubli:"street"`
	City   string
}

type Contact struct {
	Mail *string `oubli:"mail"`
}

type nested struct {
	ID      [16]byte `oubli:",subject=customer"`
	Home    address
	Contact       // embedded
	Work    *Work // may be nil
	Privacy fieldcrypt.Status
}

type Work struct {
	Phone string                    `oubli:"work_phone"`
	Notes fieldcrypt.Private[[]int] `oubli:"notes"`
}

func TestNestedStructs(t *testing.T) {
	ctx := context.Background()
	c := newCodec[nested](t, keystoretest.New(t), "people", nil)
	names := []string{}
	for _, f := range c.Fields() {
		names = append(names, f.Name)
	}
	require.Equal(t, []string{"street", "mail", "work_phone", "notes"}, names)

	mail := "m@example.com"
	work := Work{Phone: "1", Notes: fieldcrypt.NewPrivate([]int{1, 2})}
	row := nested{ID: [16]byte{1}, Home: address{"Road 1", "Rome"}, Contact: Contact{&mail}, Work: &work}
	sealed := seal(t, c, row)
	require.Equal(t, "1", work.Phone, "the caller's nested struct is untouched")
	require.NotSame(t, &work, sealed.Work)
	require.True(t, strings.HasPrefix(sealed.Work.Phone, "oubli1."))
	storedWork := sealed.Work
	require.NoError(t, c.Open(ctx, &sealed))
	require.True(t, strings.HasPrefix(storedWork.Phone, "oubli1."), "nor is the stored one")
	require.Equal(t, "Road 1", sealed.Home.Street)
	require.Equal(t, mail, *sealed.Mail)
	notes, ok := sealed.Work.Notes.Get()
	require.True(t, ok)
	require.Equal(t, []int{1, 2}, notes)

	row.Work = nil
	sealed = seal(t, c, row)
	require.NoError(t, c.Open(ctx, &sealed))
	require.Nil(t, sealed.Work)
}
