package fieldcrypt_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// An empty text is a value where plaintext may stand, also on the short way.
func TestEmptyTextsThatAreBeingAdopted(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	empty := ""
	stored := subscriber{ID: 1, Phone: &empty, Photo: []byte{}}
	require.NoError(t, stored.Born.Scan("1990"))
	c := newCodec[subscriber](t, keys, "subscribers", adoptingAll)
	row := stored
	require.NoError(t, c.Open(ctx, &row))
	require.Equal(t, &empty, row.Phone)
	require.Equal(t, []byte{}, row.Photo)
	require.Equal(t, map[string]int64{"name": 1, "phone": 1, "photo": 1, "born": 1}, c.Plaintext())
	bare := subscriber{ID: 1, Photo: []byte{}}
	require.NoError(t, c.Open(ctx, &bare))
	require.Equal(t, []byte{}, bare.Photo, "with nothing else in the row")
	seal(t, c, stored)
	erase(t, keys, 1)
	row = stored
	require.NoError(t, c.Open(ctx, &row))
	require.Equal(t, "Erased", row.Name)
	require.Nil(t, row.Phone)
	require.Nil(t, row.Photo)

	type reader struct {
		ID      int64   `oubli:",subject=customer"`
		Name    string  `oubli:"name"`
		Tax     *string `oubli:"tax,purpose=tax,replace=none"`
		Privacy fieldcrypt.Status
	}
	readers := newCodec[reader](t, keys, "readers", &fieldcrypt.Options{Adopting: []string{"name", "tax"}})
	tax := "1"
	sealed := seal(t, readers, reader{ID: 2, Name: "Grace", Tax: &tax})
	usual := sealed
	require.NoError(t, readers.Open(ctx, &usual))
	require.Equal(t, "Grace", usual.Name)
	_, err := keys.Withdraw(ctx, subject(t, 2), "tax")
	require.NoError(t, err)
	usual = sealed
	usual.Tax = &empty
	require.NoError(t, readers.Open(ctx, &usual))
	require.Equal(t, "none", *usual.Tax)
	require.Equal(t, fieldcrypt.StatusErased, usual.Privacy)
	require.Equal(t, map[string]int64{"name": 0, "tax": 1}, readers.Plaintext())

	// A Private of an empty text is NULL to any other codec, as it was.
	type note struct {
		ID   int64                      `oubli:",subject=customer"`
		Text fieldcrypt.Private[string] `oubli:"text"`
	}
	var n note
	n.ID = 3
	require.NoError(t, n.Text.Scan(""))
	require.True(t, n.Text.IsNull())
	v, err := n.Text.Value()
	require.NoError(t, err)
	require.Nil(t, v)
	other := n
	require.NoError(t, newCodec[note](t, keys, "notes", nil).Open(ctx, &other))
	require.True(t, other.Text.IsNull())
	notes := newCodec[note](t, keys, "notes", &fieldcrypt.Options{Adopting: []string{"text"}})
	sealedNote := seal(t, notes, n)
	v, err = sealedNote.Text.Value()
	require.NoError(t, err)
	require.Regexp(t, `^oubli1\.`, v)
	require.NoError(t, notes.Open(ctx, &n, &sealedNote))
	for _, read := range []note{n, sealedNote} {
		text, ok := read.Text.Get()
		require.True(t, ok)
		require.Empty(t, text)
	}
}

// altered is an envelope, in text or binary, with another character or byte near its end.
func altered(envelope string) string {
	b := []byte(envelope)
	if at := len(b) - 9; b[at] == 'A' {
		b[at] = 'B'
	} else {
		b[at] = 'A'
	}
	return string(b)
}

