package awskms

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/oubli/oubli/keystore"
)

// credentialsError marks what the source of the credentials said. It is not printed: a
// source such as credential_process puts what it read into its errors.
type credentialsError struct{ err error }

func (*credentialsError) Error() string   { return "no usable credentials" }
func (e *credentialsError) Unwrap() error { return e.err }

// is tells whether err is, or wraps, an E.
func is[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

func code(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return ""
}

func denied(err error) bool {
	c := code(err)
	return c == "AccessDeniedException" || c == "AccessDenied"
}

func throttled(err error) bool {
	switch code(err) {
	case "ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequestsException":
		return true
	}
	return false
}

// failed says in this package's words what KMS said. AWS's own messages are left out: the
// one about a wrong signature quotes the session token, others the names of people. The
// code and the operation are what its documentation is searched by.
func (k *Keys) failed(op, name string, err error) error {
	sentinel, words := keystore.ErrUnavailable, ""
	switch c := code(err); c {
	case "":
		words = unanswered(err)
	case "AccessDeniedException", "AccessDenied":
		words = "denied: the policy of this identity must allow kms:" + op + ", as must the key's own; see `oubli root policy`"
	case "NotFoundException":
		sentinel, words = keystore.ErrNotFound, "there is no such key: it was deleted, or never was in this account"
	case "DisabledException":
		sentinel, words = keystore.ErrNotFound, "the key is disabled; who administers it can enable it again"
	case "KMSInvalidStateException":
		sentinel, words = keystore.ErrNotFound, "the key can't be used: its material was deleted, or it waits for its deletion; see its state with `aws kms describe-key`"
	case "InvalidCiphertextException", "IncorrectKeyException":
		sentinel, words = keystore.ErrTampered, "what is wrapped, its key and its associated data do not belong together"
	case "IncorrectKeyMaterialException":
		words = "KMS takes no other material than was imported first, which nobody has"
	case "ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequestsException": // as in throttled
		words = "throttled: the account sends AWS KMS more requests than its quota allows; try again"
	case "LimitExceededException":
		words = "the account has reached a quota of AWS KMS; ask AWS for a higher one, or delete keys"
	case "KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException", "ServiceUnavailableException", "InternalFailure":
		words = "AWS KMS has an outage; try again"
	case "ExpiredTokenException", "ExpiredToken":
		words = "the credentials have expired; get new ones"
	case "UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException", "SignatureDoesNotMatch",
		"MissingAuthenticationToken", "MissingAuthenticationTokenException", "IncompleteSignature", "IncompleteSignatureException":
		words = "the credentials are wrong, or not for this region"
	case "RequestExpired":
		words = "the clock of this machine is wrong"
	default:
		words = "refused"
	}
	if op != "Encrypt" && op != "Decrypt" { // of other calls nothing follows for the key
		sentinel = keystore.ErrUnavailable
	}
	where := "in " + k.config.Region
	if name != "" {
		where = "of key " + name
	}
	if c := code(err); codeForm.MatchString(c) {
		words += " (" + c + ")"
	}
	if cause := contextError(err); cause != nil {
		return fmt.Errorf("AWS KMS, %s %s: %s: %w: %w", op, where, words, sentinel, cause)
	}
	return fmt.Errorf("AWS KMS, %s %s: %s: %w", op, where, words, sentinel)
}

// codeForm is what AWS's error codes look like; what doesn't is not repeated.
var codeForm = regexp.MustCompile(`^[A-Za-z.]{1,60}$`)

// errAnother: KMS described another key than it was asked about.
var errAnother = errors.New("another key")

// unanswered names what failed without an error of AWS.
func unanswered(err error) string {
	switch {
	case errors.Is(err, errAnother):
		return "another key was described, or one with replicas in other regions"
	case contextError(err) != nil:
		return "no answer in time"
	case is[*credentialsError](err):
		return "no usable credentials: set them up as for the AWS command line, and try `aws sts get-caller-identity`"
	default:
		return "no connection, or no answer that can be understood"
	}
}

// contextError is the caller's own cancellation or deadline in err, if it is there.
func contextError(err error) error {
	for _, e := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, e) {
			return e
		}
	}
	return nil
}

// young tells what KMS may answer about a key that was just made or changed, where the news
// has not arrived. Denied is among it: a policy that goes by tags sees those of a new key late.
func young(err error) bool {
	return is[*types.NotFoundException](err) || is[*types.KMSInvalidStateException](err) || denied(err)
}
