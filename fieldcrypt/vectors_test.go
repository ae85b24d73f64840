package fieldcrypt

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

// A vector is a file under testdata/vectors: lines of "name: value", in any order.
//
//	expect     open, blank, tampered or newer
//	comment    what the file shows
//	key-id     the person's only data key, in hex, its key and purpose
//	key
//	purpose
//	subject    what the row says about itself; a row without "row-key" has none
//	table
//	field
//	row-key
//	text       what is stored: the text form, or
//	binary     the binary form, in hex
//	plaintext  what comes out
type vector map[string]string

func readVectors(t *testing.T) map[string]vector {
	files, err := filepath.Glob("testdata/vectors/*.txt")
	require.NoError(t, err)
	require.Greater(t, len(files), 20)
	vectors := map[string]vector{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		v := vector{}
		for line := range strings.SplitSeq(strings.TrimSuffix(string(data), "\n"), "\n") {
			name, value, ok := strings.Cut(line, ":")
			require.True(t, ok, "%s: %q", file, line)
			v[name] = strings.ReplaceAll(strings.TrimPrefix(value, " "), `\n`, "\n")
		}
		vectors[strings.TrimSuffix(filepath.Base(file), ".txt")] = v
	}
	return vectors
}

func TestVectorsFromTheSpecificationAlone(t *testing.T) {
	for name, v := range readVectors(t) {
		t.Run(name, func(t *testing.T) {
			plain, outcome := readBySpec(t, v)
			require.Equal(t, v["expect"], outcome, v["comment"])
			if outcome == "open" || outcome == "blank" {
				require.Equal(t, v["plaintext"], plain)
			}
		})
	}
}

// readBySpec opens a vector as docs/format.md says, and shares no code with the codec.
func readBySpec(t *testing.T, v vector) (plain, outcome string) {
	var envelope []byte
	if text, ok := v["text"]; ok {
		rest, isText := strings.CutPrefix(text, "oubli1.")
		blank, isBlank := strings.CutPrefix(text, "oubli1~")
		switch {
		case isBlank:
			random, value, ok := strings.Cut(blank, "~")
			if !ok || len(random) < 10 || strings.Trim(random, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
				return "", "tampered"
			}
			return value, "blank"
		case !isText:
			digits := strings.TrimLeft(strings.TrimPrefix(text, "oubli"), "0123456789")
			number := strings.TrimSuffix(strings.TrimPrefix(text, "oubli"), digits)
			if strings.HasPrefix(text, "oubli") && number != "" && number[0] != '0' && number != "1" && strings.HasPrefix(digits, ".") {
				return "", "newer"
			}
			return "", "tampered"
		case strings.ContainsAny(rest, "\r\n"):
			return "", "tampered"
		}
		b, err := base64.RawURLEncoding.Strict().DecodeString(rest)
		if err != nil {
			return "", "tampered"
		}
		envelope = b
	} else {
		envelope = unhex(t, v["binary"])
	}
	switch {
	case len(envelope) > 0 && envelope[0] >= 0xB2 && envelope[0] <= 0xBF:
		return "", "newer"
	case len(envelope) < 33, envelope[0] != 0xB1:
		return "", "tampered"
	case hex.EncodeToString(envelope[1:5]) != v["key-id"]:
		return "", "tampered" // the person has no such key
	}
	p := func(s string) string { return string([]byte{byte(len(s) >> 8), byte(len(s))}) + s }
	aad := p("oubli field 1") + p(string(envelope[:5])) + p(v["subject"])
	if key, ok := v["row-key"]; ok {
		aad += "\x01" + p(key)
	} else {
		aad += "\x00"
	}
	aad += p(v["table"]) + p(v["field"]) + p(v["purpose"])
	block, err := aes.NewCipher(unhex(t, v["key"]))
	require.NoError(t, err)
	gcm, err := cipher.NewGCM(block)
	require.NoError(t, err)
	b, err := gcm.Open(nil, envelope[5:17], envelope[17:], []byte(aad))
	if err != nil {
		return "", "tampered"
	}
	return string(b), "open"
}

func TestVectorsWithTheCodec(t *testing.T) {
	for name, v := range readVectors(t) {
		t.Run(name, func(t *testing.T) {
			plain, err := readByCodec(t, v)
			switch v["expect"] {
			case "open", "blank":
				require.NoError(t, err, v["comment"])
				require.Equal(t, v["plaintext"], plain)
			case "tampered":
				require.ErrorIs(t, err, keystore.ErrTampered, v["comment"])
			case "newer":
				require.ErrorIs(t, err, ErrVersion, v["comment"])
			default:
				t.Fatalf("expect: %s", v["expect"])
			}
		})
	}
}

// readByCodec opens a vector with the code that a codec uses. The key of a vector is
// given, so it cannot come from a keystore, which makes its own.
func readByCodec(t *testing.T, v vector) (string, error) {
	s := slot{text: v["text"]}
	if v["text"] == "" {
		s = slot{bin: true, data: unhex(t, v["binary"])}
	}
	r := s.read(&scratch{})
	switch r.form {
	case formOther:
		return "", r.err
	case formBlank:
		return r.value, nil
	case formNewer:
		return "", ErrVersion
	}
	id, nonce, ciphertext, err := parseSealed(r.envelope)
	require.NoError(t, err)
	if hex.EncodeToString(appendHeader(nil, id)[1:]) != v["key-id"] {
		return "", keystore.ErrTampered
	}
	key, keyed := v["row-key"]
	aad := appendRowAAD(nil, v["subject"], key, keyed)
	setAADHeader(aad, r.envelope)
	aad = appendFieldAAD(aad, v["table"], v["field"], v["purpose"])
	block, err := aes.NewCipher(unhex(t, v["key"]))
	require.NoError(t, err)
	gcm, err := cipher.NewGCM(block)
	require.NoError(t, err)
	plain, err := gcm.Open(nil, nonce, ciphertext, aad)
	if err != nil {
		return "", errors.Join(keystore.ErrTampered, err)
	}
	return string(plain), nil
}

// What a codec writes is what the specification says.
func TestCodecWritesTheFormat(t *testing.T) {
	for _, v := range readVectors(t) {
		if v["expect"] != "open" || v["text"] == "" {
			continue
		}
		envelope, err := appendBinary(nil, v["text"])
		require.NoError(t, err)
		require.Equal(t, v["text"], string(appendText(nil, envelope)))
	}
	for range 50 {
		text := string(appendBlank(nil, "x~y"))
		value, outcome := readBySpec(t, vector{"text": text})
		require.Equal(t, "blank", outcome)
		require.Equal(t, "x~y", value)
	}
}

func unhex(t *testing.T, s string) []byte {
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}
