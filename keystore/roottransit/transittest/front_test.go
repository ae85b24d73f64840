package transittest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/builtin/logical/transit"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore/roottransit"
)

// front answers HTTP requests with the engines, as Vault does for a token that may do
// everything: token lookups aside, it knows of nothing but its two mounts.
type front struct {
	t       *testing.T
	server  *httptest.Server
	engines map[string]logical.Backend
	storage map[string]*logical.InmemStorage
}

func startFront(t *testing.T) *front {
	f := &front{t: t, engines: map[string]logical.Backend{}, storage: map[string]*logical.InmemStorage{}}
	f.mount("transit/", transitFactory, nil)
	f.mount("secret/", kv.Factory, map[string]string{"version": "2", "uid": "1f9b2c1e"})
	f.server = httptest.NewServer(f)
	t.Cleanup(f.server.Close)
	require.Eventually(t, func() bool { // the KV engine prepares its storage first
		_, err := f.client().Logical().Read("secret/config")
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
	return f
}

// transitFactory completes the table of paths: in this version some lack the existence check
// that the published framework insists on.
func transitFactory(ctx context.Context, config *logical.BackendConfig) (logical.Backend, error) {
	b, err := transit.Backend(ctx, config)
	if err != nil {
		return nil, err
	}
	for _, p := range b.Paths {
		//lint:ignore SA1019 the engine uses it
		_, callback := p.Callbacks[logical.CreateOperation]
		_, operation := p.Operations[logical.CreateOperation]
		if p.ExistenceCheck == nil && (operation || callback) {
			p.ExistenceCheck = func(context.Context, *logical.Request, *framework.FieldData) (bool, error) { return false, nil }
		}
	}
	return b, b.Setup(ctx, config)
}

func (f *front) mount(path string, factory logical.Factory, config map[string]string) {
	storage := &logical.InmemStorage{}
	b, err := factory(f.t.Context(), &logical.BackendConfig{
		StorageView: storage,
		System:      &logical.StaticSystemView{DefaultLeaseTTLVal: time.Hour, MaxLeaseTTLVal: time.Hour},
		BackendUUID: path,
		Config:      config,
	})
	require.NoError(f.t, err)
	require.NoError(f.t, b.Initialize(f.t.Context(), &logical.InitializationRequest{Storage: storage}))
	f.t.Cleanup(func() { b.Cleanup(context.Background()) })
	f.engines[path], f.storage[path] = b, storage
}

// client returns a client as an application has it.
func (f *front) client() *api.Client {
	c := api.DefaultConfig()
	c.Address, c.MaxRetries, c.Timeout = f.server.URL, 0, 10*time.Second
	client, err := api.NewClient(c)
	require.NoError(f.t, err)
	client.ClearNamespace()
	client.SetToken("any")
	return client
}

// write does what an administrator does.
func (f *front) write(path string, data map[string]any) {
	_, err := f.client().Logical().Write(path, data)
	require.NoError(f.t, err)
}

// open makes a key and opens the root store on it.
func (f *front) open(key string) *roottransit.Store {
	f.write("transit/keys/"+key, map[string]any{"type": "aes256-gcm96"})
	return f.again(key)
}

func (f *front) again(key string) *roottransit.Store {
	s, err := roottransit.Open(f.client(), &roottransit.Config{Address: f.server.URL, Mount: "transit", Key: key, KV: "secret", Path: key}, nil)
	require.NoError(f.t, err)
	f.t.Cleanup(func() { require.NoError(f.t, s.Close()) })
	return s
}

// stored returns all that the transit engine has in its storage.
func (f *front) stored() []byte {
	all := f.storage["transit/"]
	var b bytes.Buffer
	require.NoError(f.t, logical.ScanView(f.t.Context(), all, func(path string) {
		entry, err := all.Get(f.t.Context(), path)
		require.NoError(f.t, err)
		b.Write(entry.Value)
	}))
	return b.Bytes()
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	if strings.HasPrefix(path, "auth/token/") { // never renewed, never ends
		answer(w, http.StatusOK, &logical.Response{Data: map[string]any{"renewable": false, "ttl": 0}})
		return
	}
	mount, rest, _ := strings.Cut(path, "/")
	b := f.engines[mount+"/"]
	if b == nil {
		fail(w, http.StatusNotFound, "no handler for route "+path)
		return
	}
	req := &logical.Request{Path: rest, MountPoint: mount + "/", Storage: f.storage[mount+"/"], Data: map[string]any{}}
	for name, values := range r.URL.Query() {
		req.Data[name] = values[0]
	}
	if body, err := io.ReadAll(r.Body); err != nil || len(body) > 0 {
		d := json.NewDecoder(bytes.NewReader(body))
		d.UseNumber()
		if err := errors.Join(err, d.Decode(&req.Data)); err != nil {
			fail(w, http.StatusBadRequest, "not JSON")
			return
		}
	}
	resp, err := f.handle(r.Context(), b, r.Method, req)
	if status, err := logical.RespondErrorCommon(req, resp, err); err != nil || status != 0 {
		var said []string
		if err != nil {
			said = []string{err.Error()}
		}
		fail(w, status, said...)
		return
	}
	answer(w, http.StatusOK, resp)
}

// handle asks an engine, for a write first whether what it writes is there, as Vault does.
func (f *front) handle(ctx context.Context, b logical.Backend, method string, req *logical.Request) (*logical.Response, error) {
	switch method {
	case http.MethodGet:
		req.Operation = logical.ReadOperation
	case "LIST":
		req.Operation = logical.ListOperation
	case http.MethodDelete:
		req.Operation = logical.DeleteOperation
	default:
		req.Operation = logical.UpdateOperation
		if checked, exists, err := b.HandleExistenceCheck(ctx, req); err != nil {
			return nil, err
		} else if checked && !exists {
			req.Operation = logical.CreateOperation
		}
	}
	return b.HandleRequest(ctx, req)
}

func answer(w http.ResponseWriter, status int, resp *logical.Response) {
	switch {
	case resp == nil:
		w.WriteHeader(http.StatusNoContent)
		return
	case resp.Data[logical.HTTPStatusCode] != nil: // the engine wrote the answer itself
		w.WriteHeader(resp.Data[logical.HTTPStatusCode].(int))
		body, _ := resp.Data[logical.HTTPRawBody].(string)
		io.WriteString(w, body)
		return
	}
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(logical.LogicalResponseToHTTPResponse(resp))
}

func fail(w http.ResponseWriter, status int, said ...string) {
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"errors": append([]string{}, said...)})
}
