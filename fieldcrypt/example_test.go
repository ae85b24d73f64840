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
