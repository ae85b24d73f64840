package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"strconv"
	"sync"

	"github.com/oubli/oubli/keystore"
)

// table is a table of the shop: a file with one JSON row a line. It is an ordinary
// repository that knows nothing of keys, and the source that erasing reads from.
type table[T any] struct {
	path    string
	id      func(*T) int64 // the row's own key
	subject func(*T) int64 // the customer that it is about

	mu sync.Mutex
}

var errNoRow = errors.New("there is no such row")

// List yields the rows in the order in which they were made.
func (t *table[T]) List(ctx context.Context) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		rows, err := t.load()
		for _, row := range rows {
			if !yield(row, nil) {
				return
			}
		}
		if err != nil {
			yield(*new(T), err)
		}
	}
}

// Get returns one row.
func (t *table[T]) Get(ctx context.Context, id int64) (T, error) {
	for row, err := range t.List(ctx) {
		if err != nil || t.id(&row) == id {
			return row, err
		}
	}
	return *new(T), errNoRow
}

// Create appends a row.
func (t *table[T]) Create(ctx context.Context, row T) (T, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f, err := os.OpenFile(t.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return row, err
	}
	return row, errors.Join(json.NewEncoder(f).Encode(row), f.Close())
}

// Update writes a row.
func (t *table[T]) Update(ctx context.Context, row T) (T, error) {
	return row, t.change(t.id(&row), func(stored *T) error { *stored = row; return nil })
}

// Delete removes a row.
func (t *table[T]) Delete(ctx context.Context, id int64) error { return t.change(id, nil) }

// RowsOf yields the rows of one customer as they are stored.
func (t *table[T]) RowsOf(ctx context.Context, s keystore.Subject) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for row, err := range t.List(ctx) {
			if err == nil && strconv.FormatInt(t.subject(&row), 10) != s.ID() {
				continue
			}
			if !yield(row, err) || err != nil {
				return
			}
		}
	}
}

// SaveFields writes the named columns of a row and leaves its others alone.
func (t *table[T]) SaveFields(ctx context.Context, row T, columns []string) error {
	text, err := json.Marshal(row)
	if err != nil {
		return err
	}
	var values, part map[string]json.RawMessage
	if err := json.Unmarshal(text, &values); err != nil {
		return err
	}
	part = make(map[string]json.RawMessage, len(columns))
	for _, c := range columns {
		v, ok := values[c]
		if !ok {
			return fmt.Errorf("there is no column %s", c)
		}
		part[c] = v
	}
	if text, err = json.Marshal(part); err != nil {
		return err
	}
	return t.change(t.id(&row), func(stored *T) error { return json.Unmarshal(text, stored) })
}

// change replaces the file by one in which f has changed a row; without f, by one
// without it.
func (t *table[T]) change(id int64, f func(*T) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	rows, err := t.load()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	out, found := json.NewEncoder(&b), false
	for i := range rows {
		if t.id(&rows[i]) == id {
			if found = true; f == nil {
				continue
			}
			if err := f(&rows[i]); err != nil {
				return err
			}
		}
		if err := out.Encode(rows[i]); err != nil {
			return err
		}
	}
	if !found {
		return errNoRow
	}
	if err := os.WriteFile(t.path+".new", b.Bytes(), 0o600); err != nil {
		return err
	}
	return os.Rename(t.path+".new", t.path)
}

func (t *table[T]) load() (rows []T, err error) {
	f, err := os.Open(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	in := json.NewDecoder(bufio.NewReader(f))
	for in.More() {
		var row T
		if err := in.Decode(&row); err != nil {
			return rows, fmt.Errorf("%s: %w", t.path, err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}
