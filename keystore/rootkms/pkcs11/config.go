package pkcs11

import (
	"bytes"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/oubli/oubli/keystore"
)

// Config says which token, and how to get at it.
type Config struct {
	Token  string // its label
	Serial string // its serial number; needed where two tokens have that label
	Module string // path of the shared library that speaks PKCS#11

	// Replaces are serial numbers of tokens that made keys, which were then taken over to
	// this one, as by a backup. Of a key that another token made, and this one does not have,
	// it is not believed that it was destroyed, unless the other is named here: then its
	// contents must be destroyed, too.
	Replaces []string

	// PIN returns the user's PIN. It is asked at each login, which is one per process
	// unless the token was away. A PIN that the token refused is not tried again.
	PIN func() (string, error)
}

// Parse reads a URL as RFC 7512 defines them, of which it knows this much:
//
//	pkcs11:token=LABEL;serial=NUMBER?module-path=/PATH&pin-source=file:/PATH
//
// and replaces=NUMBER,NUMBER beside it, for [Config.Replaces].
// Only token must be there; [Open] needs module-path and pin-source as well. The file
// holds the PIN and perhaps a newline; it is read at each login, not by Parse. A PIN in a
// URL is refused. Errors wrap [keystore.ErrInvalid] and repeat no values.
func Parse(s string) (Config, error) {
	var c Config
	rest, ok := strings.CutPrefix(s, scheme)
	if !ok {
		return c, invalid("it does not begin with " + scheme)
	}
	path, query, _ := strings.Cut(rest, "?")
	err := attributes(path, ";", map[string]func(string) error{
		"token":  set(&c.Token),
		"serial": set(&c.Serial),
	})
	if err != nil {
		return Config{}, err
	}
	err = attributes(query, "&", map[string]func(string) error{
		"module-path": func(v string) error {
			if !filepath.IsAbs(v) {
				return invalid("module-path is not an absolute path")
			}
			c.Module = v
			return nil
		},
		"pin-source": func(v string) error {
			file := strings.TrimPrefix(strings.TrimPrefix(v, "file:"), "//")
			if !filepath.IsAbs(file) {
				return invalid("pin-source is not file: and an absolute path")
			}
			c.PIN = func() (string, error) { return readPIN(file) }
			return nil
		},
		"replaces": func(v string) error {
			c.Replaces = strings.Split(v, ",")
			return nil
		},
		"pin-value": func(string) error {
			return invalid("pin-value: a PIN does not belong in a URL; put it in a file and name that with pin-source")
		},
	})
	if err != nil {
		return Config{}, err
	}
	if c.Token == "" {
		return Config{}, invalid("it names no token: pkcs11:token=LABEL")
	}
	return c, nil
}

const (
	scheme       = "pkcs11:"
	maxLabel     = 32 // CK_TOKEN_INFO
	maxSerial    = 16
	maxPIN       = 256
	pinSourceFix = "the file that pin-source names holds the PIN and nothing else"
)

// attributes gives each name=value of s to the function of its name, unescaped.
func attributes(s, separator string, known map[string]func(string) error) error {
	seen := map[string]bool{}
	for a := range strings.SplitSeq(s, separator) {
		if a == "" {
			continue
		}
		name, value, ok := strings.Cut(a, "=")
		take := known[name]
		switch {
		case !ok:
			return invalid("one of its attributes is not NAME=VALUE")
		case take == nil:
			return invalid(fmt.Sprintf("attribute %q is not known here", name))
		case seen[name]:
			return invalid("it has " + name + " twice")
		}
		seen[name] = true
		value, err := url.PathUnescape(value)
		if err != nil || value == "" || strings.ContainsRune(value, 0) {
			return invalid(name + " is empty or not percent-encoded as it should be")
		}
		if err := take(value); err != nil {
			return err
		}
	}
	return nil
}

func set(to *string) func(string) error {
	return func(v string) error { *to = v; return nil }
}

// check refuses what can never be right.
func (c Config) check() error {
	switch {
	case c.Token == "" || len(c.Token) > maxLabel:
		return invalid(fmt.Sprintf("a token's label has 1 to %d bytes", maxLabel))
	case len(c.Serial) > maxSerial:
		return invalid(fmt.Sprintf("a token's serial number has at most %d bytes", maxSerial))
	case c.Module == "":
		return invalid("module-path is missing: the path of the token's PKCS#11 library on this host")
	case c.PIN == nil:
		return invalid("pin-source is missing: pin-source=file:/PATH of a file that holds the user's PIN")
	}
	return nil
}

// url names the token, and not how this host gets at it: module-path and pin-source may
// differ from host to host.
func (c Config) url() string {
	s := scheme + "token=" + escape(c.Token)
	if c.Serial != "" {
		s += ";serial=" + escape(c.Serial)
	}
	return s
}

// escape is the inverse of url.PathUnescape for any part of a URL.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

func invalid(what string) error {
	return fmt.Errorf("pkcs11 URL: %w: %s", keystore.ErrInvalid, what)
}

func readPIN(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPIN+3))
	if err != nil {
		return "", err
	}
	pin := bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	if len(pin) == 0 || len(pin) > maxPIN || bytes.ContainsAny(pin, "\x00\r\n") {
		return "", fmt.Errorf("%s holds no PIN (%s)", path, pinSourceFix)
	}
	return string(pin), nil
}
