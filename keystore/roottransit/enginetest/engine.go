// Package enginetest runs a real Vault in the test process, for the tests of roottransit:
// the core of Vault with its policies, tokens, AppRole and sealing, the transit engine and
// the KV engine of version 2, answering over HTTP. Storage is in memory, and the plaintext
// of all that the two engines ever stored is kept, for an attacker.
//
// It is a module of its own: nobody who imports oubli gets Vault's dependencies.
package enginetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/audit"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/logical/transit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

// Options are what Start can be told. The zero value holds the defaults.
type Options struct {
	Addr string                          // where to listen; default 127.0.0.1 and a free port
	Wrap func(http.Handler) http.Handler // put around Vault's handler, as a place for faults
}

// Engine is a Vault. Its methods are safe for concurrent use, those that change its
// state one at a time.
type Engine struct {
	addr    string
	wrap    func(http.Handler) http.Handler
	storage physical.Backend
	record  Record
	calls   calls
	shares  [][]byte
	root    string

	mu     sync.Mutex
	core   *vault.Core
	server *http.Server // nil while it is down
}

// Start starts a Vault that is initialized and unsealed and has no mounts but its own.
// o may be nil. Close ends it.
func Start(o *Options) (*Engine, error) {
	if o == nil {
		o = &Options{}
	}
	storage, err := inmem.NewInmem(nil, hclog.NewNullLogger())
	if err != nil {
		return nil, err
	}
	e := &Engine{addr: o.Addr, wrap: o.Wrap, storage: storage}
	if e.addr == "" {
		e.addr = "127.0.0.1:0"
	}
	if e.core, err = e.newCore(); err != nil {
		return nil, err
	}
	seal := &vault.SealConfig{SecretShares: 1, SecretThreshold: 1}
	made, err := e.core.Initialize(context.Background(), &vault.InitParams{BarrierConfig: seal, RecoveryConfig: seal})
	if err != nil {
		return nil, fmt.Errorf("initialize Vault: %w", err)
	}
	e.shares, e.root = made.SecretShares, made.RootToken
	if err := e.Unseal(); err != nil {
		return nil, err
	}
	return e, e.Up()
}

// newCore makes a sealed core on the storage.
func (e *Engine) newCore() (*vault.Core, error) {
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical:        e.storage,
		DisableMlock:    true,
		Logger:          hclog.NewNullLogger(),
		BuiltinRegistry: builtins{},
		AuditBackends:   map[string]audit.Factory{},
		LogicalBackends: map[string]logical.Factory{
			"transit": e.record.around("transit", transit.Factory),
			"kv":      e.record.around("kv", kv.Factory),
		},
		CredentialBackends: map[string]logical.Factory{
			"approle":    approle.Factory,
			"kubernetes": kubernetesFactory,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("make Vault's core: %w", err)
	}
	return core, nil
}

// URL is where the engine answers, as http://127.0.0.1:8200. It stays through Restart.
func (e *Engine) URL() string { return "http://" + e.addr }

// Record is what the engines stored.
func (e *Engine) Record() *Record { return &e.record }

// Calls returns how often each request was answered since the last call of it, as
// "PUT transit/encrypt/oubli".
func (e *Engine) Calls() map[string]int { return e.calls.take() }

// Client returns a client of the engine that has the token. It does not try again.
func (e *Engine) Client(token string) *api.Client {
	c := api.DefaultConfig()
	c.Address, c.MaxRetries, c.Timeout = e.URL(), 0, 10*time.Second
	client, err := api.NewClient(c)
	if err != nil {
		panic(err) // an address that was listened on is one
	}
	client.ClearNamespace()
	client.SetToken(token)
	return client
}

// Admin returns a client that may do everything.
func (e *Engine) Admin() *api.Client { return e.Client(e.root) }

// Handler answers as Vault does, without what Options.Wrap puts around it.
func (e *Engine) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		core := e.core
		e.mu.Unlock()
		vaulthttp.Handler.Handler(&vault.HandlerProperties{
			Core:           core,
			ListenerConfig: &configutil.Listener{},
		}).ServeHTTP(w, r)
	})
}

// Seal seals the Vault: it answers 503 to all but questions about its state.
func (e *Engine) Seal() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.core.Seal(e.root)
}

// Unseal opens it again.
func (e *Engine) Unseal() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.unseal()
}

func (e *Engine) unseal() error {
	for _, share := range e.shares {
		if _, err := e.core.Unseal(slices.Clone(share)); err != nil {
			return fmt.Errorf("unseal: %w", err)
		}
	}
	if e.core.Sealed() {
		return errors.New("the Vault is still sealed")
	}
	system := reflect.ValueOf(e.core).Elem().FieldByName("systemBackend")
	mend((*vault.SystemBackend)(system.UnsafePointer()).Backend)
	return nil
}

// mend completes the table of paths of an engine of Vault's own: in this version some lack
// what the published framework insists on, and panics about at the first request.
func mend(b *framework.Backend) {
	for _, p := range b.Paths {
		_, operation := p.Operations[logical.CreateOperation]
		//lint:ignore SA1019 Vault's engines use it
		_, callback := p.Callbacks[logical.CreateOperation]
		if p.ExistenceCheck == nil && (operation || callback) {
			p.ExistenceCheck = func(context.Context, *logical.Request, *framework.FieldData) (bool, error) { return false, nil }
		}
	}
}

// Restart ends the Vault and starts another on the same storage, unsealed: connections are
// cut, and nothing that stood in memory alone is left. A Vault that was down is up then.
func (e *Engine) Restart() error {
	e.Down()
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.core.Shutdown(); err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	var err error
	if e.core, err = e.newCore(); err != nil {
		return err
	}
	if err := e.unseal(); err != nil {
		return err
	}
	return e.up()
}

// Down cuts every connection and refuses new ones, until Up or Restart.
func (e *Engine) Down() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.server != nil {
		e.server.Close()
		e.server = nil
	}
}

// Up answers requests again, at the same address.
func (e *Engine) Up() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.up()
}

func (e *Engine) up() error {
	if e.server != nil {
		return nil
	}
	listener, err := net.Listen("tcp", e.addr)
	if err != nil {
		return err
	}
	e.addr = listener.Addr().String()
	handler := e.Handler()
	if e.wrap != nil {
		handler = e.wrap(handler)
	}
	e.server = &http.Server{Handler: e.calls.around(handler)}
	go e.server.Serve(listener)
	return nil
}

// Close ends the Vault; its storage can still be read through Record.
func (e *Engine) Close() error {
	e.Down()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.core.Shutdown()
}

// builtins tells Vault's catalogue of plugins which engines are compiled in.
type builtins struct{}

var builtinNames = map[consts.PluginType][]string{
	consts.PluginTypeSecrets:    {"transit", "kv"},
	consts.PluginTypeCredential: {"approle", "kubernetes"},
}

func (builtins) Contains(name string, t consts.PluginType) bool {
	return slices.Contains(builtinNames[t], name)
}

func (b builtins) Get(name string, t consts.PluginType) (func() (interface{}, error), bool) {
	return func() (interface{}, error) { return nil, errors.New("is not a plugin process") }, b.Contains(name, t)
}

func (builtins) Keys(t consts.PluginType) []string { return builtinNames[t] }

func (b builtins) DeprecationStatus(name string, t consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, b.Contains(name, t)
}

func (builtins) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }
