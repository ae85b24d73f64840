package roottransit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/auth/approle"
	"github.com/hashicorp/vault/api/auth/kubernetes"

	"github.com/oubli/oubli/keystore"
)

// renewPause is how long it waits when the server was not there for a renewal or a login.
const renewPause = 5 * time.Second

// refusedPause is how long it waits in the background when a login was refused. Vault locks
// a role for all who use it after five within a quarter of an hour. A call that needs the
// token does not wait.
const refusedPause = 5 * time.Minute

// session is a client that is logged in: it renews its token, and logs in anew when it
// must.
type session struct {
	client *api.Client
	config *Config
	method func() (api.AuthMethod, error) // nil: the client's own token

	background context.Context // ends with close
	end        context.CancelFunc
	keeping    sync.WaitGroup

	pause, refusedPause time.Duration // tests set them

	turn  chan struct{} // holds one token: whoever has it may log in
	round int           // logins so far; changed by whoever has the turn
	stop  context.CancelFunc
}

func newSession(client *api.Client, c *Config, o *Options) *session {
	s := &session{client: client, config: c, pause: renewPause, refusedPause: refusedPause, turn: make(chan struct{}, 1)}
	s.background, s.end = context.WithCancel(context.Background())
	s.turn <- struct{}{}
	switch {
	case o.Login != nil:
		s.method = func() (api.AuthMethod, error) { return o.Login, nil }
	case c.auth() == AuthAppRole:
		s.method = func() (api.AuthMethod, error) {
			secret := &approle.SecretID{FromString: o.SecretID}
			if c.SecretIDFile != "" {
				secret = &approle.SecretID{FromFile: c.SecretIDFile}
			}
			return approle.NewAppRoleAuth(c.Role, secret, approle.WithMountPath(c.authMount()))
		}
	case c.auth() == AuthKubernetes:
		s.method = func() (api.AuthMethod, error) { // reads the file, which is replaced every hour
			options := []kubernetes.LoginOption{kubernetes.WithMountPath(c.authMount())}
			if c.JWTFile != "" {
				options = append(options, kubernetes.WithServiceAccountTokenPath(c.JWTFile))
			}
			return kubernetes.NewKubernetesAuth(c.Role, options...)
		}
	}
	return s
}

func (s *session) close() {
	s.end()
	s.turn <- <-s.turn // who was at logging in has begun to keep its token
	s.keeping.Wait()
}

// onceKey marks a request that the client must not send again by itself.
type onceKey struct{}

// retryReadsOnly keeps the client from sending a compare-and-swap again that may have been
// done: the second would lose against the first.
func (s *session) retryReadsOnly() {
	inner := s.client.CheckRetry()
	if inner == nil {
		inner = api.DefaultRetryPolicy
	}
	s.client.SetCheckRetry(func(ctx context.Context, resp *http.Response, err error) (bool, error) {
		if ctx.Value(onceKey{}) != nil {
			return false, err
		}
		return inner(ctx, resp, err)
	})
}

// read and write call the server; path is without /v1/. read returns nil where the engine
// itself says that it has nothing there. Else there is no engine, or somebody in between
// answered: that must read as no end of a key, and not as a place that is free.
func (s *session) read(ctx context.Context, path string) (*api.Secret, error) {
	return s.call(ctx, "read", path, func() (*api.Secret, error) {
		ctx, cancel := context.WithTimeout(ctx, s.client.ClientTimeout())
		defer cancel()
		resp, err := s.client.Logical().ReadRawWithContext(ctx, path)
		secret, parseErr := s.client.Logical().ParseRawResponseAndCloseBody(resp, err)
		switch {
		case parseErr != nil:
			return nil, parseErr
		case secret == nil && !nothing(err):
			return nil, cmp.Or(err, errEmpty)
		}
		return secret, nil
	})
}

// errEmpty: the server answered with nothing at all.
var errEmpty = errors.New("an empty answer")

// nothing tells whether an engine of Vault said that there is nothing at a path: by 404
// and an empty list of errors. Where no engine is mounted, the list is not empty.
func nothing(err error) bool {
	var r *api.ResponseError
	return errors.As(err, &r) && r.StatusCode == http.StatusNotFound && !r.RawError && r.Errors != nil && len(r.Errors) == 0
}

func (s *session) write(ctx context.Context, path string, data map[string]any) (*api.Secret, error) {
	return s.call(ctx, "update", path, func() (*api.Secret, error) { return s.client.Logical().WriteWithContext(ctx, path, data) })
}

