package roottransit

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/hashicorp/vault/api"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
)

// tries bounds how often limits are set anew because others change them at the same time.
const tries = 16

// keys are the versions of a transit key, as rootkms.Keys.
type keys struct {
	session *session
	config  *Config
}

var _ rootkms.Keys = (*keys)(nil)

// Place implements rootkms.Keys.
func (k *keys) Place() keystore.Place {
	versions := scheme + k.config.Address + "/" + k.config.Mount + "/" + k.config.Key + "?namespace=" + k.config.Namespace
	return keystore.Place{URL: k.config.URL(), Class: keystore.ClassEffaceable, Versions: versions}
}

func (k *keys) path(suffix string) string { return k.config.Mount + "/keys/" + k.config.Key + suffix }

// read reads the state of the key, nil if there is no such key.
func (k *keys) read(ctx context.Context) (*key, error) {
	secret, err := k.session.read(ctx, k.path(""))
	if err != nil || secret == nil {
		return nil, err
	}
	return k.parse(secret)
}

func (k *keys) parse(secret *api.Secret) (*key, error) {
	state, ok := parseKey(secret)
	if !ok {
		return nil, fmt.Errorf("%w: %s is no transit engine, or an old one: it does not tell the state of the key %s; it takes Vault 1.14 or OpenBao, or later",
			keystore.ErrUnavailable, k.where(), k.config.Key)
	}
	return state, nil
}

func (k *keys) where() string { return k.config.Address + "/" + k.config.Mount }

// missing says that the key is not there, which makes no new one.
func (k *keys) missing() string {
	return fmt.Sprintf("%s has no key %s: it was never made, or was deleted with all roots that it wrapped, which only a snapshot of the server brings back", k.where(), k.config.Key)
}

// Make implements rootkms.Keys. The engine answers a rotation with the state that it left,
// under its own lock: the latest version there is this caller's, however many rotate.
func (k *keys) Make(ctx context.Context, _ keystore.StoreID, _ keystore.RootID) (string, error) {
	state, err := k.rotate(ctx)
	if err != nil {
		return "", err
	}
	return version{state.Latest, state.Keys[strconv.Itoa(state.Latest)]}.String(), nil
}

func (k *keys) rotate(ctx context.Context) (*key, error) {
	secret, err := k.session.write(ctx, k.path("/rotate"), nil)
	if refused(err) {
		if state, err := k.read(ctx); err == nil && state == nil {
			return nil, fmt.Errorf("%w: %s", keystore.ErrUnavailable, k.missing())
		}
	}
	if err != nil {
		return nil, err
	}
	return k.parse(secret)
}

// Wrap implements rootkms.Keys. The state is read first: to encrypt under a key that is
// not there would make one, where the token may.
func (k *keys) Wrap(ctx context.Context, name string, secret, ad []byte) ([]byte, error) {
	v, ok := parseVersion(name)
	if !ok {
		return nil, fmt.Errorf("%w: %q is no version of a transit key", keystore.ErrNotFound, name)
	}
	state, err := k.read(ctx)
	if err != nil {
		return nil, err
	}
	if state.of(v) != living {
		return nil, k.lost(state, v)
	}
	out, err := k.session.write(ctx, k.config.Mount+"/encrypt/"+k.config.Key, request(map[string]any{
		"plaintext":   base64.StdEncoding.EncodeToString(secret),
		"key_version": v.number,
	}, ad))
	if err != nil {
		return nil, err
	}
	wrapped, _ := value(out, "ciphertext")
	if !bytes.HasPrefix([]byte(wrapped), v.prefix()) {
		return nil, fmt.Errorf("%w: %s did not wrap under version %d of key %s", keystore.ErrUnavailable, k.where(), v.number, k.config.Key)
	}
	return []byte(wrapped), nil
}

// prefix of what the engine wraps under a version.
func (v version) prefix() []byte { return fmt.Appendf(nil, "vault:v%d:", v.number) }

// request adds associated data to a request.
func request(data map[string]any, ad []byte) map[string]any {
	if len(ad) > 0 {
		data["associated_data"] = base64.StdEncoding.EncodeToString(ad)
	}
	return data
}

// value is a text in an answer.
func value(secret *api.Secret, name string) (string, bool) {
	if secret == nil {
		return "", false
	}
	text, ok := secret.Data[name].(string)
	return text, ok
}

