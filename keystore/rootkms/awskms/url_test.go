package awskms_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms/awskms"
)

func TestParse(t *testing.T) {
	for url, want := range map[string]awskms.Config{
		"awskms:eu-central-1":                              {Region: "eu-central-1"},
		"awskms:eu-central-1?imported=true":                {Region: "eu-central-1"},
		"awskms:us-gov-west-1?imported=false":              {Region: "us-gov-west-1", Made: true},
		"awskms:ap-southeast-2?imported=false&window=240h": {Region: "ap-southeast-2", Made: true, Window: 240 * time.Hour},
		"awskms:ap-southeast-2?window=720h&imported=false": {Region: "ap-southeast-2", Made: true, Window: 720 * time.Hour},
	} {
		c, err := awskms.Parse(url)
		require.NoError(t, err, url)
		require.Equal(t, want, c)
		keys, err := awskms.New(c, aws.Config{})
		require.NoError(t, err)
		again, err := awskms.Parse(keys.Place().URL)
		require.NoError(t, err)
		c.Window = 0
		require.Equal(t, c, again, "what a place is called can be parsed")
	}
	for url, words := range map[string]string{
		"gcpkms:x":                        "is named awskms:REGION",
		"awskms:":                         "region",
		"awskms:Frankfurt":                "region",
		"awskms:eu-central-1/key":         "region",
		"awskms:eu-central-1?imported=no": "true or false",
		"awskms:eu-central-1?imported=false&imported=true": "twice",
		"awskms:eu-central-1?window=168h":                  "goes with imported=false",
		"awskms:eu-central-1?imported=false&window=1h":     "7 to 30",
		"awskms:eu-central-1?imported=false&window=169h":   "7 to 30",
		"awskms:eu-central-1?imported=false&window=744h":   "7 to 30",
		"awskms:eu-central-1?imported=false&window=week":   "duration",
		"awskms:eu-central-1?secret=TOKENFAKE":             `not "secret"`,
		"awskms:eu-central-1?imported=%zz":                 "cannot be read",
	} {
		_, err := awskms.Parse(url)
		require.ErrorIs(t, err, keystore.ErrInvalid, url)
		require.ErrorContains(t, err, words)
		secretless(t, err)
	}
	_, err := awskms.New(awskms.Config{}, aws.Config{})
	require.ErrorIs(t, err, keystore.ErrInvalid)
}

func FuzzParse(f *testing.F) {
	f.Add("awskms:ap-southeast-2?window=720h&imported=false")
	f.Fuzz(func(t *testing.T, url string) {
		c, err := awskms.Parse(url)
		if err != nil {
			require.ErrorIs(t, err, keystore.ErrInvalid)
			return
		}
		_, err = awskms.New(c, aws.Config{})
		require.NoError(t, err)
	})
}

// The policy allows each operation that a life of keys needs, and none that takes a
// destruction back.
func TestPolicy(t *testing.T) {
	for _, c := range []awskms.Config{imported, made} {
		var policy struct {
			Statement []struct {
				Sid, Effect string
				Action      any
				Condition   map[string]map[string]any
			}
		}
		require.NoError(t, json.Unmarshal([]byte(c.Policy()), &policy))
		allowed, denied := []string{"kms:TagResource"}, []string{}
		for _, s := range policy.Statement {
			actions, ok := s.Action.([]any)
			if !ok {
				actions = []any{s.Action}
			}
			for _, a := range actions {
				if s.Effect == "Deny" {
					denied = append(denied, a.(string))
					continue
				}
				allowed = append(allowed, a.(string))
				if a == "kms:DescribeKey" {
					require.Empty(t, s.Condition, "see Keys.Check")
				} else {
					require.NotEmpty(t, s.Condition, s.Sid)
				}
			}
		}
		w := start(t, c)
		require.NoError(t, w.keys.Check(t.Context()))
		name := w.Made()
		require.NoError(t, w.Unwrap(name, w.Wrapped(name)))
		w.Destroyed(name)
		w.Fate(name)
		used := w.Used()
		require.NotEmpty(t, used)
		for _, op := range used {
			require.Contains(t, allowed, "kms:"+op)
		}
		for _, a := range allowed[1:] {
			op := strings.TrimPrefix(a, "kms:")
			require.True(t, op == "TagResource" || slices.Contains(used, op), "%s is allowed and not used", a)
			require.NotContains(t, denied, a)
		}
		require.Contains(t, denied, "kms:CancelKeyDeletion")
		// A request that does not say what it need not say is allowed too.
		require.Equal(t, map[string]any{"kms:MultiRegion": "false", "kms:BypassPolicyLockoutSafetyCheck": "false"}, policy.Statement[0].Condition["BoolIfExists"])
	}
	require.Contains(t, awskms.Config{Region: "cn-north-1"}.Policy(), `"arn:aws-cn:kms:cn-north-1:*:key/*"`)
}