// What has the form of an envelope must authenticate; what merely begins like one is text.
func TestPlaintextThatLooksSealed(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	c := newCodec[subscriber](t, keys, "subscribers", adoptingAll)
	sealed, other := seal(t, c, subscriber{ID: 1, Name: "Ada", Photo: []byte{7}}), seal(t, c, subscriber{ID: 2, Name: "Bob", Photo: []byte{8}})
	for _, tt := range []struct {
		name string
		row  subscriber
		want error
	}{
		{"altered", subscriber{ID: 1, Name: altered(sealed.Name)}, keystore.ErrTampered},
		{"altered bytes", subscriber{ID: 1, Photo: []byte(altered(string(sealed.Photo)))}, keystore.ErrTampered},
		{"another person's", subscriber{ID: 1, Name: other.Name}, keystore.ErrUnknownKey},
		{"another person's bytes", subscriber{ID: 1, Photo: other.Photo}, keystore.ErrUnknownKey},
		{"another column's", subscriber{ID: 1, Phone: &sealed.Name}, keystore.ErrTampered},
		{"nobody's", subscriber{ID: 9, Name: sealed.Name}, keystore.ErrUnknownSubject},
		{"blank", subscriber{ID: 1, Name: "oubli1~0123456789~Erased"}, keystore.ErrTampered},
		{"blank bytes", subscriber{ID: 1, Photo: []byte("oubli1~0123456789~Erased")}, keystore.ErrTampered},
		{"newer", subscriber{ID: 1, Name: "oubli2.x"}, fieldcrypt.ErrVersion},
		{"newer bytes", subscriber{ID: 1, Photo: append([]byte{0xB2}, sealed.Photo[1:]...)}, fieldcrypt.ErrVersion},
	} {
		t.Run(tt.name, func(t *testing.T) {
			row := tt.row
			require.ErrorIs(t, c.Open(ctx, &row), tt.want)
			require.Equal(t, tt.row, row)
		})
	}
	for _, text := range []string{"oubli1.", "oubli1.hello", sealed.Name[:40], sealed.Name + "=", sealed.Name + "\n", " " + sealed.Name,
		"oubli1.sQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "oubli1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"oubli1~", "oubli1~short~x", "oubli", "oubli0.x", "oublié"} {
		row := subscriber{ID: 1, Name: text, Photo: []byte(text)}
		require.NoError(t, c.Open(ctx, &row), text)
		require.Equal(t, text, row.Name)
		require.Equal(t, text, string(row.Photo))
	}
	for _, b := range [][]byte{{0xB1}, {0xB2, 1}, sealed.Photo[:32], append([]byte{0xB1, 0, 0, 0, 0}, sealed.Photo[5:]...)} {
		row := subscriber{ID: 1, Photo: b}
		require.NoError(t, c.Open(ctx, &row))
		require.Equal(t, b, row.Photo)
	}
	_, err := c.Seal(ctx, sealed)
	require.ErrorContains(t, err, "sealed already")
}

// In a bytea, one program's Private is another's []byte.
func TestBothFormsAreReadInBytes(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	type inText struct {
		ID    int64                      `oubli:",subject=customer"`
		Name  string                     `oubli:"name"`
		Photo fieldcrypt.Private[[]byte] `oubli:"photo"`
		P     fieldcrypt.Status
	}
	type inBytes struct {
		ID    int64  `oubli:",subject=customer"`
		Name  []byte `oubli:"name"`
		Photo []byte `oubli:"photo"`
		P     fieldcrypt.Status
	}
	for name, o := range map[string]*fieldcrypt.Options{"adopting": {Adopting: []string{"name", "photo"}}, "not adopting": nil} {
		t.Run(name, func(t *testing.T) {
			texts, binaries := newCodec[inText](t, keys, "t", o), newCodec[inBytes](t, keys, "t", o)
			a := seal(t, texts, inText{ID: 1, Name: "Ada", Photo: fieldcrypt.NewPrivate([]byte{7})})
			photo, err := a.Photo.Value()
			require.NoError(t, err)
			b := inBytes{ID: 1, Name: []byte(a.Name), Photo: []byte(photo.(string))}
			_, err = binaries.Seal(ctx, b)
			require.ErrorContains(t, err, "sealed already")
			require.NoError(t, binaries.Open(ctx, &b))
			require.Equal(t, inBytes{ID: 1, Name: []byte("Ada"), Photo: []byte{7}, P: fieldcrypt.StatusOpen}, b)

			b = seal(t, binaries, inBytes{ID: 1, Name: []byte("Ada"), Photo: []byte{7}})
			a = inText{ID: 1, Name: string(b.Name)}
			require.NoError(t, a.Photo.Scan(b.Photo))
			v, err := a.Photo.Value()
			require.NoError(t, err)
			require.Regexp(t, `^oubli1\.`, v, "a Private is text")
			_, err = texts.Seal(ctx, a)
			require.ErrorContains(t, err, "sealed already")
			type usual struct {
				ID   int64  `oubli:",subject=customer"`
				Name string `oubli:"name"`
				P    fieldcrypt.Status
			}
			_, err = newCodec[usual](t, keys, "t", nil).SealAll(ctx, usual{ID: 1, Name: string(b.Name)})
			require.ErrorContains(t, err, "sealed already", "on the short way, too")
			require.NoError(t, texts.Open(ctx, &a))
			require.Equal(t, "Ada", a.Name)
			got, ok := a.Photo.Get()
			require.True(t, ok)
			require.Equal(t, []byte{7}, got)
		})
	}
}
