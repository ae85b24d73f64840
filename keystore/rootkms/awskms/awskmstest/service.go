// Package awskmstest is a fake of AWS KMS for tests: an HTTP server that speaks KMS's
// protocol, so that the SDK's own serialization, signing and retries run. It models what
// matters to keys that are destroyed: imported material, scheduled and cancelled deletion by
// a clock that the test moves, news that arrive late, throttling, outages, and permissions.
//
// It was written from AWS's documentation and is not AWS: where the two differ, it is wrong.
package awskmstest

import (
	"context"
	"crypto/rsa"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Region and Account are where the fake's keys are.
const (
	Region  = "eu-central-1"
	Account = "111122223333"
)

// Service is a fake of AWS KMS. It is safe for concurrent use.
type Service struct {
	URL string // of the endpoint, as AWS_ENDPOINT_URL_KMS takes it

	mu       sync.Mutex
	now      time.Time
	keys     map[string]*key // by ARN
	order    []string
	wrapping *rsa.PrivateKey // imports are wrapped for it
	tokens   map[string]string
	faults   []*fault
	denied   map[string]bool
	calls    map[string]int
	down     bool
	lag      int
	noList   bool
}

type key struct {
	id, arn, origin string
	state           string // as DescribeKey tells it
	deletion        time.Time
	tags            map[string]string
	material        []*material
	multiRegion     bool

	before *key // what is still seen for the next late reads; nil: that there is none
	late   int
}

type material struct {
	id    string
	bytes []byte // nil: was deleted
}

type fault struct {
	op, code string
	times    int
	applied  bool
}

// Start starts a fake whose clock stands at the beginning of 2030. It ends with the test.
func Start(t testing.TB) *Service {
	t.Helper()
	s := &Service{
		now:      time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC),
		keys:     map[string]*key{},
		wrapping: importKey(),
		tokens:   map[string]string{},
		denied:   map[string]bool{},
		calls:    map[string]int{},
	}
	server := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// Config is for a client of the fake. It retries at once, as often as the SDK does.
func (s *Service) Config() aws.Config {
	return aws.Config{
		BaseEndpoint: aws.String(s.URL),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIDFAKE", SecretAccessKey: "SECRETFAKE", SessionToken: "TOKENFAKE"}, nil
		}),
		Retryer: func() aws.Retryer { return impatient{aws.NopRetryer{}} },
	}
}

// Now is the fake's time.
func (s *Service) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// Advance moves the fake's clock; keys whose waiting period ends are deleted.
func (s *Service) Advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
	for arn, k := range s.keys {
		if k.state == pendingDeletion && !s.now.Before(k.deletion) {
			delete(s.keys, arn)
		}
	}
}

// Lag makes the next n reads of a key after each change of it see what was before.
func (s *Service) Lag(n int) { s.set(func() { s.lag = n }) }

// Down makes the service unreachable: it closes connections without an answer.
func (s *Service) Down(down bool) { s.set(func() { s.down = down }) }

// Deny takes permissions for operations away, or gives them back.
func (s *Service) Deny(deny bool, ops ...string) {
	s.set(func() {
		for _, op := range ops {
			s.denied[op] = deny
		}
	})
}

// NoListing makes it a KMS that does not know of several materials of one key.
func (s *Service) NoListing() { s.set(func() { s.noList = true }) }

// Fail makes the next calls of an operation fail with an error code of AWS, before anything
// has happened.
func (s *Service) Fail(op, code string, times int) {
	s.set(func() { s.faults = append(s.faults, &fault{op: op, code: code, times: times}) })
}

// Lose makes the next calls of an operation work, and their answers get lost.
func (s *Service) Lose(op string, times int) {
	s.set(func() { s.faults = append(s.faults, &fault{op: op, times: times, applied: true}) })
}

// Heal takes back what Fail and Lose have not done yet.
func (s *Service) Heal() { s.set(func() { s.faults = nil }) }

// Calls counts the requests for an operation.
func (s *Service) Calls(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[op]
}

// Total counts all requests.
func (s *Service) Total() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.calls {
		n += c
	}
	return n
}

// Used are the operations that were called at all.
func (s *Service) Used() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.calls))
}

// Keys are the ARNs of all keys that were ever made, in this order.
func (s *Service) Keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.order)
}

// State is what DescribeKey would tell of a key, had the news arrived; "" if it is deleted.
func (s *Service) State(arn string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keys[arn]; k != nil {
		return k.state
	}
	return ""
}

// Tags are a key's.
func (s *Service) Tags(arn string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[arn].tags
}

// Material counts the materials of a key that KMS still has.
func (s *Service) Material(arn string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys[arn] == nil {
		return 0
	}
	return len(s.keys[arn].held())
}

// Replicate makes a key look like one that has replicas in other regions.
func (s *Service) Replicate(arn string) { s.change(arn, func(k *key) { k.multiRegion = true }) }

// Disable is what an administrator does in the console.
func (s *Service) Disable(arn string) { s.change(arn, func(k *key) { k.state = disabled }) }

// Schedule is what an administrator does to delete a key, a week from now.
func (s *Service) Schedule(arn string) {
	s.change(arn, func(k *key) { k.state, k.deletion = pendingDeletion, s.now.Add(7*24*time.Hour) })
}

// Cancel is what an administrator does to stop the deletion of a key, and to use it again.
func (s *Service) Cancel(arn string) {
	s.change(arn, func(k *key) {
		k.state = enabled
		k.settle()
	})
}

// Rotate is what an administrator does who imports further material and rotates to it.
func (s *Service) Rotate(arn string) {
	s.change(arn, func(k *key) { k.material = append(k.material, newMaterial()) })
}

func (s *Service) change(arn string, do func(*key)) {
	s.set(func() {
		if k := s.keys[arn]; k != nil {
			s.touch(k)
			do(k)
			return
		}
		panic(fmt.Sprintf("no key %s", arn))
	})
}

func (s *Service) set(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}
