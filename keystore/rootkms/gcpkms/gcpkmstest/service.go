// Package gcpkmstest is a fake of Google Cloud KMS for tests: a gRPC server for Google's own
// client. It models what matters to versions that are destroyed: scheduled and cancelled
// destruction by a clock that the test moves, outages, quotas, permissions, and bytes that
// arrive changed.
//
// It was written from Google's documentation and is not Google: where the two differ, it is
// wrong.
package gcpkmstest

import (
	"context"
	"maps"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	kms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Key is the name of the fake's CryptoKey, and Delay how long its versions take to be
// destroyed.
const (
	Key   = "projects/oubli-test/locations/europe-west3/keyRings/oubli/cryptoKeys/roots"
	Delay = 48 * time.Hour
)

// Service is a fake of Cloud KMS with one CryptoKey. It is safe for concurrent use.
type Service struct {
	Addr string // of the server, which speaks gRPC without TLS

	mu       sync.Mutex
	now      time.Time
	key      *kmspb.CryptoKey
	versions map[string]*version
	made     []string
	faults   []*fault
	denied   map[string]bool
	calls    map[string]int
	down     bool
	slow     int
}

type version struct {
	*kmspb.CryptoKeyVersion
	material []byte
	asked    int // times it was looked at while it was being made
}

type fault struct {
	op      string
	code    codes.Code
	times   int
	applied bool
	corrupt bool
}

// Start starts a fake whose clock stands at the beginning of 2030. It ends with the test.
func Start(t testing.TB) *Service {
	t.Helper()
	s := &Service{
		now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC),
		key: &kmspb.CryptoKey{
			Name:                     Key,
			Purpose:                  kmspb.CryptoKey_ENCRYPT_DECRYPT,
			DestroyScheduledDuration: durationpb.New(Delay),
			VersionTemplate: &kmspb.CryptoKeyVersionTemplate{
				ProtectionLevel: kmspb.ProtectionLevel_SOFTWARE,
				Algorithm:       kmspb.CryptoKeyVersion_GOOGLE_SYMMETRIC_ENCRYPTION,
			},
		},
		versions: map[string]*version{},
		denied:   map[string]bool{},
		calls:    map[string]int{},
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Addr = l.Addr().String()
	g := grpc.NewServer(grpc.UnaryInterceptor(s.intercept))
	kmspb.RegisterKeyManagementServiceServer(g, &server{s: s})
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.Serve(l)
	}()
	t.Cleanup(func() {
		g.Stop()
		<-done
	})
	return s
}

