package awskmstest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
)

// impatient retries what the SDK's standard retryer does, three times in all, and at once.
type impatient struct{ aws.NopRetryer }

func (impatient) IsErrorRetryable(err error) bool {
	return retry.NewStandard().IsErrorRetryable(err)
}
func (impatient) MaxAttempts() int                             { return 3 }
func (impatient) RetryDelay(int, error) (time.Duration, error) { return time.Millisecond, nil }
func (impatient) GetAttemptToken(context.Context) (func(error) error, error) {
	return func(error) error { return nil }, nil
}

// request holds the members of all requests that the fake knows.
type request struct {
	KeyId, KeyMaterialId, Origin, KeySpec, KeyUsage string
	WrappingAlgorithm, WrappingKeySpec              string
	ExpirationModel, ImportType, IncludeKeyMaterial string
	PendingWindowInDays                             *int
	MultiRegion, DryRun                             bool
	Plaintext, CiphertextBlob                       []byte
	EncryptedKeyMaterial, ImportToken               []byte
	EncryptionContext                               map[string]string
	Tags                                            []struct{ TagKey, TagValue string }
}

// refusal is an error code of KMS.
type refusal string

func (r refusal) Error() string { return string(r) }

func (s *Service) serve(w http.ResponseWriter, r *http.Request) {
	op, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	body, err := io.ReadAll(r.Body)
	signed := strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AKIDFAKE/") &&
		strings.Contains(r.Header.Get("Authorization"), "/"+Region+"/kms/aws4_request")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		panic(http.ErrAbortHandler)
	}
	s.calls[op]++
	var q request
	f := s.fault(op)
	switch {
	case !ok || err != nil || json.Unmarshal(body, &q) != nil:
		refuse(w, "SerializationException")
	case !signed:
		refuse(w, "InvalidSignatureException")
	case f != nil && !f.applied:
		refuse(w, f.code)
	case s.denied[op]:
		refuse(w, "AccessDeniedException")
	default:
		answer, err := s.do(op, &q)
		var no refusal
		switch {
		case f != nil:
			panic(http.ErrAbortHandler)
		case errors.As(err, &no):
			refuse(w, string(no))
		default:
			w.Header().Set("Content-Type", "application/x-amz-json-1.1")
			json.NewEncoder(w).Encode(answer)
		}
	}
}

func (s *Service) fault(op string) *fault {
	for _, f := range s.faults {
		if f.op == op && f.times > 0 {
			f.times--
			return f
		}
	}
	return nil
}

// refuse answers with an error. Its message holds what no error of the driver may repeat, as
// AWS's own message about a wrong signature does.
func refuse(w http.ResponseWriter, code string) {
	status := http.StatusBadRequest
	switch code {
	case "KMSInternalException", "DependencyTimeoutException":
		status = http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-Errortype", code)
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": "x-amz-security-token:TOKENFAKE"})
}
