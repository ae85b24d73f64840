package fieldcrypt_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// erasing leaves a subject waiting for a receiver that nobody connects.
func erasing(t testing.TB, keys *keystore.Store, id any) {
	t.Helper()
	ctx := context.Background()
	require.NoError(t, keys.RecordReceivers(ctx, "customer", "crm"))
	errs, err := keys.RequestErasure(ctx, keystore.Request{Subject: subject(t, id)})
	require.NoError(t, err)
	require.NoError(t, errs[0])
}

func TestReadingNeverFailsForOnePerson(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	c := newCodec[customer](t, keys, "customers", nil)
	rows, err := c.SealAll(ctx, ada(1), ada(2), ada(3), ada(4))
	require.NoError(t, err)
	erase(t, keys, 1)
	erasing(t, keys, 2)
	require.NoError(t, joined(keys.Restrict(ctx, &keystore.RestrictOptions{Purposes: []string{"care"}}, subject(t, 3))))

	open := append([]customer(nil), rows...)
	require.NoError(t, c.Open(ctx, &open[0], &open[1], &open[2], &open[3]))

	require.Equal(t, fieldcrypt.StatusErased, open[0].Privacy)
	require.Equal(t, "Erased", open[0].FirstName)
	require.Equal(t, "1@anonymized.example", open[0].Email)
	require.Equal(t, "", open[0].Zip)
	require.Nil(t, open[0].Phone)
	require.Nil(t, open[0].Photo)
	_, ok := open[0].BirthDate.Get()
	require.False(t, ok)
	require.Equal(t, fieldcrypt.StatusErased, open[0].BirthDate.Status())

	for _, row := range open[1:3] {
		require.Equal(t, fieldcrypt.StatusWithheld, row.Privacy)
		require.Equal(t, "", row.FirstName)
		require.Nil(t, row.Phone)
		require.Nil(t, row.Photo)
		require.Equal(t, fieldcrypt.StatusWithheld, row.BirthDate.Status())
	}
	require.Equal(t, fieldcrypt.StatusOpen, open[3].Privacy)
	require.Equal(t, "GB", open[0].Country)

	listed := rows[2]
	require.NoError(t, c.Open(keystore.WithPurpose(ctx, "care"), &listed))
	require.Equal(t, "Ada", listed.FirstName)

	reveal, end, err := keys.Reveal(ctx, subject(t, 2))
	require.NoError(t, err)
	revealed := rows[1]
	require.NoError(t, c.Open(reveal, &revealed))
	require.Equal(t, "Ada", revealed.FirstName)
	end()
	revealed = rows[1]
	require.NoError(t, c.Open(reveal, &revealed))
	require.Equal(t, fieldcrypt.StatusWithheld, revealed.Privacy)

	strict := newCodec[customer](t, keys, "customers", &fieldcrypt.Options{Strict: true})
	open = append([]customer(nil), rows...)
	err = strict.Open(ctx, &open[0], &open[1], &open[2], &open[3])
	require.ErrorIs(t, err, keystore.ErrErased)
	require.ErrorIs(t, err, keystore.ErrErasing)
	require.ErrorIs(t, err, keystore.ErrRestricted)
	require.Equal(t, rows[:3], open[:3])
	require.Equal(t, "Ada", open[3].FirstName)
}

