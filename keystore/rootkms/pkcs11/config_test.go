package pkcs11

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

func TestParse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "the pin")
	require.NoError(t, os.WriteFile(file, []byte("a b\r\n"), 0o600))

	c, err := Parse("pkcs11:token=my%20token%3b;serial=00ff?module-path=/usr/lib/x.so&pin-source=file:" +
		strings.ReplaceAll(file, " ", "%20"))
	require.NoError(t, err)
	require.Equal(t, "my token;", c.Token)
	require.Equal(t, "00ff", c.Serial)
	require.Equal(t, "/usr/lib/x.so", c.Module)
	pin, err := c.PIN()
	require.NoError(t, err)
	require.Equal(t, "a b", pin)
	require.NoError(t, c.check())

	again, err := Parse(c.url())
	require.NoError(t, err, "what a Place says can be parsed")
	require.Equal(t, c.url(), again.url())
	require.ErrorContains(t, again.check(), "module-path is missing")
	again.Module = c.Module
	require.ErrorContains(t, again.check(), "pin-source is missing")

	c, err = Parse("pkcs11:token=x?replaces=an%2Fother+2,7")
	require.NoError(t, err)
	require.Equal(t, []string{"an/other+2", "7"}, c.Replaces)
	require.Equal(t, "pkcs11:token=x", c.url(), "it is the same place")

	for _, source := range []string{"file:///a/b", "/a/b"} {
		c, err := Parse("pkcs11:token=x?pin-source=" + source)
		require.NoError(t, err)
		_, err = c.PIN()
		require.ErrorIs(t, err, os.ErrNotExist)
		require.ErrorContains(t, err, " /a/b:")
	}
}

func TestParseRefuses(t *testing.T) {
	for url, why := range map[string]string{
		"":                                   "does not begin with pkcs11:",
		"file:/a":                            "does not begin with pkcs11:",
		"pkcs11:":                            "names no token",
		"pkcs11:token=":                      "token is empty",
		"pkcs11:token":                       "not NAME=VALUE",
		"pkcs11:token=%zz":                   "token is empty or not percent-encoded",
		"pkcs11:token=a%00b":                 "token is empty or not percent-encoded",
		"pkcs11:token=a;token=b":             "has token twice",
		"pkcs11:token=a;slot-id=1":           `"slot-id" is not known`,
		"pkcs11:token=a;module-path=/a":      `"module-path" is not known`,
		"pkcs11:token=a?module-path=x.so":    "module-path is not an absolute path",
		"pkcs11:token=a?module-name=softhsm": `"module-name" is not known`,
		"pkcs11:token=a?pin-source=|geheim":  "pin-source is not file:",
		"pkcs11:token=a?pin-source=env:X":    "pin-source is not file:",
		"pkcs11:token=a?pin-value=geheim":    "a PIN does not belong in a URL",
		"pkcs11:token=a?geheim":              "not NAME=VALUE",
	} {
		_, err := Parse(url)
		require.ErrorIs(t, err, keystore.ErrInvalid, url)
		require.ErrorContains(t, err, why, url)
		require.NotContains(t, err.Error(), "geheim", url)
	}
}

func TestPINFile(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"empty": "", "blank": "\n", "two": "geheim\ngeheim\n", "zero": "ge\x00heim", "long": strings.Repeat("geheim", 50),
	} {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		_, err := readPIN(file)
		require.ErrorContains(t, err, file+" holds no PIN", name)
		require.NotContains(t, err.Error(), "geheim", name)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("pkcs11:token=oubli;serial=1?module-path=/x&pin-source=file:/y")
	f.Add("pkcs11:token=%41%20;;?&&")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Parse(s)
		if err != nil {
			require.ErrorIs(t, err, keystore.ErrInvalid)
			return
		}
		again, err := Parse(c.url())
		require.NoError(t, err)
		require.Equal(t, c.Token, again.Token)
		require.Equal(t, c.Serial, again.Serial)
	})
}
