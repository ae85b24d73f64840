package awskms

import (
	"context"
	"crypto/rand"
	"fmt"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
)

// Keys are keys of AWS KMS in one region of one account. Their names are ARNs, so that
// credentials for another account never take somebody else's answer for theirs. It is safe
// for concurrent use.
type Keys struct {
	config Config
	kms    *kms.Client
	pause  func(context.Context, time.Duration) error // waits; tests make it short
}

var _ rootkms.Keys = (*Keys)(nil)

// answerTime bounds each request to AWS, where the aws.Config says nothing else.
const answerTime = 30 * time.Second

// New returns the keys that c describes. ac says how to reach AWS and holds the credentials,
// as config.LoadDefaultConfig gives it; its region is not used. It asks nothing of AWS. An
// HTTP client of the SDK's that has no timeout gets one.
// Errors wrap [keystore.ErrInvalid].
func New(c Config, ac aws.Config) (*Keys, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	client := kms.NewFromConfig(ac, func(o *kms.Options) {
		o.Region = c.Region
		// The SDK waits for an answer for as long as the caller does, which may be for ever.
		if h, ok := o.HTTPClient.(*awshttp.BuildableClient); ok && h.GetTimeout() == 0 {
			o.HTTPClient = h.WithTimeout(answerTime)
		}
		// Errors of credential sources can quote what they read: mark them, to keep them out.
		if inner := o.Credentials; inner != nil {
			o.Credentials = aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
				creds, err := inner.Retrieve(ctx)
				if err != nil {
					return aws.Credentials{}, &credentialsError{err}
				}
				return creds, nil
			})
		}
	})
	return &Keys{config: c, kms: client, pause: pause}, nil
}

// Place implements [rootkms.Keys].
func (k *Keys) Place() keystore.Place {
	if k.config.Made {
		return keystore.Place{URL: k.config.url(), Class: keystore.ClassScheduled, Delay: k.config.window()}
	}
	return keystore.Place{URL: k.config.url(), Class: keystore.ClassEffaceable}
}

// Before implements [rootkms.Keys]: keys of AWS KMS don't depend on each other.
func (k *Keys) Before(_, _ []string) []string { return nil }

// Check implements [rootkms.Keys]. It asks for a key that cannot exist: only who is told
// "not found" about it, and not "denied", can ever see that a key is gone.
func (k *Keys) Check(ctx context.Context) error {
	var r [16]byte
	rand.Read(r[:])
	id := fmt.Sprintf("%x-%x-4%03x-8%03x-%x", r[:4], r[4:6], r[6], r[8], r[10:])
	_, err := k.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &id})
	switch {
	case err == nil:
		return fmt.Errorf("%w: AWS KMS in %s describes a key that was never made: is this AWS?", keystore.ErrMismatch, k.config.Region)
	case is[*types.NotFoundException](err):
		return nil
	case denied(err):
		return fmt.Errorf("%w: AWS KMS in %s denies telling of a key that does not exist, so that a destroyed key could not be told from a denied one: allow kms:DescribeKey without a condition on all keys of the account", keystore.ErrMismatch, k.config.Region)
	default:
		return k.failed("DescribeKey", "", err)
	}
}

// arnForm is the ARN of a key: partition, region, account, id. Multi-Region keys, whose ids
// begin with mrk-, are not among what this package makes, and not accepted.
var arnForm = regexp.MustCompile(`^arn:([a-z-]+):kms:([a-z0-9-]+):([0-9]{12}):key/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// ours refuses names that are not of keys in this region: KMS answers "not found" for a
// key of another region, which must not read as destroyed.
func (k *Keys) ours(name string) error {
	m := arnForm.FindStringSubmatch(name)
	if m == nil {
		return fmt.Errorf("%w: %.120q is not the ARN of a key that was made here", keystore.ErrMismatch, name)
	}
	if m[2] != k.config.Region {
		return fmt.Errorf("%w: key %s is in region %s, this root store in %s", keystore.ErrMismatch, name, m[2], k.config.Region)
	}
	return nil
}

// KMS is eventually consistent: for seconds, rarely longer, a part of it does not know of a
// change yet. settleFor bounds the waiting for it.
const settleFor = time.Minute

// settle does try until it succeeds, fails for good, or settleFor has been waited. again
// tells what may pass by itself.
func (k *Keys) settle(ctx context.Context, try func() error, again func(error) bool) error {
	for waited, d := time.Duration(0), 200*time.Millisecond; ; waited, d = waited+d, min(2*d, 5*time.Second) {
		err := try()
		if err == nil || !again(err) || waited >= settleFor {
			return err
		}
		if k.pause(ctx, d) != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