func TestErasedRowsStayWritable(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	c := newCodec[customer](t, keys, "customers", nil)
	stored := seal(t, c, ada(1))
	withNull := seal(t, c, customer{ID: 1})
	erase(t, keys, 1)

	t.Run("what was stored goes back as it was stored", func(t *testing.T) {
		require.Equal(t, stored, seal(t, c, stored))
	})
	t.Run("what was read goes back and reads the same", func(t *testing.T) {
		row := stored
		require.NoError(t, c.Open(ctx, &row))
		row.Country = "FR"
		again := seal(t, c, row)
		require.Equal(t, "FR", again.Country)
		require.True(t, strings.HasPrefix(again.FirstName, "oubli1~"))
		require.True(t, strings.HasSuffix(again.FirstName, "~Erased"))
		v, err := again.BirthDate.Value()
		require.NoError(t, err)
		want, err := stored.BirthDate.Value()
		require.NoError(t, err)
		require.Equal(t, want, v, "a Private still holds what is stored")
		other := seal(t, c, row)
		require.NotEqual(t, other.FirstName, again.FirstName, "blanks do not collide under UNIQUE")
		require.NoError(t, c.Open(ctx, &again))
		require.Equal(t, row, again)
	})
	t.Run("NULL stays NULL", func(t *testing.T) {
		row := withNull
		require.NoError(t, c.Open(ctx, &row))
		require.Equal(t, fieldcrypt.StatusErased, row.Privacy)
		again := seal(t, c, row)
		require.Nil(t, again.Phone)
		require.Nil(t, again.Photo)
		require.True(t, again.BirthDate.IsNull())
	})
	t.Run("new content fails", func(t *testing.T) {
		phone := "0"
		for name, change := range map[string]func(*customer){
			"first_name": func(r *customer) { r.FirstName = "Bob" },
			"phone":      func(r *customer) { r.Phone = &phone },
			"photo":      func(r *customer) { r.Photo = []byte{1} },
			"birth_date": func(r *customer) { r.BirthDate = fieldcrypt.NewPrivate(birth) },
			"zip":        func(r *customer) { r.Zip = "12345" },
			"email":      func(r *customer) { r.Email = "2@anonymized.example" },
		} {
			row := stored
			require.NoError(t, c.Open(ctx, &row))
			change(&row)
			_, err := c.Seal(ctx, row)
			require.ErrorIs(t, err, keystore.ErrErased, name)
			require.ErrorContains(t, err, "customers."+name)
			_, err = c.SealFor(ctx, subject(t, 1), row)
			require.ErrorIs(t, err, keystore.ErrErased, name)
		}
	})
	t.Run("no value in the clear hides in a blank", func(t *testing.T) {
		row := stored
		require.NoError(t, c.Open(ctx, &row))
		row.FirstName = "oubli1~0123456789~Bob"
		require.NotContains(t, seal(t, c, row).FirstName, "Bob")
	})
	t.Run("partial update of other columns", func(t *testing.T) {
		part, err := c.SealFor(ctx, subject(t, 1), customer{Country: "FR"})
		require.NoError(t, err)
		require.Equal(t, customer{Country: "FR"}, part)
	})
}

func TestWithheldRowsLoseNothing(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	c := newCodec[customer](t, keys, "customers", nil)
	stored := seal(t, c, ada(1))
	require.NoError(t, joined(keys.Restrict(ctx, nil, subject(t, 1))))
	row := stored
	require.NoError(t, c.Open(ctx, &row))

	_, err := c.Seal(ctx, row)
	require.ErrorIs(t, err, keystore.ErrState)
	bare := row
	bare.Privacy = ""
	_, err = c.Seal(ctx, bare)
	require.ErrorIs(t, err, keystore.ErrRestricted)
	_, err = c.SealFor(ctx, subject(t, 1), customer{Email: "new@example.com"})
	require.ErrorIs(t, err, keystore.ErrRestricted)
	part, err := c.SealFor(ctx, subject(t, 1), customer{Country: "FR"})
	require.NoError(t, err)
	require.Equal(t, "FR", part.Country)
	require.Equal(t, stored, seal(t, c, stored), "what is as stored stays")

	require.NoError(t, joined(keys.Release(ctx, subject(t, 1))))
	_, err = c.Seal(ctx, row)
	require.ErrorIs(t, err, keystore.ErrState, "still refused when the restriction is gone")

	type note struct {
		ID   int64                      `oubli:",subject=customer"`
		Text fieldcrypt.Private[string] `oubli:"text"`
		More fieldcrypt.Private[string] `oubli:"more"`
	}
	notes := newCodec[note](t, keys, "notes", nil)
	n := seal(t, notes, note{ID: 1, Text: fieldcrypt.NewPrivate("secret")})
	require.NoError(t, joined(keys.Restrict(ctx, nil, subject(t, 1))))
	withheld := n
	require.NoError(t, notes.Open(ctx, &withheld))
	require.Equal(t, fieldcrypt.StatusWithheld, withheld.Text.Status())
	again := seal(t, notes, withheld)
	require.NoError(t, joined(keys.Release(ctx, subject(t, 1))))
	require.NoError(t, notes.Open(ctx, &again))
	text, ok := again.Text.Get()
	require.True(t, ok)
	require.Equal(t, "secret", text)
}

func TestKeptAndWithdrawnPurposes(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	c := newCodec[invoice](t, keys, "invoices", nil)
	stored := seal(t, c, invoice{ID: 1, Customer: 1, Address: "First Street", Note: "n", Total: 3})
	erase(t, keys, 1, "tax")

	row := stored
	require.NoError(t, c.Open(ctx, &row))
	require.Equal(t, fieldcrypt.StatusWithheld, row.Privacy)
	require.Equal(t, "", row.Address)

	tax := keystore.WithPurpose(ctx, "tax")
	row = stored
	require.NoError(t, c.Open(tax, &row))
	require.Equal(t, fieldcrypt.StatusErased, row.Privacy, "the note is gone")
	require.Equal(t, "First Street", row.Address)
	require.Equal(t, "", row.Note)

	row.Total = 4
	again, err := c.Seal(tax, row)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(again.Address, "oubli1."))
	require.True(t, strings.HasPrefix(again.Note, "oubli1~"))
	require.NoError(t, c.Open(tax, &again))
	require.Equal(t, row, again)
	row.Note = "new"
	_, err = c.Seal(tax, row)
	require.ErrorIs(t, err, keystore.ErrWithdrawn)

	// Elsewhere, rows whose every purpose is gone read as erased and can be updated.
	people := newCodec[address1](t, keys, "people", nil)
	p := address1{ID: 1, Name: "oubli1~0123456789~Erased"}
	require.NoError(t, people.Open(ctx, &p))
	require.Equal(t, fieldcrypt.StatusErased, p.Privacy)
	seal(t, people, p)

	_, err = keys.Withdraw(ctx, subject(t, 5), "x")
	require.ErrorIs(t, err, keystore.ErrUnknownSubject)
}

type address1 struct {
	ID      int64  `oubli:",subject=customer"`
	Name    string `oubli:"name,replace=Erased"`
	Privacy fieldcrypt.Status
}

func TestBlank(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	c := newCodec[customer](t, keys, "customers", nil)
	row := seal(t, c, ada(1))
	stored := row
	erasing(t, keys, 1)

	_, err := c.Blank(ctx, &row, nil)
	require.ErrorIs(t, err, keystore.ErrErasing, "the year needs plaintext")
	require.Equal(t, stored, row)

	reveal, end, err := keys.Reveal(ctx, subject(t, 1))
	require.NoError(t, err)
	columns, err := c.Blank(reveal, &row, []string{"marketing"})
	require.NoError(t, err)
	require.Equal(t, []string{"first_name", "email", "phone", "photo", "birth_date", "zip"}, columns)
	require.Regexp(t, `^oubli1~[\w-]{12}~Erased$`, row.FirstName)
	require.Regexp(t, `^oubli1~[\w-]{12}~1@anonymized.example$`, row.Email)
	require.Nil(t, row.Phone)
	require.Nil(t, row.Photo)
	born, err := row.BirthDate.Value()
	require.NoError(t, err)
	require.Regexp(t, `^oubli1~[\w-]{12}~1990$`, born)
	require.Regexp(t, `^oubli1~[\w-]{12}~12$`, row.Zip)
	require.Equal(t, stored.Hobby, row.Hobby)

	once := row
	columns, err = c.Blank(reveal, &row, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"hobby"}, columns, "twice is once")
	require.Equal(t, once.FirstName, row.FirstName)
	end()

	read := row
	require.NoError(t, c.Open(ctx, &read), "blanks may stand while the person is being erased")
	require.Equal(t, "12", read.Zip)
	require.Equal(t, fieldcrypt.StatusErased, read.BirthDate.Status())
	require.NoError(t, keys.Acknowledge(ctx, subject(t, 1), "crm"))
	require.NoError(t, keys.BeginBlanking(ctx, subject(t, 1)))
	erase(t, keys, 1)
	read = row
	require.NoError(t, c.Open(ctx, &read))
	require.Equal(t, fieldcrypt.StatusErased, read.Privacy)
	require.Equal(t, "Erased", read.FirstName)
	require.Equal(t, "12", read.Zip)
	year, ok := read.BirthDate.Get()
	require.False(t, ok)
	require.Equal(t, 1990, year.Year())

	again := seal(t, c, read)
	bornAgain, err := again.BirthDate.Value()
	require.NoError(t, err)
	require.Equal(t, born, bornAgain)
	require.Regexp(t, `^oubli1~[\w-]{12}~12$`, again.Zip)
	columns, err = c.Blank(ctx, &again, nil)
	require.NoError(t, err)
	require.Empty(t, columns)

	// Too late for the year: the value is gone.
	late := stored
	columns, err = c.Blank(ctx, &late, nil)
	require.NoError(t, err)
	require.Len(t, columns, 7)
	require.Regexp(t, `^oubli1~[\w-]{12}~$`, late.Zip)
}

