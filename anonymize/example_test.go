package anonymize_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"os"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
)

type Reader struct {
	ID      int64  `oubli:",subject=reader"`
	Name    string `oubli:"name,replace=Erased"`
	Email   string `oubli:"email"`
	Privacy fieldcrypt.Status
	Books   int
}

// Readers is the table of readers: what an application's store has to offer.
type Readers map[int64]Reader

func (t Readers) RowsOf(ctx context.Context, s keystore.Subject) iter.Seq2[Reader, error] {
	return func(yield func(Reader, error) bool) {
		for _, r := range t { // SELECT … WHERE id = s.ID()
			if fmt.Sprint(r.ID) == s.ID() && !yield(r, nil) {
				return
			}
		}
	}
}

func (t Readers) SaveFields(ctx context.Context, r Reader, columns []string) error {
	stored := t[r.ID] // UPDATE … SET the columns WHERE id = r.ID
	for _, c := range columns {
		switch c {
		case "name":
			stored.Name = r.Name
		case "email":
			stored.Email = r.Email
		}
	}
	t[r.ID] = stored
	return nil
}

// library is an application with a keystore in memory and two readers.
func library() (keys *keystore.Store, codec *fieldcrypt.Codec[Reader], table Readers) {
	ctx := context.Background()
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	backend, roots := memstore.New(), memstore.NewRoots() // boltstore and rootfile in earnest
	must(keystore.Create(ctx, backend, roots, nil))
	keys, err := keystore.Open(ctx, backend, roots, nil)
	must(err)
	codec, err = fieldcrypt.NewCodec[Reader](keys, "readers", nil)
	must(err)
	table = Readers{}
	for _, r := range []Reader{{ID: 1, Name: "Ada", Email: "ada@example.com", Books: 3}, {ID: 2, Name: "Grace", Email: "grace@example.com", Books: 5}} {
		table[r.ID], err = codec.Seal(ctx, r)
		must(err)
	}
	return keys, codec, table
}

// A receiver hears of it with the plaintext in hand; then the row is blanked and the
// key destroyed. The row stays for statistics.
func Example() {
	ctx := context.Background()
	keys, codec, table := library()

	eraser, err := anonymize.New(keys, nil)
	if err != nil {
		panic(err)
	}
	readers := anonymize.Register(eraser, codec, table)
	readers.PreAnonymize("newsletter", func(ctx context.Context, e anonymize.Erasure, r Reader) error {
		fmt.Println("unsubscribe", r.Email)
		return nil
	})

	ada, err := keystore.NewSubject("reader", 1)
	if err != nil {
		panic(err)
	}
	results, err := eraser.Anonymize(ctx, ada)
	fmt.Println(results[0].Subject, results[0].State, err)

	for id := range int64(2) {
		r := table[id+1]
		err := codec.Open(ctx, &r)
		fmt.Println(r.Name, r.Email, r.Privacy, r.Books, err)
	}
	// Output:
	// unsubscribe ada@example.com
	// reader/1 erased <nil>
	// Erased  erased 3 <nil>
	// Grace grace@example.com open 5 <nil>
}

// An HTTP handler makes the request durable and answers 202; a worker does the rest,
// and whatever a killed process left unfinished.
func ExampleEraser_Run() {
	ctx, cancel := context.WithCancel(context.Background())
	keys, codec, table := library()

	eraser, err := anonymize.New(keys, &anonymize.Options{Report: func(r anonymize.Result) {
		fmt.Println(r.Subject, r.State)
		cancel()
	}})
	if err != nil {
		panic(err)
	}
	anonymize.Register(eraser, codec, table)

	ada, err := keystore.ParseSubject("reader/1")
	if err != nil {
		panic(err)
	}
	if err := eraser.Request(ctx, ada); err != nil { // in the handler
		panic(err)
	}
	fmt.Println(eraser.Run(ctx)) // in main
	// Output:
	// reader/1 erased
	// <nil>
}

// A dry run, for the page on which somebody decides.
func ExampleEraser_Preview() {
	ctx := context.Background()
	keys, codec, table := library()
	eraser, err := anonymize.New(keys, nil)
	if err != nil {
		panic(err)
	}
	anonymize.Register(eraser, codec, table)
	ada, err := keystore.ParseSubject("reader/1")
	if err != nil {
		panic(err)
	}
	plan, err := eraser.Preview(ctx, ada)
	if err != nil {
		panic(err)
	}
	out, err := json.Marshal(plan.Tables)
	fmt.Println(string(out), err)
	// Output:
	// [{"table":"readers","rows":1,"fields":["name","email"],"kept":[]}] <nil>
}

// What is held about one person, for that person.
func ExampleEraser_Export() {
	ctx := context.Background()
	keys, codec, table := library()
	eraser, err := anonymize.New(keys, nil)
	if err != nil {
		panic(err)
	}
	anonymize.Register(eraser, codec, table)
	grace, err := keystore.ParseSubject("reader/2")
	if err != nil {
		panic(err)
	}
	document, err := eraser.Export(ctx, grace)
	if err != nil {
		panic(err)
	}
	if err := document.WriteCSV(os.Stdout); err != nil {
		panic(err)
	}
	// Output:
	// table,row,field,state,value
	// readers,1,ID,plain,2
	// readers,1,name,open,Grace
	// readers,1,email,open,grace@example.com
	// readers,1,Books,plain,5
}
