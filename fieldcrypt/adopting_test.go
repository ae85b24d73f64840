package fieldcrypt_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// The states that a person can be in, each that of one subject, by id.
const (
	active = 1 + iota
	unknown
	restricted
	beingErased
	erased
	readmitted
	withdrawn
	people = withdrawn
)

var stateNames = [...]string{active: "active", unknown: "unknown", restricted: "restricted", beingErased: "erasing",
	erased: "erased", readmitted: "readmitted", withdrawn: "withdrawn"}

// bringAbout gives everybody but the unknown one a key, calls with them all still
// active, and then puts each into its state.
func bringAbout(t testing.TB, keys *keystore.Store, with func()) {
	t.Helper()
	ctx := context.Background()
	for id := active; id <= people; id++ {
		if id != unknown {
			_, err := keys.Ensure(ctx, nil, []string{""}, subject(t, id))
			require.NoError(t, err)
		}
	}
	with()
	erase(t, keys, erased)
	erase(t, keys, readmitted)
	erasing(t, keys, beingErased)
	require.NoError(t, joined(keys.Restrict(ctx, &keystore.RestrictOptions{Purposes: []string{"care"}}, subject(t, restricted))))
	require.NoError(t, keys.Readmit(ctx, subject(t, readmitted)))
	_, err := keys.Withdraw(ctx, subject(t, withdrawn), "")
	require.NoError(t, err)
}

// subscriber has a field of each kind.
type subscriber struct {
	ID      int64                         `oubli:",subject=customer"`
	Name    string                        `oubli:"name,replace=Erased"`
	Phone   *string                       `oubli:"phone"`
	Photo   []byte                        `oubli:"photo"`
	Born    fieldcrypt.Private[time.Time] `oubli:"born,blank=year"`
	Privacy fieldcrypt.Status
}

var adoptingAll = &fieldcrypt.Options{Adopting: []string{"name", "phone", "photo", "born"}}

// inPlain is a row as a database has it that nobody sealed.
func inPlain(t testing.TB, id int64) subscriber {
	t.Helper()
	phone := "+44"
	s := subscriber{ID: id, Name: "Ada", Phone: &phone, Photo: []byte{7}}
	require.NoError(t, s.Born.Scan("1990-05-17"))
	return s
}

func requireOpenAda(t testing.TB, s subscriber) {
	t.Helper()
	require.Equal(t, fieldcrypt.StatusOpen, s.Privacy)
	require.Equal(t, "Ada", s.Name)
	require.Equal(t, "+44", *s.Phone)
	require.Equal(t, []byte{7}, s.Photo)
	born, ok := s.Born.Get()
	require.True(t, ok)
	require.Equal(t, birth, born)
}

func TestReadingPlaintextThatIsBeingAdopted(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	bringAbout(t, keys, func() {})
	c := newCodec[subscriber](t, keys, "subscribers", adoptingAll)
	plain := newCodec[subscriber](t, keys, "subscribers", nil)
	want := map[int64]fieldcrypt.Status{
		active: fieldcrypt.StatusOpen, unknown: fieldcrypt.StatusOpen, readmitted: fieldcrypt.StatusOpen,
		restricted: fieldcrypt.StatusWithheld, beingErased: fieldcrypt.StatusWithheld,
		erased: fieldcrypt.StatusErased, withdrawn: fieldcrypt.StatusErased,
	}
	for id := int64(active); id <= people; id++ {
		t.Run(stateNames[id], func(t *testing.T) {
			before := c.Plaintext()
			stored := inPlain(t, id)
			row := stored
			require.NoError(t, c.Open(ctx, &row))
			require.Equal(t, want[id], row.Privacy)
			require.Equal(t, want[id], row.Born.Status())
			switch row.Privacy {
			case fieldcrypt.StatusOpen:
				requireOpenAda(t, row)
			case fieldcrypt.StatusErased:
				require.Equal(t, "Erased", row.Name)
			default:
				require.Empty(t, row.Name)
			}
			if row.Privacy != fieldcrypt.StatusOpen {
				require.Nil(t, row.Phone)
				require.Nil(t, row.Photo)
				_, ok := row.Born.Get()
				require.False(t, ok)
			}
			for name, n := range c.Plaintext() {
				require.Equal(t, before[name]+1, n, name)
			}

			refused := stored
			err := plain.Open(ctx, &refused)
			require.ErrorIs(t, err, keystore.ErrTampered)
			require.Equal(t, stored, refused)
			require.NotContains(t, err.Error(), "Ada")
			require.Empty(t, plain.Plaintext())

			strict := stored
			err = newCodec[subscriber](t, keys, "subscribers", &fieldcrypt.Options{Strict: true, Adopting: adoptingAll.Adopting}).Open(ctx, &strict)
			require.Equal(t, want[id] == fieldcrypt.StatusOpen, err == nil, "strict")
		})
	}
	require.Equal(t, map[string]int64{"name": people, "phone": people, "photo": people, "born": people}, c.Plaintext())

	row := inPlain(t, restricted)
	require.NoError(t, c.Open(keystore.WithPurpose(ctx, "care"), &row))
	requireOpenAda(t, row)
	reveal, end, err := keys.Reveal(ctx, subject(t, beingErased))
	require.NoError(t, err)
	row = inPlain(t, beingErased)
	require.NoError(t, c.Open(reveal, &row))
	requireOpenAda(t, row)
	end()
	row = inPlain(t, beingErased)
	require.NoError(t, c.Open(reveal, &row))
	require.Equal(t, fieldcrypt.StatusWithheld, row.Privacy)
}

