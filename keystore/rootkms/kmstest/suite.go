package kmstest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oubli/oubli/keystore/rootkms"
)

// Suite says how to get at the Keys under test. Only New is required; what else is there
// has more promises tested.
type Suite struct {
	// New returns the keys of a service, which may have others from before.
	New func() (rootkms.Keys, error)

	// Again returns another client of the service that k is a client of, as another
	// process has.
	Again func(k rootkms.Keys) (rootkms.Keys, error)

	// Pass lets time pass for the service of k. Without it a destruction that takes time
	// is not followed to its end.
	Pass func(k rootkms.Keys, d time.Duration)

	// Disable disables a key, as somebody may who runs the service.
	Disable func(k rootkms.Keys, name string) error

	// Unknown is a name that the service never gave to a key.
	Unknown string

	// Miswired returns keys of services that Check must refuse.
	Miswired func() ([]rootkms.Keys, error)

	// Away returns keys of a service that does not answer, or refuses this client.
	Away func() ([]rootkms.Keys, error)
}

// tester is *testing.T.
type tester[T any] interface {
	Run(name string, f func(T)) bool
	Fatal(args ...any)
	Context() context.Context
}

// Run runs each case as a subtest. T is *testing.T. A driver joins so:
//
//	func TestSuite(t *testing.T) {
//		kmstest.Run(t, &kmstest.Suite{
//			New: func() (rootkms.Keys, error) { return kmstest.NewService(kmstest.Single, 0, nil).Keys(), nil },
//		})
//	}
func Run[T tester[T]](t T, s *Suite) {
	for _, c := range keyCases {
		t.Run(c.name, func(t T) {
			if err := s.run(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Check runs all cases and returns what failed, one error for each case, joined; nil if
// the keys keep their promises.
func (s *Suite) Check(ctx context.Context) error {
	var errs []error
	for _, c := range keyCases {
		if err := s.run(ctx, c); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
		}
	}
	return errors.Join(errs...)
}

// keyCase is one promise of rootkms.Keys.
type keyCase struct {
	name  string
	check func(ctx context.Context, h *harness) error
}

var keyCases = []keyCase{
	{"names are new", checkNames},
	{"names are new when many ask", checkNamesAtOnce},
	{"wrap and unwrap", checkWrap},
	{"under exactly that key", checkExactKey},
	{"associated data", checkAD},
	{"altered", checkAltered},
	{"unknown keys", checkUnknown},
	{"destroy", checkDestroy},
	{"destroy again", checkDestroyAgain},
	{"destroyed for good", checkForGood},
	{"before", checkBefore},
	{"destroy the newest", checkDestroyNewest},
	{"keys made after a destruction", checkMadeAfter},
	{"destruction taken back", checkTakenBack},
	{"disabled", checkDisabled},
	{"state", checkState},
	{"another client", checkAgain},
	{"check", checkCheck},
	{"place", checkPlace},
	{"canceled context", checkCanceled},
	{"away", checkAway},
	{"many at once", checkAtOnce},
}

func (s *Suite) run(ctx context.Context, c keyCase) error {
	k, err := s.New()
	if err != nil {
		return fmt.Errorf("new keys: %w", err)
	}
	return c.check(ctx, &harness{Keys: k, suite: s})
}
