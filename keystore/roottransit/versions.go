package roottransit

import (
	"encoding/json"
	"fmt"
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
}

// parseKey reads an answer of the engine; ok is false where it holds no state of a
// symmetric key.
func parseKey(secret *api.Secret) (k *key, ok bool) {
	if secret == nil || secret.Data == nil {
		return nil, false
	}
	text, err := json.Marshal(secret.Data)
	if err != nil {
		return nil, false
	}
	// Of an asymmetric key the versions are objects, which does not matter here.
	k = &key{}
	if err := json.Unmarshal(text, k); err != nil {
		var asymmetric struct {
			Type string `json:"type"`
		}
		if json.Unmarshal(text, &asymmetric) != nil {
			return nil, false
		}
		k = &key{Type: asymmetric.Type}
	}
	return k, k.Type != ""
}

// what has become of a version.
type what int

const (
	absent  what = iota // deleted, or from before a snapshot that Vault was restored from
	trimmed             // gone for good
	barred              // below the limit for decryption, which can be lowered
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
	}
	return living
}
