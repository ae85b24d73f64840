package enginetest

import (
	"context"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// Record keeps what the engines of a Vault stored, in the clear: what somebody has who
// holds Vault's storage and its unseal keys.
type Record struct {
	mu    sync.Mutex
	every []Document
	final map[string]Document
}

// Document is an entry in an engine's storage.
type Document struct {
	Engine string // "transit" or "kv"
	Mount  string // "transit/"
	Key    string // "policy/oubli", "archive/oubli", …
	Value  []byte // nil where it was deleted
}

// Every returns every document that was ever written, in order, deletions too.
func (r *Record) Every() []Document {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.every)
}

// Final returns the documents that stand in the storage now, sorted.
func (r *Record) Final() []Document {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.SortedFunc(maps.Values(r.final), func(a, b Document) int {
		return strings.Compare(a.Mount+a.Key, b.Mount+b.Key)
	})
}

func (r *Record) add(d Document) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d.Value = slices.Clone(d.Value)
	r.every = append(r.every, d)
	if r.final == nil {
		r.final = make(map[string]Document)
	}
	if d.Value == nil {
		delete(r.final, d.Mount+d.Key)
	} else {
		r.final[d.Mount+d.Key] = d
	}
}

// around makes an engine whose storage is recorded.
func (r *Record) around(engine string, inner logical.Factory) logical.Factory {
	return func(ctx context.Context, config *logical.BackendConfig) (logical.Backend, error) {
		b, err := inner(ctx, config)
		if err != nil {
			return nil, err
		}
		if f, ok := reflect.ValueOf(b).Elem().FieldByName("Backend").Interface().(*framework.Backend); ok {
			mend(f)
		}
		return &recorded{Backend: b, engine: engine, record: r}, nil
	}
}

// recorded is an engine whose requests come with a storage that writes down what is
// written. The embedded methods touch no storage of a mount's data.
type recorded struct {
	logical.Backend
	engine string
	record *Record
}

func (b *recorded) HandleRequest(ctx context.Context, req *logical.Request) (*logical.Response, error) {
	defer b.swap(req)()
	return b.Backend.HandleRequest(ctx, req)
}

func (b *recorded) HandleExistenceCheck(ctx context.Context, req *logical.Request) (bool, bool, error) {
	defer b.swap(req)()
	return b.Backend.HandleExistenceCheck(ctx, req)
}

// swap puts the recording storage into a request, and returns what takes it out again.
func (b *recorded) swap(req *logical.Request) func() {
	inner := req.Storage
	req.Storage = &storage{Storage: inner, mount: req.MountPoint, backend: b}
	return func() { req.Storage = inner }
}

type storage struct {
	logical.Storage
	mount   string
	backend *recorded
}

func (s *storage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	// Before it is written: what is lost on the way may still lie somewhere.
	s.backend.record.add(Document{Engine: s.backend.engine, Mount: s.mount, Key: entry.Key, Value: append([]byte{}, entry.Value...)})
	return s.Storage.Put(ctx, entry)
}

func (s *storage) Delete(ctx context.Context, key string) error {
	s.backend.record.add(Document{Engine: s.backend.engine, Mount: s.mount, Key: key})
	return s.Storage.Delete(ctx, key)
}

// calls counts requests.
type calls struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *calls) around(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		if c.n == nil {
			c.n = make(map[string]int)
		}
		c.n[r.Method+" "+strings.TrimPrefix(r.URL.Path, "/v1/")]++
		c.mu.Unlock()
		h.ServeHTTP(w, r)
	})
}

func (c *calls) take() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.n
	c.n = nil
	return n
}
