package roottransit

import (
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
)

// Options are what Open can be told. The zero value holds the defaults.
type Options struct {
	// SecretID of an AppRole, where Config.SecretIDFile names no file.
	SecretID string

	// Login, if not nil, logs in instead of what Config.Auth says. It is called again
	// when a token ran out.
	Login api.AuthMethod

	// Clock tells the time; tests set it. Default time.Now.
	Clock func() time.Time
}

// Store is a root store in Vault or OpenBao, for [keystore.Open]. Close it after the
// keystore.
type Store struct {
	*rootkms.Store
	keys    *keys
	shelf   *shelf
	session *session
}

var _ keystore.Rehearser = (*Store)(nil)

// Open returns the root store that c names. It calls nobody: the first use logs in, and
// from then on the token is renewed in the background until Close, and fetched anew where
// it can't be. With AuthToken it is the client's own token, which then has to be able to
// be renewed for as long as the process runs.
//
// The client says how to reach the server: its TLS settings, timeout and retries; one
// without a timeout gets a minute. It belongs to the Store from now on. o may be nil. Errors wrap [keystore.ErrInvalid].
func Open(client *api.Client, c *Config, o *Options) (*Store, error) {
	if o == nil {
		o = &Options{}
	}
	own := *c
	if own.Namespace == "" {
		own.Namespace = strings.Trim(client.Namespace(), "/")
	} else {
		client.SetNamespace(own.Namespace)
	}
	if err := own.check(); err != nil {
		return nil, err
	}
	if own.auth() == AuthAppRole && own.Role == "" && o.Login == nil {
		return nil, fmt.Errorf("%w: root store transit: logging in with approle needs role, the role id, which the last commands of oubli root policy print", keystore.ErrInvalid)
	}
	if err := client.SetAddress(own.Address); err != nil {
		return nil, fmt.Errorf("%w: root store transit: the address is not a URL", keystore.ErrInvalid)
	}
	if client.ClientTimeout() <= 0 { // who takes the connection and never answers is away
		client.SetClientTimeout(time.Minute)
	}
	s := newSession(client, &own, o)
	s.retryReadsOnly()
	k := &keys{session: s, config: &own}
	sh := &shelf{session: s, config: &own}
	return &Store{
		Store:   rootkms.New(k, sh, &rootkms.Options{Copies: own.Copies, URL: own.URL(), Clock: o.Clock}),
		keys:    k,
		shelf:   sh,
		session: s,
	}, nil
}

// Keys is the part of the Store that calls the transit engine.
func (s *Store) Keys() rootkms.Keys { return s.keys }

// Shelf is the part of the Store that calls the KV engine.
func (s *Store) Shelf() rootkms.Shelf { return s.shelf }

// Close ends the renewal of the token. The token lives on until it runs out: other
// processes may use it.
func (s *Store) Close() error {
	s.session.close()
	return nil
}