func TestForgedBlanks(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	c := newCodec[address1](t, keys, "people", nil)
	seal(t, c, address1{ID: 1, Name: "Ada"})
	forged := address1{ID: 1, Name: "oubli1~0123456789~Erased"}
	require.ErrorIs(t, c.Open(ctx, &forged), keystore.ErrTampered)
	require.NoError(t, joined(keys.Restrict(ctx, nil, subject(t, 1))))
	require.ErrorIs(t, c.Open(ctx, &forged), keystore.ErrTampered)
	require.NoError(t, joined(keys.Release(ctx, subject(t, 1))))
	_, err := keys.Withdraw(ctx, subject(t, 1), "other")
	require.NoError(t, err)
	require.ErrorIs(t, c.Open(ctx, &forged), keystore.ErrTampered)
	_, err = keys.Withdraw(ctx, subject(t, 1), "")
	require.NoError(t, err)
	require.NoError(t, c.Open(ctx, &forged))
	require.Equal(t, "Erased", forged.Name)
}

func TestReadmitted(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	c := newCodec[customer](t, keys, "customers", nil)
	old := seal(t, c, ada(1))
	blanked := old
	erase(t, keys, 1)
	_, err := c.Blank(ctx, &blanked, nil)
	require.NoError(t, err)
	require.NoError(t, keys.Readmit(ctx, subject(t, 1)))
	fresh := seal(t, c, ada(1))
	require.NoError(t, c.Open(ctx, &old, &blanked, &fresh))
	require.Equal(t, fieldcrypt.StatusErased, old.Privacy)
	require.Equal(t, fieldcrypt.StatusErased, blanked.Privacy)
	require.Equal(t, "Erased", blanked.FirstName)
	require.Equal(t, "Ada", fresh.FirstName)
}

func TestExport(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	c := newCodec[customer](t, keys, "customers", nil)
	row := ada(1)
	row.Phone = nil
	stored := seal(t, c, row)
	before := stored
	values, err := c.Export(ctx, &stored)
	require.NoError(t, err)
	require.Equal(t, before, stored)
	named := func(name string, v any, personal bool) fieldcrypt.NamedValue {
		return fieldcrypt.NamedValue{Name: name, Value: v, Personal: personal, State: fieldcrypt.StatusOpen}
	}
	require.Equal(t, []fieldcrypt.NamedValue{
		named("customer_id", int64(1), false),
		named("first_name", "Ada", true),
		named("email", "ada@example.com", true),
		named("phone", nil, true),
		named("photo", []byte{1, 2, 3}, true),
		named("birth_date", birth, true),
		named("zip", "12345", true),
		named("hobby", "engines", true),
		named("Country", "GB", false),
	}, values)

	erase(t, keys, 1, "marketing")
	values, err = c.Export(keystore.WithPurpose(ctx, "marketing"), &stored)
	require.NoError(t, err)
	require.Equal(t, fieldcrypt.NamedValue{Name: "first_name", Value: "Erased", Personal: true, State: fieldcrypt.StatusErased}, values[1])
	require.Equal(t, fieldcrypt.NamedValue{Name: "birth_date", Personal: true, State: fieldcrypt.StatusErased}, values[5])
	require.Equal(t, "engines", values[7].Value)
}

// Rows that take the short way when they are opened are exported all the same.
func TestExportOfStringsAlone(t *testing.T) {
	c := newCodec[address1](t, keystoretest.New(t), "people", nil)
	stored := seal(t, c, address1{ID: 1, Name: "Ada"})
	values, err := c.Export(context.Background(), &stored)
	require.NoError(t, err)
	require.Equal(t, fieldcrypt.NamedValue{Name: "name", Value: "Ada", Personal: true, State: fieldcrypt.StatusOpen}, values[1])
}

// Rows of plain strings take a short cut when they are opened; exports do not.
func TestExportOfARowOfStrings(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	type reader struct {
		ID      int64  `oubli:",subject=customer"`
		Name    string `oubli:"name"`
		Email   string `oubli:"email"`
		Privacy fieldcrypt.Status
	}
	c := newCodec[reader](t, keys, "readers", nil)
	stored := seal(t, c, reader{ID: 1, Name: "Grace", Email: "grace@example.com"})
	other := seal(t, c, reader{ID: 2, Name: "Ada"})
	require.NoError(t, c.Open(ctx, &other))
	values, err := c.Export(ctx, &stored)
	require.NoError(t, err)
	require.Equal(t, "Grace", values[1].Value)
	require.Equal(t, "grace@example.com", values[2].Value)
}

// joined is the error of a call that is about one subject.
func joined(errs []error, err error) error { return errors.Join(append(errs, err)...) }
