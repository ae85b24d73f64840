package admin_test

import (
	"context"
	"fmt"
	"iter"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/anonymize/admin"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
)

// Customer is a row of an application that has an admin of its own.
type Customer struct {
	ID   int64  `oubli:",subject=customer"`
	Name string `oubli:"name"`

	Privacy fieldcrypt.Status
	Region  string `db:"region"`
}

// Customers stands for the application's table.
type Customers map[int64]Customer

func (c Customers) RowsOf(_ context.Context, s keystore.Subject) iter.Seq2[Customer, error] {
	return func(yield func(Customer, error) bool) {
		for _, row := range c {
			if fmt.Sprintf("customer/%d", row.ID) == s.String() && !yield(row, nil) {
				return
			}
		}
	}
}

func (c Customers) SaveFields(_ context.Context, row Customer, _ []string) error {
	c[row.ID] = row
	return nil
}

// Account is who is signed in to the application. What it may do on the page follows from
// what it may do in the application.
type Account struct {
	Number int
	Role   string
	Region string // whose customers it cares for
	Rows   Customers
}

// Actor is stored: the account's number, not a name.
func (a Account) Actor() string { return fmt.Sprintf("account-%d", a.Number) }

// Self is nobody: accounts are no customers here.
func (a Account) Self() keystore.Subject { return keystore.Subject{} }

// May lets everybody in the office see the pages, and those who handle requests see and do
// everything with the customers of their region.
func (a Account) May(_ context.Context, p admin.Permission, subjects ...keystore.Subject) ([]bool, error) {
	yes := make([]bool, len(subjects))
	for i, s := range subjects {
		if s.IsZero() {
			yes[i] = p == admin.View
			continue
		}
		for _, row := range a.Rows {
			if s.String() == fmt.Sprintf("customer/%d", row.ID) {
				yes[i] = a.Role == "privacy" && row.Region == a.Region
			}
		}
	}
	return yes, nil
}

// An application mounts the page in its own admin, for its own accounts.
func Example() {
	ctx := context.Background()

	// What the application has anyway: a keystore, a codec, a table, an eraser.
	backend, roots := memstore.New(), memstore.NewRoots()
	check(keystore.Create(ctx, backend, roots, nil))
	keys, err := keystore.Open(ctx, backend, roots, nil)
	check(err)
	codec, err := fieldcrypt.NewCodec[Customer](keys, "customers", nil)
	check(err)
	rows := Customers{}
	for id, region := range map[int64]string{1: "north", 2: "south"} {
		rows[id], err = codec.Seal(ctx, Customer{ID: id, Name: "Ada", Region: region})
		check(err)
	}
	eraser, err := anonymize.New(keys, nil)
	check(err)
	table := anonymize.Register(eraser, codec, rows)

	// The page, below the application's own admin.
	columns, err := admin.TableColumns(table, "name", "region")
	check(err)
	sessions := map[string]Account{
		"s1": {Number: 7, Role: "privacy", Region: "north", Rows: rows},
		"s2": {Number: 8, Role: "sales", Rows: rows},
	}
	page, err := admin.New(eraser, &admin.Options{
		Path:    "/admin/privacy/",
		Columns: columns,
		Viewer: func(r *http.Request) (admin.Viewer, error) {
			cookie, err := r.Cookie("session")
			if err != nil {
				return nil, admin.ErrNobody
			}
			account, ok := sessions[cookie.Value]
			if !ok {
				return nil, admin.ErrNobody
			}
			return account, nil
		},
	})
	check(err)
	mux := http.NewServeMux()
	mux.Handle("/admin/privacy/", page)

	// Who sees what.
	ask := func(session, to string) {
		r := httptest.NewRequest(http.MethodGet, "/admin/privacy/"+to, nil)
		r.AddCookie(&http.Cookie{Name: "session", Value: session})
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Printf("%s %q: %d\n", session, to, w.Code)
	}
	ask("s1", "")
	ask("s1", "person?s=customer/1")
	ask("s1", "person?s=customer/2") // of another region
	ask("s2", "person?s=customer/1") // not their work
	ask("none", "")
	check(keys.Close())
	// Output:
	// s1 "": 200
	// s1 "person?s=customer/1": 200
	// s1 "person?s=customer/2": 403
	// s2 "person?s=customer/1": 403
	// none "": 401
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