// One column is being adopted, and the others are not.
func TestAdoptingIsDeclaredPerColumn(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	c := newCodec[subscriber](t, keys, "subscribers", &fieldcrypt.Options{Adopting: []string{"phone"}})
	sealed := seal(t, c, subscriber{ID: 1, Name: "Ada", Photo: []byte{7}, Born: fieldcrypt.NewPrivate(birth)})
	row := sealed
	row.Phone = inPlain(t, 1).Phone
	require.NoError(t, c.Open(ctx, &row))
	requireOpenAda(t, row)
	require.Equal(t, map[string]int64{"phone": 1}, c.Plaintext())
	for name, change := range map[string]func(*subscriber){
		"name":  func(s *subscriber) { s.Name = "Ada" },
		"photo": func(s *subscriber) { s.Photo = []byte{7} },
		"born":  func(s *subscriber) { s.Born = inPlain(t, 1).Born },
	} {
		row = sealed
		change(&row)
		err := c.Open(ctx, &row)
		require.ErrorIs(t, err, keystore.ErrTampered, name)
		require.ErrorContains(t, err, "subscribers."+name)
	}
	require.Equal(t, map[string]int64{"phone": 1}, c.Plaintext(), "no row that was refused counts")

	_, err := fieldcrypt.NewCodec[subscriber](keys, "subscribers", &fieldcrypt.Options{Adopting: []string{"Name", "phone", "phone", "fax"}})
	require.ErrorIs(t, err, keystore.ErrInvalid)
	for _, mistake := range []string{"column is called Name", "phone stands twice", "column is called fax"} {
		require.ErrorContains(t, err, mistake)
	}
	_, err = fieldcrypt.NewRowCodec(keys, invoices, &fieldcrypt.Options{Adopting: []string{"total"}})
	require.ErrorIs(t, err, keystore.ErrInvalid)
	require.ErrorContains(t, err, "column is called total")
}

// A Private that was read from plaintext goes on holding it, and never gives it away.
func TestPrivateThatHoldsPlaintext(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	type note struct {
		ID      int64                         `oubli:",subject=customer"`
		Text    fieldcrypt.Private[string]    `oubli:"text,replace=gone"`
		Born    fieldcrypt.Private[time.Time] `oubli:"born"`
		Privacy fieldcrypt.Status
	}
	c := newCodec[note](t, keys, "notes", &fieldcrypt.Options{Adopting: []string{"text", "born"}})
	bringAbout(t, keys, func() {})
	stored := func(id int64, text string) (n note) {
		n.ID = id
		require.NoError(t, n.Text.Scan(text))
		require.NoError(t, n.Born.Scan("1815-12-10T00:00:00Z"))
		return n
	}
	for _, text := range []string{"Lovelace", "oubli1.Lovelace", "oubli1~Lovelace", ""} {
		for id := int64(active); id <= people; id++ {
			t.Run(stateNames[id]+" "+text, func(t *testing.T) {
				row := stored(id, text)
				require.NoError(t, c.Open(ctx, &row))
				for _, v := range []fieldcrypt.Private[string]{row.Text, stored(id, text).Text} {
					if _, err := v.Value(); text != "" {
						require.ErrorIs(t, err, keystore.ErrInvalid, "plaintext is never written anew")
						asJSON, err := v.MarshalJSON()
						require.NoError(t, err)
						require.NotContains(t, string(asJSON), "Lovelace")
					}
				}
				sealed, err := c.Seal(ctx, row)
				switch row.Privacy {
				case fieldcrypt.StatusOpen:
					require.NoError(t, err)
					require.NoError(t, c.Open(ctx, &sealed))
					got, ok := sealed.Text.Get()
					require.True(t, ok)
					require.Equal(t, text, got)
				case fieldcrypt.StatusErased:
					require.NoError(t, err)
					v, err := sealed.Text.Value()
					require.NoError(t, err)
					require.Regexp(t, `^oubli1~[\w-]{12}~gone$`, v)
					v, err = sealed.Born.Value()
					require.NoError(t, err)
					require.Regexp(t, `^oubli1~[\w-]{12}~$`, v)
				default:
					require.True(t, errors.Is(err, keystore.ErrRestricted) || errors.Is(err, keystore.ErrErasing) || errors.Is(err, keystore.ErrState), "%v", err)
					require.NotContains(t, err.Error(), "Lovelace")
				}
			})
		}
	}

	// What was withheld is sealed once it may be: nothing is lost.
	row := stored(restricted, "Lovelace")
	require.NoError(t, c.Open(ctx, &row))
	require.NoError(t, joined(keys.Release(ctx, subject(t, restricted))))
	row = seal(t, c, row)
	require.NoError(t, c.Open(ctx, &row))
	text, ok := row.Text.Get()
	require.True(t, ok)
	require.Equal(t, "Lovelace", text)
	born, ok := row.Born.Get()
	require.True(t, ok)
	require.Equal(t, time.Date(1815, 12, 10, 0, 0, 0, 0, time.UTC), born)

	// A codec that adopts nothing seals no plaintext that it did not open.
	_, err := newCodec[note](t, keys, "notes", nil).Seal(ctx, stored(active, "Lovelace"))
	require.ErrorIs(t, err, keystore.ErrTampered)
}

