package fieldcrypt_test

import (
	"context"
	"fmt"
	"time"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
)

// User is a row of the application, tagged.
type User struct {
	ID      int64                         `oubli:",subject=customer"`
	Name    string                        `oubli:"name,replace=Erased"`
	Born    fieldcrypt.Private[time.Time] `oubli:"born"`
	Country string
	Privacy fieldcrypt.Status
}

// Users is what the application has: it writes and reads rows.
type Users interface {
	CreateUser(ctx context.Context, u *User) error
	User(ctx context.Context, id int64) (*User, error)
}

// sealedUsers is the decorator: it seals what goes in and opens what comes out.
type sealedUsers struct {
	plain Users
	codec *fieldcrypt.Codec[User]
}

func (s sealedUsers) CreateUser(ctx context.Context, u *User) error {
	sealed, err := s.codec.Seal(ctx, *u)
	if err != nil {
		return err
	}
	return s.plain.CreateUser(ctx, &sealed)
}

func (s sealedUsers) User(ctx context.Context, id int64) (*User, error) {
	u, err := s.plain.User(ctx, id)
	if err != nil {
		return nil, err
	}
	return u, s.codec.Open(ctx, u)
}

// Applications with methods of their own write a decorator.
func ExampleCodec() {
	ctx := context.Background()
	keys := exampleStore()
	codec, err := fieldcrypt.NewCodec[User](keys, "users", nil)
	if err != nil {
		panic(err)
	}
	table := &usersTable{}
	users := sealedUsers{table, codec}

	ada := User{ID: 42, Name: "Ada", Born: fieldcrypt.NewPrivate(time.Date(1815, 12, 10, 0, 0, 0, 0, time.UTC)), Country: "GB"}
	if err := users.CreateUser(ctx, &ada); err != nil {
		panic(err)
	}
	fmt.Println("stored:", table.rows[42].Name[:7], table.rows[42].Country)

	u, err := users.User(ctx, 42)
	fmt.Println("read:", u.Name, u.Born, u.Privacy, err)

	subject, _ := codec.SubjectOf(u)
	if _, err := keys.Erase(ctx, keystore.Request{Subject: subject}); err != nil {
		panic(err)
	}
	u, err = users.User(ctx, 42)
	fmt.Println("read:", u.Name, u.Privacy, u.Country, err)
	// Output:
	// stored: oubli1. GB
	// read: Ada [private] open <nil>
	// read: Erased erased GB <nil>
}

// A table that is full of plaintext is sealed while programs read and write it.
func ExampleOptions_adopting() {
	ctx := context.Background()
	keys := exampleStore()
	adopting := &fieldcrypt.Options{Adopting: []string{"name", "born"}}
	table := map[int64]User{1: {ID: 1, Name: "Ada", Country: "GB"}, 2: {ID: 2, Name: "Grace", Country: "US"}}

	// The application reads both, and seals what it writes.
	codec, err := fieldcrypt.NewCodec[User](keys, "users", adopting)
	if err != nil {
		panic(err)
	}
	ada := table[1]
	err = codec.Open(ctx, &ada)
	fmt.Println("read:", ada.Name, ada.Privacy, err)
	table[1], err = codec.Seal(ctx, ada)
	fmt.Println("stored:", table[1].Name[:7], err)

	// Meanwhile, what nobody writes is sealed where it stands.
	rows, err := fieldcrypt.NewRowCodec(keys, fieldcrypt.Spec{
		Table: "users", Kind: "customer", SubjectColumn: "id",
		Fields: []fieldcrypt.FieldSpec{{Name: "name", Replace: "Erased"}, {Name: "born"}},
	}, adopting)
	if err != nil {
		panic(err)
	}
	bound, err := rows.Bind([]string{"id", "name", "born"})
	if err != nil {
		panic(err)
	}
	cells := [][]fieldcrypt.Cell{
		{{Text: "1"}, {Text: table[1].Name}, {Null: true}},
		{{Text: "2"}, {Text: table[2].Name}, {Null: true}},
	}
	found, err := bound.Adopt(ctx, cells)
	for i, row := range found {
		fmt.Println("found:", row[0].Content, row[1].Content, cells[i][1].Text[:7], err)
	}

	for column, n := range codec.Plaintext() {
		if n > 0 {
			fmt.Println("plaintext read:", n, column)
		}
	}
	// Output:
	// read: Ada open <nil>
	// stored: oubli1. <nil>
	// found: sealed null oubli1. <nil>
	// found: plain null oubli1. <nil>
	// plaintext read: 1 name
}

// Repositories of the usual shape are wrapped.
func ExampleWrap() {
	ctx := context.Background()
	codec, err := fieldcrypt.NewCodec[User](exampleStore(), "users", nil)
	if err != nil {
		panic(err)
	}
	plain := &memory[User, int64]{id: func(u User) int64 { return u.ID }}
	users := fieldcrypt.Wrap(plain, codec)

	if _, err := users.Create(ctx, User{ID: 1, Name: "Ada", Country: "GB"}); err != nil {
		panic(err)
	}
	for u, err := range users.List(ctx) {
		fmt.Println(u.Name, u.Country, err)
	}
	// Output: Ada GB <nil>
}

// usersTable stands for a table of a database.
type usersTable struct{ rows map[int64]User }

func (t *usersTable) CreateUser(_ context.Context, u *User) error {
	if t.rows == nil {
		t.rows = map[int64]User{}
	}
	t.rows[u.ID] = *u
	return nil
}

func (t *usersTable) User(_ context.Context, id int64) (*User, error) {
	u := t.rows[id]
	return &u, nil
}

// exampleStore is a keystore in memory. Applications open theirs.
func exampleStore() *keystore.Store {
	ctx := context.Background()
	backend, roots := memstore.New(), memstore.NewRoots()
	if err := keystore.Create(ctx, backend, roots, nil); err != nil {
		panic(err)
	}
	keys, err := keystore.Open(ctx, backend, roots, nil)
	if err != nil {
		panic(err)
	}
	return keys
}
