package kmstest_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/kmstest"
)

// faults are the promises that broken Keys do not keep.
type faults struct {
	hides         bool // Destroy only lowers a limit, or disables
	anyKey        bool // Wrap uses the newest key, and Unwrap what fits
	newestKey     bool // Wrap uses the newest key
	ignoresAD     bool
	saysGone      bool // State says of every key that can't be used that it is gone
	saysLiving    bool // State knows no death
	shuffled      bool // State answers in another order
	sameName      bool // two who ask at once get one key
	sparesNewest  bool // Destroy can't destroy the newest key, and says nothing
	toTheEnd      bool // Destroy destroys whatever is older than now
	noBefore      bool // Before says that nothing is in the way
	allBefore     bool // Before says that all is
	complains     bool // Destroy fails on keys that are gone
	goneIsAway    bool // a key that is gone reads as an outage
	awayIsGone    bool // an outage reads as a key that is gone
	tamperedIs    bool // what was altered reads as a key that is gone
	tellsAll      bool // errors quote what was wrapped
	deaf          bool // contexts are ignored
	checksNothing bool
	makesUnknown  bool // Wrap under an unknown key makes it
	keepsUntil    bool // a destruction that begins anew has its old end
	noUndo        bool // Undo does nothing and says so
	wrongClass    bool
}

// world is a service with a clock, and clients of it that have faults.
type world struct {
	faults
	*kmstest.Service
	mu   sync.Mutex
	now  time.Time
	away bool
}

func newWorld(kind kmstest.Kind, f faults) *world {
	w := &world{faults: f, now: time.Now()}
	w.Service = kmstest.NewService(kind, 7*24*time.Hour, func() time.Time {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.now
	})
	return w
}

func suite(kind kmstest.Kind, f faults) *kmstest.Suite {
	return &kmstest.Suite{
		New:   func() (rootkms.Keys, error) { return newFaulty(newWorld(kind, f)), nil },
		Again: func(k rootkms.Keys) (rootkms.Keys, error) { return newFaulty(k.(*faulty).w), nil },
		Pass: func(k rootkms.Keys, d time.Duration) {
			w := k.(*faulty).w
			w.mu.Lock()
			defer w.mu.Unlock()
			w.now = w.now.Add(d)
		},
		Disable: func(k rootkms.Keys, name string) error { k.(*faulty).w.Bar(name, true); return nil },
		Unknown: "999999",
		Miswired: func() ([]rootkms.Keys, error) {
			w := newWorld(kind, f)
			w.Misconfigure("keys can be exported")
			return []rootkms.Keys{newFaulty(w)}, nil
		},
		Away: func() ([]rootkms.Keys, error) {
			w := newWorld(kind, f)
			w.away = true
			w.Hook(func(call string, _ func() error) error { return fmt.Errorf("%s: %w", call, keystore.ErrUnavailable) })
			return []rootkms.Keys{newFaulty(w)}, nil
		},
	}
}

var kinds = map[string]kmstest.Kind{"trimmed": kmstest.Trimmed, "single": kmstest.Single, "scheduled": kmstest.Scheduled}

func TestServices(t *testing.T) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) { kmstest.Run(t, suite(kind, faults{})) })
	}
}

// The suite with nothing but New, as a driver may have it that can't do more.
func TestLeastSuite(t *testing.T) {
	kmstest.Run(t, &kmstest.Suite{
		New: func() (rootkms.Keys, error) { return kmstest.NewService(kmstest.Single, 0, nil).Keys(), nil },
	})
}

func TestSuiteCatches(t *testing.T) {
	for name, c := range map[string]struct {
		kind   kmstest.Kind
		faults faults
		want   string // the case that must catch it
	}{
		"destroy hides versions":   {kmstest.Trimmed, faults{hides: true}, "destroyed for good"},
		"destroy hides keys":       {kmstest.Single, faults{hides: true}, "destroyed for good"},
		"wrap under any key":       {kmstest.Single, faults{anyKey: true}, "under exactly that key"},
		"wrap under the newest":    {kmstest.Trimmed, faults{newestKey: true}, "under exactly that key"},
		"ad ignored":               {kmstest.Single, faults{ignoresAD: true}, "associated data"},
		"disabled is gone":         {kmstest.Single, faults{saysGone: true}, "disabled"},
		"dying is gone":            {kmstest.Scheduled, faults{saysGone: true}, "destroy"},
		"nothing dies":             {kmstest.Single, faults{saysLiving: true}, "destroy"},
		"states shuffled":          {kmstest.Single, faults{shuffled: true}, "state"},
		"a name for two":           {kmstest.Trimmed, faults{sameName: true}, "names are new when many ask"},
		"the newest is spared":     {kmstest.Trimmed, faults{sparesNewest: true}, "destroy the newest"},
		"whatever is older":        {kmstest.Trimmed, faults{toTheEnd: true}, "keys made after a destruction"},
		"nothing in the way":       {kmstest.Trimmed, faults{noBefore: true}, "destroy the newest"},
		"all in the way":           {kmstest.Trimmed, faults{allBefore: true}, "before"},
		"gone is an error":         {kmstest.Single, faults{complains: true}, "destroy again"},
		"gone is an outage":        {kmstest.Single, faults{goneIsAway: true}, "destroy"},
		"an outage is gone":        {kmstest.Single, faults{awayIsGone: true}, "away"},
		"altered is gone":          {kmstest.Single, faults{tamperedIs: true}, "altered"},
		"errors tell":              {kmstest.Single, faults{tellsAll: true}, "altered"},
		"deaf":                     {kmstest.Single, faults{deaf: true}, "canceled context"},
		"check checks nothing":     {kmstest.Single, faults{checksNothing: true}, "check"},
		"unknown keys are made":    {kmstest.Single, faults{makesUnknown: true}, "unknown keys"},
		"the old end":              {kmstest.Scheduled, faults{keepsUntil: true}, "destruction taken back"},
		"undo undoes nothing":      {kmstest.Single, faults{noUndo: true}, "destroyed for good"},
		"undo undoes no schedule":  {kmstest.Scheduled, faults{noUndo: true}, "destruction taken back"},
		"a delay, and not so said": {kmstest.Scheduled, faults{wrongClass: true}, "place"},
	} {
		t.Run(name, func(t *testing.T) {
			err := suite(c.kind, c.faults).Check(context.Background())
			require.Error(t, err, "the suite passes keys with this fault")
			require.Contains(t, "\n"+err.Error(), "\n"+c.want+": ", "another case was meant to catch it")
		})
	}
}
