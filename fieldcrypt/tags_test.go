package fieldcrypt_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

func TestAllMistakesOfAStructAtOnce(t *testing.T) {
	type inner struct {
		Town string `oubli:"email"`
	}
	type row struct {
		ID      int64                        `oubli:",subject=customer"`
		Other   int64                        `oubli:",subject=supplier"`
		Weight  float64                      `oubli:"weight"`
		Email   string                       `oubli:"email"`
		Nick    string                       `oubli:"nick,blank=null"`
		Colour  string                       `oubli:"colour,shiny"`
		hidden  string                       `oubli:"hidden"`
		Unnamed string                       `oubli:",replace=x"`
		Born    fieldcrypt.Private[int]      `oubli:"born,blank=year"`
		Paid    fieldcrypt.Private[bool]     `oubli:"paid,replace=perhaps"`
		Chan    fieldcrypt.Private[chan int] `oubli:"chan"`
		Loose   fieldcrypt.Private[string]
		Zip     string `oubli:"zip,blank=first:0"`
		Twice   string `oubli:"twice,purpose=a,purpose=b"`
		Empty   string `oubli:"empty,"`
		List    []inner
		Nested  inner
		Status  fieldcrypt.Status
		Status2 fieldcrypt.Status
		Skipped chan int `oubli:"-"`
	}
	_ = row{}.hidden
	_, err := fieldcrypt.NewCodec[row](keystoretest.New(t), "", nil)
	require.ErrorIs(t, err, keystore.ErrInvalid)
	for _, mistake := range []string{
		"table name is empty", "Other: a second subject", "Weight: type float64", "Nick: blank=null",
		`Colour: unknown option "shiny"`, "hidden: a tagged field must be exported", "Unnamed: a personal field needs a name",
		"Born: blank=year", "Paid: replace=perhaps", "Chan: values of type chan int", "Loose: a Private without a tag",
		"Zip: blank=first:0", "Twice: option purpose stands twice", "List: personal fields inside a slice",
		"Nested.Town: the name email stands twice", "Status2: a second field",
	} {
		require.ErrorContains(t, err, mistake)
	}
	require.NotContains(t, err.Error(), "Skipped")
	require.NotContains(t, err.Error(), "Empty:")
}

func TestStructAsAWhole(t *testing.T) {
	keys := keystoretest.New(t)
	type noSubject struct {
		Email fieldcrypt.Private[string] `oubli:"email"`
	}
	type noField struct {
		ID int64 `oubli:",subject=customer"`
	}
	type noStatus struct {
		ID    int64  `oubli:",subject=customer"`
		Email string `oubli:"email"`
	}
	type floatID struct {
		ID    float64                    `oubli:",subject=customer"`
		Email fieldcrypt.Private[string] `oubli:"email"`
	}
	type self struct {
		ID    int64                      `oubli:",subject=customer"`
		Email fieldcrypt.Private[string] `oubli:"email"`
		Boss  *self
	}
	check := func(err error, want string) {
		t.Helper()
		require.ErrorIs(t, err, keystore.ErrInvalid)
		require.ErrorContains(t, err, want)
	}
	_, err := fieldcrypt.NewCodec[noSubject](keys, "t", nil)
	check(err, "no subject")
	_, err = fieldcrypt.NewCodec[noField](keys, "t", nil)
	check(err, "no personal field")
	_, err = fieldcrypt.NewCodec[noStatus](keys, "t", nil)
	check(err, "fieldcrypt.Status")
	_, err = fieldcrypt.NewCodec[noStatus](keys, "t", &fieldcrypt.Options{Strict: true})
	require.NoError(t, err)
	_, err = fieldcrypt.NewCodec[floatID](keys, "t", nil)
	check(err, "ids of type float64")
	_, err = fieldcrypt.NewCodec[self](keys, "t", nil)
	check(err, "contains itself")
	_, err = fieldcrypt.NewCodec[int](keys, "t", nil)
	check(err, "rows are structs")
	_, err = fieldcrypt.NewCodec[noStatus](keys, "t\n", &fieldcrypt.Options{Strict: true})
	check(err, "printable")
}

func TestFieldsAndSubject(t *testing.T) {
	keys := keystoretest.New(t)
	c := newCodec[customer](t, keys, "customers", nil)
	require.Equal(t, "customers", c.Table())
	require.Equal(t, "customer", c.Kind())
	require.Equal(t, fieldcrypt.Field{Name: "first_name", Replace: "Erased"}, c.Fields()[0])
	require.Equal(t, fieldcrypt.Field{Name: "birth_date", Blank: "year"}, c.Fields()[4])
	require.Equal(t, fieldcrypt.Field{Name: "hobby", Purpose: "marketing"}, c.Fields()[6])

	for range 2 { // made, and remembered
		s, err := c.SubjectOf(&customer{ID: 42})
		require.NoError(t, err)
		require.Equal(t, "customer/42", s.String())
		_, err = c.SubjectOf(&customer{})
		require.ErrorIs(t, err, keystore.ErrInvalid)
	}

	type mail struct {
		Address string                        `oubli:",subject=mail"`
		Seen    fieldcrypt.Private[time.Time] `oubli:"seen"`
	}
	row := mail{Address: "a@example.com"}
	_, err := newCodec[mail](t, keys, "mails", nil).SubjectOf(&row)
	require.ErrorIs(t, err, keystore.ErrInvalid)
	s, err := newCodec[mail](t, keys, "mails", &fieldcrypt.Options{AllowAt: true}).SubjectOf(&row)
	require.NoError(t, err)
	require.Equal(t, "mail/a@example.com", s.String())

	type pointed struct {
		ID   *uint32                    `oubli:",subject=customer"`
		Name fieldcrypt.Private[string] `oubli:"name"`
	}
	id := uint32(7)
	s, err = newCodec[pointed](t, keys, "p", nil).SubjectOf(&pointed{ID: &id})
	require.NoError(t, err)
	require.Equal(t, "customer/7", s.String())
	_, err = newCodec[pointed](t, keys, "p", nil).SubjectOf(&pointed{})
	require.ErrorIs(t, err, keystore.ErrInvalid)
}