func TestBlankingPlaintext(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	bringAbout(t, keys, func() {})
	c := newCodec[subscriber](t, keys, "subscribers", adoptingAll)
	for id := int64(active); id <= people; id++ {
		t.Run(stateNames[id], func(t *testing.T) {
			ctx := ctx
			year := "1990"
			switch id {
			case restricted, beingErased:
				row := inPlain(t, id)
				_, err := c.Blank(ctx, &row, nil)
				require.Error(t, err, "the year needs what is withheld")
				require.Equal(t, inPlain(t, id), row)
				if id == restricted {
					ctx = keystore.WithPurpose(ctx, "care")
					break
				}
				reveal, end, err := keys.Reveal(ctx, subject(t, id))
				require.NoError(t, err)
				defer end()
				ctx = reveal
			case erased, withdrawn:
				year = "" // nobody reads it any more
			}
			row := inPlain(t, id)
			columns, err := c.Blank(ctx, &row, nil)
			require.NoError(t, err)
			require.Equal(t, []string{"name", "phone", "photo", "born"}, columns)
			require.Regexp(t, `^oubli1~[\w-]{12}~Erased$`, row.Name)
			require.Nil(t, row.Phone)
			require.Nil(t, row.Photo)
			born, err := row.Born.Value()
			require.NoError(t, err)
			require.Regexp(t, `^oubli1~[\w-]{12}~`+year+`$`, born)
			columns, err = c.Blank(ctx, &row, nil)
			require.NoError(t, err)
			require.Empty(t, columns, "twice is once")
		})
	}
	require.Equal(t, map[string]int64{"name": 0, "phone": 0, "photo": 0, "born": 0}, c.Plaintext(), "blanking is no reading")
}

// Streams, collectors and exports read plaintext as Open does.
func TestPlaintextInStreams(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	type reader struct {
		ID      int64  `oubli:",subject=customer"`
		Name    string `oubli:"name"`
		Privacy fieldcrypt.Status
	}
	c := newCodec[reader](t, keys, "readers", &fieldcrypt.Options{Adopting: []string{"name"}})
	const n = 300
	stored := make([]reader, n)
	for i := range stored {
		stored[i] = reader{ID: int64(i + 1), Name: fmt.Sprint("name ", i+1)}
		if i%3 > 0 {
			stored[i] = seal(t, c, stored[i])
		}
	}
	seen := 0
	for row, err := range c.OpenSeq(ctx, func(yield func(reader, error) bool) {
		for _, row := range stored {
			if !yield(row, nil) {
				return
			}
		}
	}) {
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint("name ", row.ID), row.Name)
		seen++
	}
	require.Equal(t, n, seen)
	require.Equal(t, map[string]int64{"name": n / 3}, c.Plaintext())

	k := c.Collector()
	for _, row := range stored {
		*k.Next() = row
	}
	rows, err := k.Rows(ctx)
	require.NoError(t, err)
	for _, row := range rows {
		require.Equal(t, fmt.Sprint("name ", row.ID), row.Name)
	}
	require.Equal(t, map[string]int64{"name": 2 * n / 3}, c.Plaintext())

	values, err := c.Export(ctx, &stored[0])
	require.NoError(t, err)
	require.Equal(t, fieldcrypt.NamedValue{Name: "name", Value: "name 1", Personal: true, State: fieldcrypt.StatusOpen}, values[1])
}
