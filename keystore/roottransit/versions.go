package roottransit

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/vault/api"
)

// version is a version of the transit key, as its name tells: 7-1763800000, the number and
// the second in which the engine made it. The second tells it from a version of the same
// number that a Vault made after it was restored from a snapshot, or after the key was
// deleted and made again.
type version struct {
	number int
	made   int64
}

func (v version) String() string { return fmt.Sprintf("%d-%d", v.number, v.made) }

// parseVersion reads a name; ok is false for one that String never gave.
func parseVersion(name string) (v version, ok bool) {
	number, made, _ := strings.Cut(name, "-")
	var err, err2 error
	v.number, err = strconv.Atoi(number)
	v.made, err2 = strconv.ParseInt(made, 10, 64)
	return v, err == nil && err2 == nil && v.number > 0 && v.String() == name
}

// key is the state of the transit key, as the engine tells it.
type key struct {
	Type         string `json:"type"`
	Latest       int    `json:"latest_version"`
	MinAvailable int    `json:"min_available_version"`  // what is below was trimmed; 0: nothing was
	MinDecrypt   int    `json:"min_decryption_version"` // what is below is barred
	MinEncrypt   int    `json:"min_encryption_version"`

	// Keys are the versions from MinDecrypt on, with the second in which each was made.
	Keys map[string]int64 `json:"keys"`

	Derived         bool `json:"derived"`
	Convergent      bool `json:"convergent_encryption"`
	DeletionAllowed bool `json:"deletion_allowed"`
	Exportable      bool `json:"exportable"`
	PlaintextBackup bool `json:"allow_plaintext_backup"`
	Imported        bool `json:"imported_key"`
	SoftDeleted     bool `json:"soft_deleted"` // by OpenBao: no version can be used until it is restored
}

// symmetric are the types of keys that wrap roots.
var symmetric = []string{"aes256-gcm96", "chacha20-poly1305"}

// parseKey reads an answer of the engine; ok is false where it does not tell of every
// version what it is, as an older engine, or a newer one that tells it otherwise: a version
// must not seem gone because it was not understood. Of keys of other types only the type counts.
func parseKey(secret *api.Secret) (k *key, ok bool) {
	if secret == nil || secret.Data == nil {
		return nil, false
	}
	text, err := json.Marshal(secret.Data)
	if err != nil {
		return nil, false
	}
	var kind struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(text, &kind) != nil || kind.Type == "" {
		return nil, false
	}
	if !slices.Contains(symmetric, kind.Type) {
		return &key{Type: kind.Type}, true
	}
	k = &key{}
	if json.Unmarshal(text, k) != nil || k.Latest < 1 || k.MinDecrypt < 1 {
		return nil, false
	}
	for v := k.MinDecrypt; v <= k.Latest; v++ {
		if k.Keys[strconv.Itoa(v)] == 0 {
			return nil, false
		}
	}
	return k, true
}

// foreign tells whether the key is of a type that never wrapped a root.
func (k *key) foreign() bool { return k != nil && k.Latest == 0 }

// what has become of a version.
type what int

const (
	absent  what = iota // deleted, or from before a snapshot that Vault was restored from
	trimmed             // gone for good
	barred              // below the limit for decryption, which can be lowered, or softly deleted
	living
)

// of tells what has become of a version. A nil key is one that is not there.
func (k *key) of(v version) what {
	switch {
	case k == nil || v.number > k.Latest:
		return absent
	case v.number < k.MinAvailable:
		return trimmed
	case v.number < k.MinDecrypt:
		return barred
	case k.Keys[strconv.Itoa(v.number)] != v.made:
		return absent
	case k.SoftDeleted:
		return barred
	}
	return living
}
