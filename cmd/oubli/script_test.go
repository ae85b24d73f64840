package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/boltstore"
	"github.com/oubli/oubli/keystore/pgstore"
	"github.com/oubli/oubli/keystore/rootfile"
)

// scriptCommands are what scripts can do beside running programs.
var scriptCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	// cell FROM LINE COLUMN TO LINE COLUMN copies a cell from one CSV file to another.
	"cell": func(ts *testscript.TestScript, _ bool, args []string) {
		value := cellOf(ts, args[0], args[1], args[2])
		setCell(ts, args[3], args[4], args[5], value)
	},
	// setcell FILE LINE COLUMN TEXT writes a cell.
	"setcell": func(ts *testscript.TestScript, _ bool, args []string) {
		setCell(ts, args[0], args[1], args[2], args[3])
	},
	// editcell FILE LINE COLUMN OLD NEW replaces text in a cell.
	"editcell": func(ts *testscript.TestScript, _ bool, args []string) {
		value := cellOf(ts, args[0], args[1], args[2])
		if !strings.Contains(value, args[3]) {
			ts.Fatalf("the cell does not hold %q", args[3])
		}
		setCell(ts, args[0], args[1], args[2], strings.Replace(value, args[3], args[4], 1))
	},
	// cutcell FILE LINE COLUMN N cuts a cell to its first N characters.
	"cutcell": func(ts *testscript.TestScript, _ bool, args []string) {
		setCell(ts, args[0], args[1], args[2], cellOf(ts, args[0], args[1], args[2])[:number(ts, args[3])])
	},
	// flip FILE OFFSET changes a byte; a negative offset counts from the end.
	"flip": func(ts *testscript.TestScript, _ bool, args []string) {
		text := []byte(ts.ReadFile(args[0]))
		at := number(ts, args[1])
		if at < 0 {
			at += len(text)
		}
		text[at] ^= 0x55
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), text, 0o600))
	},
	// cut FILE SIZE cuts a file.
	"cut": func(ts *testscript.TestScript, _ bool, args []string) {
		ts.Check(os.Truncate(ts.MkAbs(args[0]), int64(number(ts, args[1]))))
	},
	// write FILE TEXT writes a file, with Go's escapes in TEXT.
	"write": func(ts *testscript.TestScript, _ bool, args []string) {
		text, err := strconv.Unquote(`"` + strings.ReplaceAll(args[1], `"`, `\"`) + `"`)
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
	},
	// waitfor FILE waits until a file is there.
	"waitfor": func(ts *testscript.TestScript, _ bool, args []string) {
		for range 1000 {
			if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		ts.Fatalf("%s did not come", args[0])
	},
}

func number(ts *testscript.TestScript, s string) int {
	n, err := strconv.Atoi(s)
	ts.Check(err)
	return n
}

func records(ts *testscript.TestScript, file string) [][]string {
	rows, err := csv.NewReader(strings.NewReader(ts.ReadFile(file))).ReadAll()
	ts.Check(err)
	return rows
}

func column(ts *testscript.TestScript, rows [][]string, name string) int {
	for i, h := range rows[0] {
		if h == name {
			return i
		}
	}
	ts.Fatalf("there is no column %s", name)
	return 0
}

func cellOf(ts *testscript.TestScript, file, line, name string) string {
	rows := records(ts, file)
	return rows[number(ts, line)-1][column(ts, rows, name)]
}

func setCell(ts *testscript.TestScript, file, line, name, value string) {
	rows := records(ts, file)
	rows[number(ts, line)-1][column(ts, rows, name)] = value
	var b bytes.Buffer
	ts.Check(csv.NewWriter(&b).WriteAll(rows))
	ts.Check(os.WriteFile(ts.MkAbs(file), b.Bytes(), 0o600))
}

// openBackend opens the database that OUBLI_KEYSTORE names, or else a file.
func openBackend(ctx context.Context, path string) (keystore.Backend, error) {
	if dsn := os.Getenv("OUBLI_KEYSTORE"); strings.HasPrefix(dsn, "postgres:") {
		return pgstore.Open(ctx, dsn, nil)
	}
	return boltstore.Open(path, nil)
}

// application is an application with a receiver, on the keystore and oubli.root:
//
//	app record NAME...            records receivers for customers
//	app erase SUBJECT NAME...     erases with these receivers
//	app fail SUBJECT NAME...      the same, and the receivers fail
func application(args []string) int {
	ctx := context.Background()
	b, err := openBackend(ctx, "oubli.keys")
	if err != nil {
		return fail(err)
	}
	roots, err := rootfile.New([]string{"oubli.root"}, nil)
	if err != nil {
		return fail(err)
	}
	keys, err := keystore.Open(ctx, b, roots, nil)
	if err != nil {
		return fail(err)
	}
	defer keys.Close()
	if args[0] == "record" {
		return fail(keys.RecordReceivers(ctx, "customer", args[1:]...))
	}
	eraser, err := anonymize.New(keys, nil)
	if err != nil {
		return fail(err)
	}
	for _, name := range args[2:] {
		eraser.PreAnonymize("customer", name, func(_ context.Context, e anonymize.Erasure) error {
			fmt.Println("received", e.Subject)
			if args[0] == "fail" {
				return fmt.Errorf("%s is down", name)
			}
			return nil
		})
	}
	s, err := keystore.ParseSubject(args[1])
	if err != nil {
		return fail(err)
	}
	_, err = eraser.Anonymize(ctx, s)
	return fail(err)
}

func fail(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "app:", err)
	return 1
}

// hold keeps a keystore locked until it is killed, and makes the file "held".
func hold(path string) int {
	b, err := boltstore.Open(path, nil)
	if err != nil {
		return fail(err)
	}
	defer b.Close()
	if err := os.WriteFile("held", nil, 0o600); err != nil {
		return fail(err)
	}
	time.Sleep(time.Minute)
	return 1
}

// empty makes a keystore file without a record, as an interrupted init leaves it.
func empty(path string) int {
	b, err := boltstore.Create(path, nil)
	if err != nil {
		return fail(err)
	}
	return fail(b.Close())
}

// halfMoved moves the root of a keystore and dies before the old one is destroyed.
func halfMoved(keysPath, fromPath, toPath string) int {
	ctx := context.Background()
	b, err := openBackend(ctx, keysPath)
	if err != nil {
		return fail(err)
	}
	from, err := rootfile.New([]string{fromPath}, nil)
	if err != nil {
		return fail(err)
	}
	to, err := rootfile.New([]string{toPath}, nil)
	if err != nil {
		return fail(err)
	}
	keys, err := keystore.Open(ctx, b, stays{from}, nil)
	if err != nil {
		return fail(err)
	}
	if err := keys.MoveRoots(ctx, to); err == nil {
		return fail(errors.New("the move ended"))
	}
	return fail(keys.Close())
}

// stays is a root store that cannot be removed.
type stays struct{ keystore.RootStore }

func (stays) Remove(context.Context) error { return errors.New("killed") }

// foreign makes a keystore and a root that belong to another host.
func foreign(keysPath, rootPath string) int {
	ctx := context.Background()
	b, err := boltstore.Create(keysPath, nil)
	if err != nil {
		return fail(err)
	}
	defer b.Close()
	roots, err := rootfile.New([]string{rootPath}, &rootfile.Options{Host: "elsewhere"})
	if err != nil {
		return fail(err)
	}
	return fail(keystore.Create(ctx, b, roots, &keystore.CreateOptions{Shards: 32}))
}
