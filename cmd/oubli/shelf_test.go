package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseKMS(t *testing.T) {
	for url, want := range map[string]kmsURL{
		"awskms:eu-central-1?shelf=bolt:a":                                 {keys: "awskms:eu-central-1", shelf: "bolt:a"},
		"awskms:r?imported=false&shelf=postgres://u:p?w@h/d?a=b&shelf=c":   {keys: "awskms:r?imported=false", shelf: "postgres://u:p?w@h/d?a=b&shelf=c"},
		"awskms:r?copies=720h&shelf=bolt:a":                                {keys: "awskms:r", copies: 720 * time.Hour, shelf: "bolt:a"},
		"pkcs11:token=a;serial=1?x=1&copies=1h&y=2&shelf=bolt:b?shelf=c&d": {keys: "pkcs11:token=a;serial=1?x=1&y=2", copies: time.Hour, shelf: "bolt:b?shelf=c&d"},
		"gcpkms:projects/p?shelf=bolt:a?copies=1h":                         {keys: "gcpkms:projects/p", shelf: "bolt:a?copies=1h"},
		"gcpkms:projects/p?shelf=":                                         {keys: "gcpkms:projects/p"},
	} {
		got, err := parseKMS(url)
		require.NoError(t, err, url)
		require.Equal(t, want, got, url)
	}
	for _, url := range []string{"awskms:r", "awskms:r?myshelf=bolt:a", "awskms:r?copies=-1h&shelf=bolt:a", "awskms:r?copies=&shelf=bolt:a"} {
		_, err := parseKMS(url)
		require.ErrorAs(t, err, new(usageError), url)
	}
}

// A shelf is named as the keystore remembers it, or as users write it.
func TestShelfLocation(t *testing.T) {
	for url, want := range map[string]database{
		"postgres://h/d":                                  {dsn: "postgres://h/d"},
		"postgres://h/d?schema=s":                         {dsn: "postgres://h/d"},
		"postgres://u@h/d?sslmode=require&schema=s&a=1":   {dsn: "postgres://u@h/d?sslmode=require&a=1"},
		"postgresql://h/d?schema=s&application_name=s%20": {dsn: "postgresql://h/d?application_name=s%20"},
	} {
		at, err := shelfLocation(url)
		require.NoError(t, err, url)
		want.o.Schema = "s"
		if url == "postgres://h/d" {
			want.o.Schema = shelfSchema
		}
		require.Equal(t, want, at, url)
	}
	at, err := shelfLocation("bolt:/a/b?schema=c")
	require.NoError(t, err)
	require.Equal(t, boltFile{"/a/b?schema=c"}, at)
}

// What belongs to the service must not go unheeded: without copies=, an erasure would count
// as final too early.
func TestServiceParametersBehindTheShelf(t *testing.T) {
	for _, url := range []string{"bolt:a.shelf&copies=720h", "bolt:a.shelf?copies=720h", "postgres://h/d?schema=s&copies=720h", "postgres://h/d?imported=false", "bolt:a&window=240h", "bolt:a&pin-source=file:pin", "bolt:a&module-path=m.so"} {
		_, err := shelfLocation(url)
		require.ErrorAs(t, err, new(usageError), url)
		require.ErrorContains(t, err, "has to stand before shelf=", url)
	}
}
