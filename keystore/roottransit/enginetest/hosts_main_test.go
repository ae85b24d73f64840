//go:build linux

package enginetest

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/oubli/oubli/internal/crew"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootfile"
	"github.com/oubli/oubli/keystore/roottransit"
)

var minutes = flag.Float64("minutes", 0.3, "how long the hosts run")

func TestMain(m *testing.M) { crew.Main(m, openRoots) }

// stepTrim is where an advance can be held, besides crew.StepIntent: the lowest version that
// decrypts was raised, and nothing was trimmed.
const stepTrim = "trim"

// What a process is told of the root store.
const (
	rootURL = iota
	rootSecretID
	rootCable // where its host reaches the engine
)

// openRoots opens the root store in a process on a host, and writes down who the host is.
// The place is the same for all hosts, the way to it is each host's own.
func openRoots(c crew.Config, g *crew.Gate) (keystore.RootStore, error) {
	here, err := rootfile.New([]string{c.Journal}, nil)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(c.Journal+".host", []byte(here.Place().Host), 0o600); err != nil {
		return nil, err
	}
	where, err := roottransit.Parse(c.Roots[rootURL])
	if err != nil {
		return nil, err
	}
	config := api.DefaultConfig()
	config.Timeout, config.MaxRetries = 3*time.Second, 0
	t, ok := config.HttpClient.Transport.(*http.Transport)
	if !ok {
		return nil, fmt.Errorf("Vault's client has a transport of type %T", config.HttpClient.Transport)
	}
	t.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, c.Roots[rootCable])
	}
	config.HttpClient.Transport = gatedTransport{t, g}
	client, err := api.NewClient(config)
	if err != nil {
		return nil, err
	}
	return roottransit.Open(client, where, &roottransit.Options{SecretID: c.Roots[rootSecretID]})
}

// gatedTransport makes a step of the request that trims.
type gatedTransport struct {
	inner http.RoundTripper
	gate  *crew.Gate
}

func (t gatedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/trim") {
		t.gate.Step(stepTrim)
	}
	return t.inner.RoundTrip(r)
}