// Client is a client of the fake, Google's own. It retries what Google's does, three times,
// and at once.
func (s *Service) Client(t testing.TB) *kms.KeyManagementClient {
	t.Helper()
	client, err := kms.NewKeyManagementClient(context.Background(), s.Options()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	quick := reflect.ValueOf([]gax.CallOption{gax.WithRetry(func() gax.Retryer { return &impatient{} })})
	all := reflect.ValueOf(client.CallOptions).Elem()
	for i := range all.NumField() {
		if all.Type().Field(i).Name != "CreateCryptoKeyVersion" { // which Google's does not try again
			all.Field(i).Set(quick)
		}
	}
	return client
}

// Options are those of a client of the fake.
func (s *Service) Options() []option.ClientOption {
	return []option.ClientOption{
		option.WithEndpoint(s.Addr),
		option.WithoutAuthentication(),
		option.WithTelemetryDisabled(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
}

type impatient struct{ tried int }

func (i *impatient) Retry(err error) (time.Duration, bool) {
	i.tried++
	c := status.Code(err)
	return time.Millisecond, i.tried < 3 && (c == codes.Unavailable || c == codes.DeadlineExceeded)
}

// intercept counts calls, and makes the faults.
func (s *Service) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	op := info.FullMethod[strings.LastIndexByte(info.FullMethod, '/')+1:]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[op]++
	var f *fault
	for _, is := range s.faults {
		if is.op == op && is.times > 0 {
			is.times--
			f = is
			break
		}
	}
	switch {
	case s.down:
		return nil, refuse(codes.Unavailable)
	case f != nil && !f.applied && !f.corrupt:
		return nil, refuse(f.code)
	case s.denied[op]:
		return nil, refuse(codes.PermissionDenied)
	}
	answer, err := handle(ctx, req)
	if f != nil && f.applied {
		return nil, refuse(codes.Unavailable)
	}
	if f != nil && err == nil {
		corrupt(answer)
	}
	return answer, err
}

// refuse is an error whose message holds what no error of the driver may repeat.
func refuse(c codes.Code) error {
	return status.Error(c, "refused to anna@example.com with TOKENFAKE")
}

func corrupt(answer any) {
	switch a := answer.(type) {
	case *kmspb.EncryptResponse:
		a.Ciphertext[len(a.Ciphertext)/2] ^= 1
	case *kmspb.DecryptResponse:
		a.Plaintext[0] ^= 1
	}
}

func (s *Service) set(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

// Now is the fake's time.
func (s *Service) Now() (now time.Time) {
	s.set(func() { now = s.now })
	return now
}

// Advance moves the fake's clock; versions whose time has come are destroyed.
func (s *Service) Advance(d time.Duration) {
	s.set(func() {
		s.now = s.now.Add(d)
		for _, v := range s.versions {
			if v.State == scheduled && !s.now.Before(v.DestroyTime.AsTime()) {
				v.State, v.DestroyTime, v.material = destroyed, nil, nil
			}
		}
	})
}

// Down makes the service unavailable, or available again.
func (s *Service) Down(down bool) { s.set(func() { s.down = down }) }

// Slow makes new versions be under way for the first n times that somebody looks, as an
// HSM's are.
func (s *Service) Slow(n int) { s.set(func() { s.slow = n }) }

// Deny takes permissions for operations away, or gives them back.
func (s *Service) Deny(deny bool, ops ...string) {
	s.set(func() {
		for _, op := range ops {
			s.denied[op] = deny
		}
	})
}

// Fail makes the next calls of an operation fail before anything has happened.
func (s *Service) Fail(op string, c codes.Code, times int) {
	s.set(func() { s.faults = append(s.faults, &fault{op: op, code: c, times: times}) })
}

// Lose makes the next calls of an operation work, and their answers get lost.
func (s *Service) Lose(op string, times int) {
	s.set(func() { s.faults = append(s.faults, &fault{op: op, times: times, applied: true}) })
}

// Corrupt changes a byte of the next answer to Encrypt or Decrypt.
func (s *Service) Corrupt(op string) {
	s.set(func() { s.faults = append(s.faults, &fault{op: op, times: 1, corrupt: true}) })
}

// Heal takes back what Fail, Lose and Corrupt have not done yet.
func (s *Service) Heal() { s.set(func() { s.faults = nil }) }

// Setup changes the CryptoKey.
func (s *Service) Setup(do func(*kmspb.CryptoKey)) { s.set(func() { do(s.key) }) }

// Change changes a version, as an administrator or Google may.
func (s *Service) Change(name string, do func(*kmspb.CryptoKeyVersion)) {
	s.set(func() { do(s.versions[name].CryptoKeyVersion) })
}

// Delete deletes a version that is destroyed, its name included.
func (s *Service) Delete(name string) { s.set(func() { delete(s.versions, name) }) }

// Versions are the names of all versions that were ever made, in this order.
func (s *Service) Versions() (names []string) {
	s.set(func() { names = slices.Clone(s.made) })
	return names
}

// Version is what the service knows of a version.
func (s *Service) Version(name string) (v *kmspb.CryptoKeyVersion) {
	s.set(func() { v = proto.CloneOf(s.versions[name].CryptoKeyVersion) })
	return v
}

// Holds tells whether the service still has the material of a version.
func (s *Service) Holds(name string) (held bool) {
	s.set(func() { held = s.versions[name] != nil && s.versions[name].material != nil })
	return held
}

// Calls are the operations that were called, and how often.
func (s *Service) Calls() (calls map[string]int) {
	s.set(func() { calls = maps.Clone(s.calls) })
	return calls
}
