package roottransit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/oubli/oubli/keystore"
)

// status is the HTTP status that a call failed with, 0 if it was not answered or did not
// fail.
func status(err error) int {
	var r *api.ResponseError
	if errors.As(err, &r) {
		return r.StatusCode
	}
	return 0
}

// refusal is an error that the server answered with. Err wraps [keystore.ErrUnavailable].
type refusal struct {
	status int
	own    bool // in the words of Vault
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// refused tells whether a call failed because of what was asked, rather than of who asked,
// of the server, or of something in between that does not speak as Vault does.
func refused(err error) bool {
	var r *refusal
	return errors.As(err, &r) && r.own && (r.status == http.StatusBadRequest || r.status == http.StatusNotFound)
}

// unreached is the error for a server that did not answer.
func unreached(c *Config, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // without the URL, which is in the text already
	}
	return fmt.Errorf("%w: %s was not reached: %w; nothing is lost, it goes on when the server is there", keystore.ErrUnavailable, c.Address, err)
}

// explain says what a call failed with, and what to do. It repeats nothing that was sent.
func (s *session) explain(ctx context.Context, capability, path string, err error) error {
	var r *api.ResponseError
	switch {
	case ctx.Err() != nil:
		return unreached(s.config, context.Cause(ctx))
	case !errors.As(err, &r):
		return unreached(s.config, err)
	}
	said := s.said(r)
	if strings.HasPrefix(path, "auth/") && !strings.Contains(said, "sealed") {
		said = "" // it may repeat what was logged in with
	}
	var text string
	switch {
	case r.StatusCode == http.StatusServiceUnavailable && strings.Contains(said, "sealed"):
		text = "is sealed: unseal it; nothing is lost, it goes on then"
	case r.StatusCode == http.StatusForbidden:
		text = fmt.Sprintf("does not let this token %s %s: its policy needs path %q { capabilities = [%q] }, and the parameters as oubli root policy prints them", capability, path, path, capability)
	case r.StatusCode == http.StatusNotFound && capability == "read":
		text = fmt.Sprintf("has no engine for %s%s: was it moved, or is the namespace another?", path, said)
	default:
		text = fmt.Sprintf("answered %d to %s of %s%s", r.StatusCode, capability, path, said)
	}
	return &refusal{status: r.StatusCode, own: !r.RawError, err: fmt.Errorf("%w: %s %s", keystore.ErrUnavailable, s.config.Address, text)}
}

// said is what the server wrote, if it is the server's own words and holds no secret of
// ours.
func (s *session) said(r *api.ResponseError) string {
	text := strings.Join(strings.Fields(strings.Join(r.Errors, ", ")), " ")
	token := s.client.Token()
	if r.RawError || text == "" || len(text) > 300 || token != "" && strings.Contains(text, token) {
		return ""
	}
	return ": " + text
}

// errRefused: who logs in was not let in.
var errRefused = fmt.Errorf("%w", keystore.ErrUnavailable)

// refusedLogin says what a login failed with.
func (s *session) refusedLogin(ctx context.Context, err error) error {
	var r *api.ResponseError
	switch {
	case ctx.Err() != nil:
		return unreached(s.config, context.Cause(ctx))
	case errors.As(err, &r) && (r.StatusCode >= 500 || r.StatusCode == http.StatusTooManyRequests):
		return s.explain(ctx, "update", "auth/"+s.config.authMount()+"/login", err)
	case errors.As(err, &r):
		return fmt.Errorf("%w: %s refused the login at auth/%s (status %d): check the role, and that its secret was not revoked and has not expired", errRefused,
			s.config.Address, s.config.authMount(), r.StatusCode)
	}
	var u *url.Error
	if errors.As(err, &u) {
		return unreached(s.config, err)
	}
	return fmt.Errorf("%w: log in to %s: %w", keystore.ErrUnavailable, s.config.Address, err)
}
