package roottransit

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/hashicorp/vault/api"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
)

// shelf is a folder of a KV engine of version 2. A document's revision is its version
// there, which only grows. A document that was deleted is one without a value: the engine
// deletes without comparing.
type shelf struct {
	session *session
	config  *Config
}

var _ rootkms.Shelf = (*shelf)(nil)

// field holds the value of a document, in base64.
const field = "value"

// Name implements rootkms.Shelf.
func (s *shelf) Name() string { return "kv:" + s.config.KV + "/" + s.config.Path }

func (s *shelf) path(name string) string {
	return s.config.KV + "/data/" + s.config.Path + "/" + name
}

// document is a version of a document.
type document struct {
	Data     map[string]string `json:"data"`
	Metadata struct {
		Version int `json:"version"`
	} `json:"metadata"`
}

// Get implements rootkms.Shelf.
func (s *shelf) Get(ctx context.Context, name string) ([]byte, string, error) {
	d, err := s.read(ctx, name)
	if err != nil || d == nil {
		return nil, "", err
	}
	text, ok := d.Data[field]
	if !ok {
		return nil, "", nil
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, "", s.foreign(name)
	}
	return b, strconv.Itoa(d.Metadata.Version), nil
}

// read reads the latest version, nil if there never was one.
func (s *shelf) read(ctx context.Context, name string) (*document, error) {
	secret, err := s.session.read(ctx, s.path(name))
	if err != nil || secret == nil {
		return nil, err
	}
	var d document
	text, err := json.Marshal(secret.Data)
	if err != nil || json.Unmarshal(text, &d) != nil || d.Metadata.Version == 0 {
		return nil, s.foreign(name)
	}
	if d.Data == nil { // of what Delete leaves, the data are empty
		return nil, fmt.Errorf("%w: %s at %s was deleted by somebody: vault kv undelete -versions=%d %s/%s/%s; where it was destroyed, a snapshot of the server has it", keystore.ErrUnavailable,
			s.path(name), s.config.Address, d.Metadata.Version, s.config.KV, s.config.Path, name)
	}
	return &d, nil
}

func (s *shelf) foreign(name string) error {
	return fmt.Errorf("%w: %s at %s is no document of a root store, or the engine is not KV of version 2", keystore.ErrUnavailable, s.path(name), s.config.Address)
}

// Put implements rootkms.Shelf.
func (s *shelf) Put(ctx context.Context, name string, value []byte, rev string) (string, error) {
	return s.put(ctx, name, map[string]any{field: base64.StdEncoding.EncodeToString(value)}, rev)
}

// Delete implements rootkms.Shelf.
func (s *shelf) Delete(ctx context.Context, name string, rev string) error {
	if rev == "" {
		return fmt.Errorf("%w: %s has no revision to be deleted", keystore.ErrConflict, name)
	}
	_, err := s.put(ctx, name, map[string]any{}, rev)
	return err
}

func (s *shelf) put(ctx context.Context, name string, data map[string]any, rev string) (string, error) {
	cas := 0
	if rev == "" {
		d, err := s.read(ctx, name)
		if err != nil {
			return "", err
		}
		if d != nil {
			if _, there := d.Data[field]; there {
				return "", s.conflict(name)
			}
			cas = d.Metadata.Version
		}
	} else {
		var err error
		if cas, err = strconv.Atoi(rev); err != nil || cas <= 0 {
			return "", s.conflict(name)
		}
	}
	ctx = context.WithValue(ctx, onceKey{}, true)
	secret, err := s.session.write(ctx, s.path(name), map[string]any{"data": data, "options": map[string]any{"cas": cas}})
	var r *refusal
	if errors.As(err, &r) && r.status == http.StatusBadRequest {
		return "", s.refused(ctx, name, rev, cas, err)
	}
	if err != nil {
		return "", err
	}
	return s.written(name, secret)
}

func (s *shelf) conflict(name string) error {
	return fmt.Errorf("%w: %s was written by another", keystore.ErrConflict, s.path(name))
}

// refused tells a lost comparison from other refusals, by what stands there.
func (s *shelf) refused(ctx context.Context, name, rev string, cas int, err error) error {
	d, readErr := s.read(ctx, name)
	switch {
	case readErr != nil:
		return readErr
	case d == nil && rev == "", d != nil && d.Metadata.Version == cas:
		return err // it compares well
	}
	return s.conflict(name)
}

// written reads the answer to a write.
func (s *shelf) written(name string, secret *api.Secret) (string, error) {
	if secret == nil {
		return "", s.foreign(name)
	}
	if until, _ := secret.Data["deletion_time"].(string); until != "" {
		return "", fmt.Errorf("%w: %s at %s would be deleted by itself on %s: vault write %s/config delete_version_after=0s", keystore.ErrUnavailable, s.path(name), s.config.Address, until, s.config.KV)
	}
	number, ok := secret.Data["version"].(json.Number)
	if !ok {
		return "", s.foreign(name)
	}
	return number.String(), nil
}