// call calls the server with a token that lives. If the server does not take the token, it
// logs in anew and tries again, once.
func (s *session) call(ctx context.Context, capability, path string, f func() (*api.Secret, error)) (*api.Secret, error) {
	round, err := s.ready(ctx, 0)
	if err != nil {
		return nil, err
	}
	secret, err := f()
	if status(err) == http.StatusForbidden && !s.accepted(ctx) {
		if s.method == nil {
			return nil, fmt.Errorf("%w: %s does not accept the token: it has expired or was revoked; give this process another", keystore.ErrUnavailable, s.config.Address)
		}
		if _, err := s.ready(ctx, round); err != nil {
			return nil, err
		}
		secret, err = f()
	}
	if err != nil {
		return nil, s.explain(ctx, capability, path, err)
	}
	return secret, nil
}

// accepted tells whether the server knows the token. A doubt counts as yes.
func (s *session) accepted(ctx context.Context) bool {
	_, err := s.client.Auth().Token().LookupSelfWithContext(ctx)
	return status(err) != http.StatusForbidden
}

// ready logs in if there has been no later login than used, and returns the number of
// the last.
func (s *session) ready(ctx context.Context, used int) (int, error) {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return 0, unreached(s.config, context.Cause(ctx))
	}
	defer func() { s.turn <- struct{}{} }()
	switch {
	case s.background.Err() != nil:
		return 0, keystore.ErrClosed
	case s.round > used:
		return s.round, nil
	}
	auth := &api.SecretAuth{ClientToken: s.client.Token(), Renewable: true}
	if s.method != nil {
		var err error
		if auth, err = s.login(ctx); err != nil {
			return 0, err
		}
	}
	if auth.ClientToken == "" {
		return 0, fmt.Errorf("%w: there is no token for %s: give this process one, or log in with auth=approle or auth=kubernetes", keystore.ErrUnavailable, s.config.Address)
	}
	if s.stop != nil {
		s.stop()
	}
	s.round++
	keep, stop := context.WithCancel(s.background)
	s.stop = stop
	round := s.round
	s.keeping.Go(func() { s.keep(keep, auth, round) })
	return s.round, nil
}

// login gets a token, which the client then has.
func (s *session) login(ctx context.Context) (*api.SecretAuth, error) {
	method, err := s.method()
	if err != nil { // a file that can't be read, or no secret id; it names the file
		return nil, fmt.Errorf("%w: log in to %s: %w", keystore.ErrUnavailable, s.config.Address, err)
	}
	secret, err := s.client.Auth().Login(ctx, method)
	if err != nil {
		return nil, s.refusedLogin(ctx, err)
	}
	return secret.Auth, nil
}

// keep renews a token for as long as that goes, and then logs in anew.
func (s *session) keep(ctx context.Context, auth *api.SecretAuth, round int) {
	for {
		err := s.renew(ctx, auth)
		// Nobody lets it be renewed further, or it will soon be at the end of its life.
		over := err == nil || status(err) == http.StatusForbidden || status(err) == http.StatusBadRequest || errors.Is(err, api.ErrLifetimeWatcherNotRenewable)
		if over && (s.method == nil || auth.LeaseDuration == 0) {
			return // it may be one that lives on without
		}
		if err != nil { // also of a fresh token, so that nobody logs in again and again
			wait(ctx, s.pause)
		}
		for over && ctx.Err() == nil {
			if _, err = s.ready(ctx, round); err == nil {
				return // another keeps what that login gave
			}
			pause := s.pause
			if errors.Is(err, errRefused) {
				pause = s.refusedPause
			}
			wait(ctx, pause)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// renew renews a token again and again until that fails, or it is about to run out.
func (s *session) renew(ctx context.Context, auth *api.SecretAuth) error {
	behavior := api.RenewBehavior(api.RenewBehaviorErrorOnErrors)
	if !auth.Renewable { // a batch token, say: it is waited for that its time is nearly over
		behavior = api.RenewBehaviorRenewDisabled
	}
	watcher, err := s.client.NewLifetimeWatcher(&api.LifetimeWatcherInput{
		Secret:        &api.Secret{Auth: auth},
		RenewBehavior: behavior,
	})
	if err != nil {
		return err
	}
	go watcher.Start()
	defer watcher.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-watcher.DoneCh():
			return err
		case <-watcher.RenewCh():
		}
	}
}
