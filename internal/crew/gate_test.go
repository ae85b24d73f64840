//go:build linux

package crew

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheGate(t *testing.T) {
	g := &Gate{}
	g.Step("intent") // nobody is held
	require.False(t, g.hold("intent", time.Millisecond), "nobody came")
	g.Step("intent")

	passed := make(chan string)
	there := make(chan bool)
	go func() { there <- g.hold("intent", time.Minute) }()
	require.Eventually(t, func() bool { return g.armed("intent") }, time.Minute, time.Millisecond)
	g.Step("trim") // another step
	go func() { g.Step("intent"); passed <- "first" }()
	require.True(t, <-there)
	g.Step("intent") // one is enough
	select {
	case <-passed:
		require.Fail(t, "who should be held passes")
	case <-time.After(10 * time.Millisecond):
	}
	g.letGo()
	require.Equal(t, "first", <-passed)
	g.letGo()
	g.Step("intent")
}
