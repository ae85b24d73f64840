package gcpkms

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/oubli/oubli/keystore"
)

// Config says which CryptoKey of Cloud KMS to use. It must serve one root store and nothing
// else.
type Config struct {
	Key string // projects/P/locations/L/keyRings/R/cryptoKeys/K
}

const keyPattern = `projects/([a-z0-9.:-]{1,100})/locations/([a-z0-9-]{1,63})/keyRings/([A-Za-z0-9_-]{1,63})/cryptoKeys/([A-Za-z0-9_-]{1,63})`

var (
	keyForm     = regexp.MustCompile(`^` + keyPattern + `$`)
	versionForm = regexp.MustCompile(`^(` + keyPattern + `)/cryptoKeyVersions/[1-9][0-9]{0,9}$`)
)

// Parse reads the URL of a CryptoKey: gcpkms: and its resource name. It has no parameters.
// Errors wrap [keystore.ErrInvalid].
func Parse(s string) (Config, error) {
	rest, ok := strings.CutPrefix(s, "gcpkms:")
	if !ok {
		return Config{}, fmt.Errorf("%w: a place in Google Cloud KMS is named gcpkms:projects/…", keystore.ErrInvalid)
	}
	if key, query, ok := strings.Cut(rest, "?"); ok {
		name, _, _ := strings.Cut(query, "=")
		return Config{}, fmt.Errorf("%w: gcpkms:%s has no parameter %q", keystore.ErrInvalid, key, name)
	}
	c := Config{Key: rest}
	return c, c.check()
}

func (c Config) check() error {
	if !keyForm.MatchString(c.Key) {
		return fmt.Errorf("%w: gcpkms: is followed by the name of a CryptoKey, projects/P/locations/L/keyRings/R/cryptoKeys/K", keystore.ErrInvalid)
	}
	return nil
}