// Unwrap implements rootkms.Keys. Why the engine refuses, the state of the key tells: its
// words are not the same in every version.
func (k *keys) Unwrap(ctx context.Context, name string, wrapped, ad []byte) ([]byte, error) {
	v, ok := parseVersion(name)
	if !ok {
		return nil, fmt.Errorf("%w: %q is no version of a transit key", keystore.ErrNotFound, name)
	}
	if !bytes.HasPrefix(wrapped, v.prefix()) {
		return nil, k.judge(ctx, v)
	}
	out, err := k.session.write(ctx, k.config.Mount+"/decrypt/"+k.config.Key, request(map[string]any{"ciphertext": string(wrapped)}, ad))
	if refused(err) {
		return nil, k.judge(ctx, v)
	}
	if err != nil {
		return nil, err
	}
	text, _ := value(out, "plaintext")
	secret, err := base64.StdEncoding.DecodeString(text)
	if err != nil || text == "" {
		return nil, fmt.Errorf("%w: %s answered a decryption with something else", keystore.ErrUnavailable, k.where())
	}
	return secret, nil
}

// judge says why something can't be unwrapped: its version is lost, or did not wrap it.
func (k *keys) judge(ctx context.Context, v version) error {
	state, err := k.read(ctx)
	switch {
	case err != nil:
		return err
	case state.of(v) != living:
		return k.lost(state, v)
	}
	return fmt.Errorf("%w: version %d of key %s at %s did not wrap this, with this associated data", keystore.ErrTampered, v.number, k.config.Key, k.where())
}

// lost says what has become of a version that can't be used. It wraps ErrNotFound.
func (k *keys) lost(state *key, v version) error {
	var text string
	switch {
	case state == nil:
		text = k.missing()
	case state.of(v) == trimmed:
		text = fmt.Sprintf("version %d of key %s at %s was trimmed (everything below %d was): it is gone for good, but for snapshots of the server", v.number, k.config.Key, k.where(), state.MinAvailable)
	case state.of(v) == barred && state.SoftDeleted:
		text = fmt.Sprintf("key %s at %s is deleted, softly: an administrator brings it back with bao write -f %s", k.config.Key, k.where(), k.path("/soft-delete-restore"))
	case state.of(v) == barred:
		text = fmt.Sprintf("version %d of key %s at %s is below min_decryption_version %d and not trimmed: where it should live, an administrator lowers that limit to %d", v.number, k.config.Key, k.where(), state.MinDecrypt, v.number)
	case v.number > state.Latest:
		text = fmt.Sprintf("version %d of key %s is not at %s, where %d is the latest: the key was made again after it was deleted, or the server came back from a snapshot", v.number, k.config.Key, k.where(), state.Latest)
	default:
		text = fmt.Sprintf("version %d of key %s at %s is another than that was: the key was made again after it was deleted, or the server came back from a snapshot", v.number, k.config.Key, k.where())
	}
	return fmt.Errorf("%w: %s", keystore.ErrNotFound, text)
}

// Destroy implements rootkms.Keys: the limits go above the highest of the versions, and what
// is below is trimmed. Where there is no higher version, one is made.
func (k *keys) Destroy(ctx context.Context, names []string) error {
	for range tries {
		state, err := k.read(ctx)
		if err != nil {
			return err
		}
		above := 0
		for _, name := range names {
			// A version that is not the one that was named is left alone.
			if v, ok := parseVersion(name); ok && (state.of(v) == living || state.of(v) == barred) {
				above = max(above, v.number+1)
			}
		}
		if above == 0 {
			return nil
		}
		if err := k.trim(ctx, state, above); err != nil && !refused(err) {
			return err
		}
		// Refused: somebody else moved the limits meanwhile. What was done is looked at.
	}
	return fmt.Errorf("%w: %s did not destroy versions of key %s in %d tries; others change its limits at the same time", keystore.ErrUnavailable, k.where(), k.config.Key, tries)
}

// trim destroys the versions below one.
func (k *keys) trim(ctx context.Context, state *key, above int) error {
	if above > state.Latest {
		if _, err := k.rotate(ctx); err != nil {
			return err
		}
	}
	if state.MinDecrypt < above || state.MinEncrypt < above {
		if err := k.limit(ctx, max(above, state.MinDecrypt), max(above, state.MinEncrypt)); err != nil {
			return err
		}
	}
	_, err := k.session.write(ctx, k.path("/trim"), map[string]any{"min_available_version": above})
	return err
}

