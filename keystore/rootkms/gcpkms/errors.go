package gcpkms

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/oubli/oubli/keystore"
)

// failed says in this package's words what Cloud KMS said of a call; permission is what the
// call needs. Google's own messages are left out: they name accounts, and what libraries for
// credentials read can be in them. Those who know of a case for another sentinel than
// ErrUnavailable look before they ask this.
func (k *Keys) failed(what, permission, name string, err error) error {
	sentinel, words := keystore.ErrUnavailable, ""
	switch c := code(err); {
	case errors.Is(err, errAnother):
		words = "the service answered about something else"
	case errors.Is(err, errChecksum):
		words = "what was sent or received arrived changed; try again"
	case c == codes.PermissionDenied:
		words = "denied: the identity needs cloudkms." + permission + ", or there is no such key, or the API is off; see `oubli root policy`"
	case c == codes.Unauthenticated:
		words = "no valid credentials: set them up as for gcloud, `gcloud auth application-default login`"
	case c == codes.NotFound:
		words = "there is no such key in this project"
		if name == k.config.Key && what == "get" {
			sentinel = keystore.ErrNotFound
		}
	case c == codes.ResourceExhausted:
		words = "throttled: the project sends Cloud KMS more requests than its quota allows; try again"
	case c == codes.FailedPrecondition:
		words = "not possible in the state that it is in, see it with `gcloud kms keys versions describe`; or a policy of the organization forbids it, such as cloudkms.disableBeforeDestroy"
	case c == codes.Unavailable, c == codes.Internal, c == codes.Aborted:
		words = "no connection, or Cloud KMS has an outage; try again"
	case c == codes.DeadlineExceeded, c == codes.Canceled, contextError(err) != nil:
		words = "no answer in time"
	default:
		words = "refused"
	}
	if c := code(err); c != codes.OK && c != codes.Unknown {
		words += " (" + c.String() + ")"
	}
	if cause := contextError(err); cause != nil {
		return fmt.Errorf("GCP KMS, %s %s: %s: %w: %w", what, name, words, sentinel, cause)
	}
	return fmt.Errorf("GCP KMS, %s %s: %s: %w", what, name, words, sentinel)
}

func code(err error) codes.Code {
	if s, ok := status.FromError(err); ok {
		return s.Code()
	}
	return codes.Unknown
}

// contextError is the caller's own cancellation or deadline in err, if it is there.
func contextError(err error) error {
	for c, e := range map[codes.Code]error{codes.Canceled: context.Canceled, codes.DeadlineExceeded: context.DeadlineExceeded} {
		if errors.Is(err, e) || code(err) == c {
			return e
		}
	}
	return nil
}
