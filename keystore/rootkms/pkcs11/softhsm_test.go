//go:build cgo

package pkcs11

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"
)

// The tokens of these tests are SoftHSM's, in a folder of the test process. A module is
// initialized once per process and reads SOFTHSM2_CONF then: another folder needs another
// process, see child_test.go.

const (
	testPIN   = "1234-user"
	testSOPIN = "1234-officer"
)

func TestMain(m *testing.M) {
	if run, ok := childRoles[os.Getenv("PKCS11_TEST_CHILD")]; ok {
		run()
		return
	}
	if softHSM() == "" {
		fmt.Fprintln(os.Stderr, `NOT TESTED: SoftHSM2 is not installed, and every test here needs a PKCS#11 token.
Install it (Debian and Ubuntu: softhsm2; Fedora: softhsm; Homebrew: softhsm), or name its
libsofthsm2.so in OUBLI_SOFTHSM2_MODULE. scripts/test installs it.`)
		os.Exit(1)
	}
	dir, err := os.MkdirTemp("", "oubli-pkcs11-")
	if err == nil {
		err = useFolder(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// useFolder makes SoftHSM keep its tokens in dir/tokens.
func useFolder(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "tokens"), 0o700); err != nil {
		return err
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	os.Setenv("SOFTHSM2_CONF", conf)
	text := fmt.Sprintf("directories.tokendir = %s/tokens\nobjectstore.backend = file\nlog.level = ERROR\n", dir)
	return os.WriteFile(conf, []byte(text), 0o600)
}

// softHSM returns the path of the module, or "".
func softHSM() string {
	patterns := []string{
		os.Getenv("OUBLI_SOFTHSM2_MODULE"),
		"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/*/softhsm/libsofthsm2.so",
		"/usr/lib64/pkcs11/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so", "/usr/lib64/libsofthsm2.so",
		"/usr/local/lib/softhsm/libsofthsm2.so", "/opt/homebrew/lib/softhsm/libsofthsm2.so",
	}
	for _, p := range patterns {
		if found, _ := filepath.Glob(p); p != "" && len(found) > 0 {
			return found[0]
		}
	}
	return ""
}

var tokens struct {
	sync.Mutex
	made int
}

// newToken makes a token and returns how to open it.
func newToken(t *testing.T) Config {
	t.Helper()
	tokens.Lock()
	defer tokens.Unlock()
	tokens.made++
	c := Config{Token: fmt.Sprintf("token-%d", tokens.made), Module: softHSM(), PIN: pin(testPIN)}
	initToken(t, c.Token)
	return c
}

func pin(s string) func() (string, error) { return func() (string, error) { return s, nil } }

// initToken makes a token of that label, which may be there already.
func initToken(t *testing.T, label string) {
	t.Helper()
	m := testModule(t)
	known := map[uint]bool{}
	slots, err := m.GetSlotList(true)
	require.NoError(t, err)
	free := uint(0)
	for _, slot := range slots {
		info, err := m.GetTokenInfo(slot)
		require.NoError(t, err)
		if info.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
			free = slot
		} else {
			known[slot] = true
		}
	}
	require.NoError(t, m.InitToken(free, testSOPIN, label))
	slots, err = m.GetSlotList(true)
	require.NoError(t, err)
	for _, slot := range slots {
		info, err := m.GetTokenInfo(slot)
		require.NoError(t, err)
		if info.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 || known[slot] {
			continue
		}
		require.Equal(t, label, strings.TrimRight(info.Label, " \x00"))
		s, err := m.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		require.NoError(t, err)
		require.NoError(t, m.Login(s, pkcs11.CKU_SO, testSOPIN))
		require.NoError(t, m.InitPIN(s, testPIN))
		require.NoError(t, m.Logout(s))
		require.NoError(t, m.CloseSession(s))
		return
	}
	t.Fatal("the new token is not there")
}

// testModule gives tests what cryptoki leaves out.
func testModule(t *testing.T) *pkcs11.Ctx {
	t.Helper()
	m, err := load(softHSM())
	require.NoError(t, err)
	return m.(module).Ctx
}

// someKey is the name of a key that the token may have made, and did not.
func someKey(k *Keys) string { return nameOf(k.serial, bytes.Repeat([]byte{0xab}, idSize)) }

// openKeys opens the token for the test, through faulty if that is not nil.
func openKeys(t *testing.T, c Config, faulty func(cryptoki) cryptoki) *Keys {
	t.Helper()
	var m cryptoki = module{testModule(t)}
	if faulty != nil {
		m = faulty(m)
	}
	k, err := open(t.Context(), c, m)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, k.Close()) })
	return k
}