// limit sets the lowest versions that decrypt and encrypt.
func (k *keys) limit(ctx context.Context, decrypt, encrypt int) error {
	_, err := k.session.write(ctx, k.path("/config"), map[string]any{
		"min_decryption_version": decrypt,
		"min_encryption_version": encrypt,
	})
	return err
}

// State implements rootkms.Keys.
func (k *keys) State(ctx context.Context, names []string) ([]rootkms.KeyState, error) {
	if len(names) == 0 {
		return nil, nil
	}
	state, err := k.read(ctx)
	if err != nil {
		return nil, err
	}
	if state.foreign() {
		return nil, fmt.Errorf("%w: key %s at %s is of the type %s: it is not the one that wrapped roots, of which it tells nothing", keystore.ErrUnavailable, k.config.Key, k.where(), state.Type)
	}
	states := make([]rootkms.KeyState, len(names))
	for i, name := range names {
		if v, ok := parseVersion(name); ok {
			states[i].Fate = map[what]rootkms.Fate{absent: rootkms.Gone, trimmed: rootkms.Gone, barred: rootkms.Barred, living: rootkms.Living}[state.of(v)]
		}
	}
	return states, nil
}

// Before implements rootkms.Keys: trimming takes every older version along.
func (k *keys) Before(living, dead []string) (list []string) {
	above := 0
	for _, name := range dead {
		if v, ok := parseVersion(name); ok {
			above = max(above, v.number)
		}
	}
	for _, name := range living {
		if v, ok := parseVersion(name); ok && v.number <= above && !slices.Contains(dead, name) {
			list = append(list, name)
		}
	}
	return list
}

// Undo implements rootkms.Keys: it lowers the limits again. That brings a version back that
// was not trimmed.
func (k *keys) Undo(ctx context.Context, names []string) error {
	state, err := k.read(ctx)
	if err != nil {
		return err
	}
	if state == nil {
		return fmt.Errorf("%w: %s", keystore.ErrNotFound, k.missing())
	}
	lowest := 0
	for _, name := range names {
		if v, ok := parseVersion(name); ok && (lowest == 0 || v.number < lowest) {
			lowest = v.number
		}
	}
	if lowest == 0 {
		return fmt.Errorf("%w: nothing was named that could be brought back", keystore.ErrNotFound)
	}
	err = k.limit(ctx, lowest, lowest)
	if !refused(err) {
		return err
	}
	// What is left is to bring back what was only barred.
	if least := max(1, state.MinAvailable); least < state.MinDecrypt {
		err = errors.Join(err, k.limit(ctx, least, least))
	}
	return err
}

// Check implements rootkms.Keys.
func (k *keys) Check(ctx context.Context) error {
	state, err := k.read(ctx)
	if err != nil {
		return err
	}
	if state == nil {
		return fmt.Errorf("%w: %s; the commands of oubli root policy make it", keystore.ErrUnavailable, k.missing())
	}
	write := "vault write " + k.path("/config") + " "
	anew := "make another key, and move there with oubli root move; it can't be unset"
	for _, c := range []struct {
		is       bool
		what, do string
	}{
		{state.foreign(), "is of the type " + state.Type, "make one of the type " + symmetric[0]},
		{state.SoftDeleted, "is deleted, softly, so that nothing can be wrapped", "bao write -f " + k.path("/soft-delete-restore")},
		{state.DeletionAllowed, "may be deleted, and every root would be lost with it", write + "deletion_allowed=false"},
		{state.Exportable, "may be exported, so that trimming a version does not destroy it", anew},
		{state.PlaintextBackup, "may be backed up in plaintext, so that trimming a version does not destroy it", anew},
		{state.Derived || state.Convergent, "derives the keys that it encrypts with, so that they can be derived again", anew},
		{state.Imported, "was imported, and is known elsewhere", "make one that the engine makes itself"},
	} {
		if c.is {
			return fmt.Errorf("%w: key %s at %s %s: %s", keystore.ErrMismatch, k.config.Key, k.where(), c.what, c.do)
		}
	}
	return nil
}
