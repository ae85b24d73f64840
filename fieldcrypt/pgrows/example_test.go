package pgrows_test

import (
	"context"
	"fmt"
	"net/http"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/fieldcrypt/pgrows"
	"github.com/oubli/oubli/keystore"
)

// Customer is a row of
//
//	CREATE TABLE sales."Customer" (
//		customer_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
//		first_name  text NOT NULL,
//		email       text,
//		country     text NOT NULL,
//		created_at  timestamptz NOT NULL DEFAULT now()
//	);
type Customer struct {
	ID        int64   `db:"customer_id" oubli:",subject=customer"`
	FirstName string  `oubli:"first_name,replace=Erased"`
	Email     *string `oubli:"email"`
	Country   string
	Privacy   fieldcrypt.Status
}

// The keystore is opened with pgstore, on the same database or on another.
func Example() {
	ctx := context.Background()
	var pool *pgxpool.Pool
	var keys *keystore.Store

	codec, err := fieldcrypt.NewCodec[Customer](keys, "customers", nil)
	check(err)
	customers, err := pgrows.New[Customer, int64](pool, codec, &pgrows.Options{Name: pgx.Identifier{"sales", "Customer"}})
	check(err)
	check(customers.Check(ctx)) // at the start rather than with the first request

	email := "ada@example.org"
	ada, err := customers.Create(ctx, Customer{FirstName: "Ada", Email: &email, Country: "GB"})
	check(err)
	fmt.Println(ada.ID) // made by the database

	for c, err := range customers.Find(ctx, map[string]any{"country": []string{"GB", "NL"}}) {
		check(err)
		fmt.Println(c.FirstName, c.Privacy)
	}
}

// What belongs together is written in one transaction.
func ExampleTable_WithTx() {
	ctx := context.Background()
	var pool *pgxpool.Pool
	var customers *pgrows.Table[Customer, int64]

	check(pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		ada, err := customers.WithTx(tx).Create(ctx, Customer{FirstName: "Ada", Country: "GB"})
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "INSERT INTO sales.visits (customer_id) VALUES ($1)", ada.ID)
		return err
	}))
}

// A partial update names its columns.
func ExampleTable_UpdateFields() {
	var customers *pgrows.Table[Customer, int64]

	email := "ada@example.com"
	ada, err := customers.UpdateFields(context.Background(), 42, Customer{Email: &email}, "email")
	check(err)
	fmt.Println(ada.FirstName, *ada.Email)
}

// Queries of your own are read as with pgx.CollectRows.
func ExampleCollectRows() {
	ctx := context.Background()
	var pool *pgxpool.Pool
	var codec *fieldcrypt.Codec[Customer]

	rows, err := pool.Query(ctx, `
		SELECT customer_id, first_name, email, country FROM sales."Customer"
		WHERE created_at > now() - interval '1 day' ORDER BY created_at`)
	check(err)
	recent, err := pgrows.CollectRows(ctx, rows, codec)
	check(err)
	fmt.Println(len(recent))
}

// A Table is the source that an Eraser blanks: a handler requests, and a worker in
// Eraser.Run erases.
func ExampleTable_RowsOf() {
	var keys *keystore.Store
	var codec *fieldcrypt.Codec[Customer]
	var customers *pgrows.Table[Customer, int64]

	eraser, err := anonymize.New(keys, nil)
	check(err)
	anonymize.Register(eraser, codec, customers)
	http.HandleFunc("DELETE /customers/{id}", func(w http.ResponseWriter, r *http.Request) {
		s, err := keystore.NewSubject("customer", r.PathValue("id"))
		if err == nil {
			err = eraser.Request(r.Context(), s)
		}
		if err != nil {
			http.Error(w, "not requested", http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	})
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
