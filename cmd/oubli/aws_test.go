//go:build awskms

package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore/rootkms/awskms/awskmstest"
)

// aws is people whose keystore has its root in a fake of AWS KMS, which the program reaches
// as it would reach AWS, and its shelf in a database of its own.
func aws(t *testing.T) (p *pgPeople, service *awskmstest.Service, shelf string) {
	p, service = newPgPeople(t), awskmstest.Start(t)
	service.Advance(time.Since(service.Now())) // the program has the real time
	p.env = append(os.Environ(), "AWS_ENDPOINT_URL_KMS="+service.URL, "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ACCESS_KEY_ID=AKIDFAKE", "AWS_SECRET_ACCESS_KEY=SECRETFAKE", "AWS_SESSION_TOKEN=TOKENFAKE",
		"AWS_CONFIG_FILE="+filepath.Join(p.dir, "none"), "AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(p.dir, "none"))
	return p, service, "shelf=" + pgtest.Shared(t).Database(t)
}

// fails runs oubli, which has to fail.
func (p *pgPeople) fails(args ...string) string {
	out, err := p.command("oubli", args...).CombinedOutput()
	require.Error(p.t, err, "%s", out)
	require.NotContains(p.t, string(out), "FAKE", "a credential is shown")
	return string(out)
}

func (p *pgPeople) inspect() (r inspection) {
	out, err := p.command("oubli", "root", "status", "--json").Output()
	require.NoError(p.t, err)
	require.NoError(p.t, json.Unmarshal(out, &r))
	return r
}

// Keys that AWS made wait for days. Who takes a destruction back is found out, and gains
// nothing but time.
func TestAWSCancelledDestruction(t *testing.T) {
	const window = 7 * 24 * time.Hour
	p, service, shelf := aws(t)
	p.env = append(p.env, "OUBLI_ROOT=awskms:"+awskmstest.Region+"?imported=false&window=168h&"+shelf)
	require.Contains(t, p.fails("root", "rehearse"), "is not gone for 168h0m0s") // before there is a root
	require.Empty(t, service.Keys())

	p.run("oubli", "init", "--shards", "32", "--lease", "200ms", "--grace", "0")
	p.run("oubli", "seal", "people", "people.csv", "-o", "sealed.csv")
	first := service.Keys()
	require.Len(t, first, 1)
	out, err := p.command("oubli", "anonymize", "customer/1", "--yes").Output()
	require.NoError(t, err)
	var erased struct {
		State   string
		FinalAt time.Time `json:"final_at"`
	}
	require.NoError(t, json.Unmarshal(out, &erased), "%s", out)
	require.Equal(t, "erased", erased.State)
	require.WithinDuration(t, time.Now().Add(window), erased.FinalAt, time.Minute)
	require.NotContains(t, p.run("oubli", "open", "people", "sealed.csv"), "Anna")

	r := p.inspect()
	require.Len(t, r.Roots, 2)
	dying := r.Roots[0]
	require.Equal(t, "dying", dying.Role)
	require.Contains(t, dying.Why, "who runs the service can stop it until then")
	require.WithinDuration(t, erased.FinalAt, *dying.Dies, time.Minute)
	require.Contains(t, p.run("oubli", "status", "customer/1"), "; final at ")

	// A day later an administrator cancels. Nobody is brought back, and it begins anew.
	service.Advance(24 * time.Hour)
	service.Cancel(first[0])
	require.Equal(t, "Enabled", service.State(first[0]))
	require.Contains(t, p.run("oubli", "advance"), "warning")
	require.Equal(t, "PendingDeletion", service.State(first[0]))
	later := p.inspect().Roots[0]
	require.Equal(t, "dying", later.Role)
	require.True(t, later.Dies.After(*dying.Dies), "%s is not after %s", later.Dies, dying.Dies)

	service.Advance(6 * 24 * time.Hour)
	p.run("oubli", "advance")
	require.NotContains(t, p.run("oubli", "status", "customer/1"), "; final;")
	p.run("oubli", "verify")
}

// An erasure is final once AWS itself says that the key is gone, and not by our clock: here
// AWS is two months late.
func TestAWSIsLate(t *testing.T) {
	p, service, shelf := aws(t)
	service.Advance(-60 * 24 * time.Hour)
	p.env = append(p.env, "OUBLI_ROOT=awskms:"+awskmstest.Region+"?imported=false&window=168h&"+shelf)
	p.run("oubli", "init", "--shards", "32", "--lease", "200ms", "--grace", "0")
	p.run("oubli", "seal", "people", "people.csv", "-o", "sealed.csv")
	p.run("oubli", "anonymize", "customer/1", "--yes")
	require.Contains(t, p.run("oubli", "status", "customer/1"), "; not yet final, due since ")
	require.Contains(t, p.fails("advance"), "1 root is overdue")
	require.True(t, p.inspect().Roots[0].Overdue)
	service.Advance(8 * 24 * time.Hour)
	p.run("oubli", "advance")
	require.Len(t, p.inspect().Roots, 1)
	require.Contains(t, p.run("oubli", "status", "customer/1"), "; final;")
	p.run("oubli", "verify")

	// Away from there: nothing is final until the last key of the old place is gone.
	require.Contains(t, p.fails("root", "move", "--to", "file:oubli.root"), "hint: the same command again goes on from there")
	require.Contains(t, p.run("oubli", "status", "--root", "file:oubli.root"), "a move of the root is not finished: awskms:")
	p.run("oubli", "anonymize", "customer/2", "--yes", "--root", "file:oubli.root")
	require.NotContains(t, p.run("oubli", "status", "customer/2", "--root", "file:oubli.root"), "; final;")
	service.Advance(8 * 24 * time.Hour)
	require.Contains(t, p.run("oubli", "root", "move", "--to", "file:oubli.root"), "the root is now in file:")
	require.Contains(t, p.run("oubli", "status", "customer/2", "--root", "file:oubli.root"), "; final;")
	p.run("oubli", "verify", "--root", "file:oubli.root")
}

// Material that was imported is deleted at once.
func TestAWSImportedMaterial(t *testing.T) {
	p, service, shelf := aws(t)
	p.env = append(p.env, "OUBLI_ROOT=awskms:"+awskmstest.Region+"?"+shelf)
	require.Contains(t, p.run("oubli", "root", "rehearse"), "proven: what is destroyed in awskms:")
	p.run("oubli", "init", "--shards", "32", "--lease", "200ms", "--grace", "0")
	p.run("oubli", "seal", "people", "people.csv", "-o", "sealed.csv")
	p.run("oubli", "anonymize", "customer/1", "--yes")
	require.Contains(t, p.run("oubli", "status", "customer/1"), "; final;")
	require.Len(t, p.inspect().Roots, 1)
	p.run("oubli", "root", "rehearse")

	service.Down(true)
	out := p.fails("open", "people", "sealed.csv")
	require.Contains(t, out, "unavailable")
	require.NotContains(t, out, "erased")
	service.Down(false)
	service.Deny(true, "Decrypt")
	require.Contains(t, p.fails("open", "people", "sealed.csv"), "unavailable")
	service.Deny(false, "Decrypt")

	p.run("oubli", "root", "move", "--to", "file:oubli.root")
	p.run("oubli", "verify", "--root", "file:oubli.root")
	for _, arn := range service.Keys() {
		require.Zero(t, service.Material(arn), "%s holds what it wrapped with", arn)
	}
}

// Who is killed while a place is being made leaves it half made. The next one says what that
// is and how it goes away; a move goes on.
func TestAWSKilledInAPlaceThatIsBeingMade(t *testing.T) {
	p, service, shelf := aws(t)
	target, err := url.Parse(service.URL)
	require.NoError(t, err)
	var armed atomic.Bool
	victim := make(chan *os.Process, 1)
	proxy := httputil.NewSingleHostReverseProxy(target)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Amz-Target") == "TrentService.CreateKey" && armed.CompareAndSwap(true, false) {
			(<-victim).Kill()
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	p.env = append(p.env, "AWS_ENDPOINT_URL_KMS="+front.URL)
	killed := func(args ...string) {
		c := p.command("oubli", args...)
		armed.Store(true)
		require.NoError(t, c.Start())
		victim <- c.Process
		require.ErrorContains(t, c.Wait(), "killed")
	}
	place := "awskms:" + awskmstest.Region + "?" + shelf
	initialize := []string{"init", "--shards", "32", "--lease", "200ms", "--root", place}

	killed("root", "rehearse", "--root", place)
	require.Contains(t, p.fails("root", "rehearse", "--root", place), "oubli init --discard-root takes away")
	require.Contains(t, p.fails(initialize...), "--discard-root destroys the root")
	p.run("oubli", append(initialize, "--discard-root")...)
	p.run("oubli", "verify", "--root", place)
	p.run("oubli", "root", "move", "--root", place, "--to", "file:oubli.root")

	second := append(initialize, "--keystore-schema", "second")
	killed(second...)
	require.Contains(t, p.fails(second...), "is not finished")
	p.run("oubli", append(second, "--discard-root")...)
	p.run("oubli", "root", "move", "--keystore-schema", "second", "--root", place, "--to", "file:second.root")

	p.run("oubli", "seal", "people", "people.csv", "-o", "sealed.csv")
	killed("root", "move", "--to", place)
	require.Contains(t, p.run("oubli", "status"), "a move of the root is not finished: awskms:")
	require.Contains(t, p.run("oubli", "open", "people", "sealed.csv"), "1,Anna\n2,Bob\n")
	p.run("oubli", "root", "move", "--to", place)
	p.run("oubli", "verify", "--root", place)
	require.Contains(t, p.run("oubli", "open", "people", "sealed.csv", "--root", place), "1,Anna\n2,Bob\n")
}
