// Package storetest is the suite that every [keystore.Backend] passes. A backend joins
// in five lines:
//
//	func TestSuite(t *testing.T) {
//		storetest.Run(t, &storetest.Suite{
//			New: func() (keystore.Backend, error) { return memstore.New(), nil },
//		})
//	}
//
// Like testing/fstest, the suite returns errors instead of failing a test, so that it
// is itself tested, against backends that break their promises.
package storetest

import (
	"context"
	"errors"
	"fmt"

	"github.com/oubli/oubli/keystore"
)

// Suite says how to get at the backend under test.
type Suite struct {
	// New makes an empty backend. Each case has one of its own, and closes it.
	New func() (keystore.Backend, error)

	// Reopen opens again what b, which the suite has closed, had stored. Without it
	// durability is not tested.
	Reopen func(b keystore.Backend) (keystore.Backend, error)
}

// Run runs each case as a subtest. T is *testing.T.
func Run[T interface {
	Run(name string, f func(T)) bool
	Fatal(args ...any)
	Context() context.Context
}](t T, s *Suite) {
	for _, c := range cases {
		t.Run(c.name, func(t T) {
			if err := s.run(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Check runs all cases and returns what failed, one error for each case, joined; nil
// if the backend keeps its promises.
func (s *Suite) Check(ctx context.Context) error {
	var errs []error
	for _, c := range cases {
		if err := s.run(ctx, c); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
		}
	}
	return errors.Join(errs...)
}

// testCase is one promise of keystore.Backend.
type testCase struct {
	name  string
	check func(ctx context.Context, h *harness) error
}

var cases = []testCase{
	{"absent", checkAbsent},
	{"put, replace, delete", checkWrites},
	{"get in the order of keys", checkGetOrder},
	{"records as they come", checkStream},
	{"binary keys", checkBinaryKeys},
	{"empty and large values", checkValues},
	{"scan order", checkScanOrder},
	{"scan bounds", checkScanBounds},
	{"scan in steps", checkScanSteps},
	{"slices belong to the caller", checkAliasing},
	{"reads see the last commit", checkFresh},
	{"conflicts change nothing", checkConflicts},
	{"a group is whole", checkAtomicGroup},
	{"guards", checkGuards},
	{"groups stop at the first conflict", checkPrefix},
	{"later groups build on earlier ones", checkChain},
	{"canceled context", checkCanceled},
	{"closed", checkClosed},
	{"durable", checkDurable},
	{"racing counter", checkRacingCounter},
	{"racing groups", checkRacingGroups},
	{"guard held until the commit", checkGuardRace},
	{"absence held until the commit", checkAbsenceRace},
}

func (s *Suite) run(ctx context.Context, c testCase) error {
	b, err := s.New()
	if err != nil {
		return fmt.Errorf("new backend: %w", err)
	}
	h := &harness{Backend: b, suite: s}
	err = c.check(ctx, h)
	if !h.closed {
		err = errors.Join(err, h.Close())
	}
	return err
}
