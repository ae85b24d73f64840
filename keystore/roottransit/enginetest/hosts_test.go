//go:build linux

package enginetest

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/crew"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
	"github.com/oubli/oubli/keystore/roottransit"
)

// Three hosts share a keystore in PostgreSQL whose root is in the engine. Whatever becomes
// of one of them, of its cables or of the engine, advances finish, nobody opens an erased
// subject, and nobody loses a living one.
func TestHosts(t *testing.T) {
	for name, c := range map[string]struct {
		grace  time.Duration
		rounds []round
	}{
		"grace 0": {0, []round{
			{"cut off from the root store in mid-advance", (*hosts).loseEngine},
			{"cut off from the database in mid-advance", (*hosts).loseDatabase},
			{"killed before it trims", (*hosts).killBeforeTrim},
			{"the engine is sealed", (*hosts).seal},
			{"tokens expire", (*hosts).expire},
		}},
		"grace of seconds": {3 * time.Second, []round{
			{"cut off from the root store before it trims", (*hosts).loseEngineBeforeTrim},
			{"killed in mid-advance", (*hosts).killInAdvance},
			{"the engine is restarted", (*hosts).restart},
			{"cut off from the database in mid-advance", (*hosts).loseDatabase},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			share(t, c.grace, c.rounds)
		})
	}
}

// lease is L, the default.
const lease = keystore.DefaultLease

// round is something that happens to a host or to the engine. It returns false if it did not
// come to it.
type round struct {
	name string
	play func(h *hosts) bool
}

// hosts are three of them at work. The first two do what they are told besides; the third
// kills itself at random moments of its advances.
type hosts struct {
	t      *testing.T
	hosts  []*host
	crew   *crew.Crew
	engine *Engine
	config *roottransit.Config
	last   int64 // subject of a command
}

// reckless is the host that kills itself.
const reckless = 2

// A token lives for so long, and for so long if it is renewed: a host logs in several times.
const (
	tokenTTL = 4 * time.Second
	tokenMax = 10 * time.Second
)

func share(t *testing.T, grace time.Duration, rounds []round) {
	db := pgtest.Shared(t).Database(t)
	e := start(t, nil)
	s := &hosts{t: t, engine: e, hosts: wire(t, hostOf(t, db), strings.TrimPrefix(e.URL(), "http://"), "alpha", "beta", "gamma")}
	config, secretID, err := e.AppRole(e.Config(), tokenTTL, tokenMax)
	require.NoError(t, err)
	s.config = config
	roots := create(t, db, e, config, secretID, grace)

	s.crew = crew.New(t, crew.Config{})
	for i, h := range s.hosts {
		s.crew.Hire(t, h.name, func(c *crew.Config) {
			c.DSN = at(t, db, h.database.addr)
			c.Roots = []string{config.URL() + "&auth=approle&role=" + config.Role, secretID, h.engine.addr}
			if i == reckless {
				c.Chance = 12
			}
		}, h.enter)
	}
	length := time.Duration(*minutes * float64(time.Minute))
	played := map[string]int{}
	lacking := func() []string {
		list := s.crew.Judge(t).Lacking()
		for _, r := range rounds {
			if played[r.name] == 0 {
				list = append(list, r.name+" did not happen")
			}
		}
		return list
	}
	for n := 0; s.crew.Since() < length || s.crew.Since() < length+2*time.Minute && len(lacking()) > 0; n++ {
		r := rounds[n%len(rounds)]
		began := s.crew.Since()
		if r.play(s) {
			played[r.name]++
		}
		t.Logf("%6v, for %6v: %s", began.Round(time.Millisecond), (s.crew.Since() - began).Round(time.Millisecond), r.name)
		s.crew.KeepAlive(t)
	}
	v := s.crew.EndAll(t)
	t.Logf("%v: %d processes killed; %v", s.crew.Since().Round(time.Second), s.crew.Kills, played)
	for _, h := range s.hosts {
		t.Logf("%s: cut off from the database %d times, from the engine %d times", h.name, h.database.cuts, h.engine.cuts)
	}
	t.Logf("%v", v)
	require.Empty(t, v.Faults, "%s", strings.Join(v.Faults, "\n"))
	require.Empty(t, lacking())
	s.identities()

	keys, err := crew.Open(t.Context(), crew.Config{DSN: db}, roots, nil)
	require.NoError(t, err)
	defer keys.Close()
	rest, err := crew.AtRest(t.Context(), keys, roots, db, v)
	require.NoError(t, err)
	require.Empty(t, rest.Faults, "%s", strings.Join(rest.Faults, "\n"))
	t.Logf("%d rows of the living open, %d of the erased do not; %d rings verified", rest.Living, rest.Erased, rest.Rings)
	require.Positive(t, rest.Living)
	require.Positive(t, rest.Erased)
	s.trimmed()
}

// trimmed requires that every version but those of living roots has left the engine's
// storage: one root lives.
func (s *hosts) trimmed() {
	engine := &seen{record: s.engine.Record(), latest: map[string]*stored{}, mount: func(string) bool { return true }}
	engine.update(time.Now())
	now, ever := engine.transitKeys(standing(time.Now(), 0)), engine.transitKeys(everOne)
	loot := newLoot()
	for _, d := range engine.docs {
		if d.Engine == "kv" {
			loot.take(d.Value)
		}
	}
	s.t.Logf("the engine had %d keys, and has %d", len(ever), len(now))
	require.Len(s.t, loot.open(now, nil), 1, "wrapped roots that open")
	require.Greater(s.t, len(ever), len(now))
}

func hostOf(t *testing.T, dsn string) string {
	t.Helper()
	c, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	return fmt.Sprintf("%s:%d", c.Host, c.Port)
}

// create makes the keystore and the table of the rows.
func create(t *testing.T, db string, e *Engine, c *roottransit.Config, secretID string, grace time.Duration) keystore.RootStore {
	t.Helper()
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, db)
	require.NoError(t, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, crew.CreateTable)
	require.NoError(t, err)
	backend, err := pgstore.Create(ctx, db, nil)
	require.NoError(t, err)
	defer backend.Close()
	roots, err := e.Open(c, "", secretID)
	require.NoError(t, err)
	t.Cleanup(func() { roots.Close() })
	require.NoError(t, keystore.Create(ctx, backend, roots, &keystore.CreateOptions{Shards: 64, Lease: lease, Grace: grace}))
	return roots
}

// identities requires that each process found itself on a machine of its own, where hosts
// are more than proxies.
func (s *hosts) identities() {
	seen := map[string]string{}
	for i, p := range s.crew.Procs {
		if s.hosts[i].enter == nil {
			return
		}
		id, err := os.ReadFile(p.Journal + ".host")
		require.NoError(s.t, err)
		require.Contains(s.t, string(id), s.hosts[i].name)
		require.Empty(s.t, seen[string(id)])
		seen[string(id)] = p.Name
	}
}

// subject writes a row for a new subject from a host, and returns its number.
func (s *hosts) subject(p *crew.Process) int64 {
	s.last++
	require.Equal(s.t, "wrote", p.Ask(crew.Patience, "write", s.last), p.Name)
	return s.last
}

// erased has a host erase a subject, and requires that it says it did.
func (s *hosts) erased(p *crew.Process, id int64) {
	s.t.Helper()
	require.Equal(s.t, "erased", p.Ask(crew.Patience, "erase", id), p.Name)
}

// recovers requires that a host erases again, within a time in which it may fail.
func (s *hosts) recovers(p *crew.Process, id int64) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return p.Ask(crew.Patience, "erase", id) == "erased" }, crew.Patience, 10*time.Millisecond, p.Name)
}

func (s *hosts) alpha() *crew.Process { return s.crew.Procs[0] }
func (s *hosts) beta() *crew.Process  { return s.crew.Procs[1] }

func (s *hosts) loseEngine() bool           { return s.loseEngineAt(crew.StepIntent) }
func (s *hosts) loseEngineBeforeTrim() bool { return s.loseEngineAt(stepTrim) }

// loseEngineAt cuts alpha off from the engine at a step of its advance. Beta erases
// meanwhile, which takes an advance; for alpha that is later.
func (s *hosts) loseEngineAt(step string) bool {
	alpha, beta, engine := s.alpha(), s.beta(), s.hosts[0].engine
	id, own, living := s.subject(beta), s.subject(beta), s.subject(beta)
	require.Equal(s.t, "plain 1", alpha.Ask(crew.Patience, "open", living))
	if alpha.Ask(crew.Patience, "gate "+step) != "there" {
		return false
	}
	engine.pull(s.t)
	require.Equal(s.t, "gone", alpha.Ask(crew.Patience, "go"))
	s.erased(beta, id)
	require.NotContains(s.t, alpha.Ask(crew.Patience, "open", id), "plain")
	require.Equal(s.t, "plain 1", beta.Ask(crew.Patience, "open", living))
	engine.plug(s.t)
	s.recovers(alpha, own)
	require.Equal(s.t, "plain 1", alpha.Ask(crew.Patience, "open", living))
	return true
}

// loseDatabase cuts beta off from the database between intent and completion of its advance,
// while it holds plaintext that its final check has not passed.
func (s *hosts) loseDatabase() bool {
	alpha, beta, database := s.alpha(), s.beta(), s.hosts[1].database
	id, own := s.subject(alpha), s.subject(alpha)
	if beta.Ask(crew.Patience, "hold", id) != "held" || beta.Ask(crew.Patience, "gate "+crew.StepIntent) != "there" {
		return false
	}
	database.pull(s.t)
	require.Equal(s.t, "gone", beta.Ask(crew.Patience, "go"))
	s.erased(alpha, id)
	require.Equal(s.t, "stale", beta.Ask(crew.Patience, "check"))
	database.plug(s.t)
	s.recovers(beta, own)
	require.Contains(s.t, beta.Ask(crew.Patience, "open", id), "erased")
	return true
}

func (s *hosts) killInAdvance() bool  { return s.killAt(crew.StepIntent) }
func (s *hosts) killBeforeTrim() bool { return s.killAt(stepTrim) }

// killAt kills alpha at a step of its advance. Beta finishes it.
func (s *hosts) killAt(step string) bool {
	id := s.subject(s.beta())
	if s.alpha().Ask(crew.Patience, "gate "+step) != "there" {
		return false
	}
	s.crew.Kill(s.t, 0)
	s.erased(s.beta(), id)
	s.recovers(s.alpha(), s.subject(s.beta()))
	return true
}

// seal seals the engine while everybody is at work and one starts anew. Who is at work goes on
// reading, unless an advance came right before; erasing and starting have to wait.
func (s *hosts) seal() bool {
	beta := s.beta()
	id, living := s.subject(beta), s.subject(beta)
	require.Equal(s.t, "plain 1", beta.Ask(crew.Patience, "open", living))
	require.NoError(s.t, s.engine.Seal())
	s.crew.Kill(s.t, 0)
	if answer := beta.Ask(crew.Patience, "open", living); answer != "plain 1" {
		require.Contains(s.t, answer, keystore.ErrUnavailable.Error())
	}
	require.Equal(s.t, "failed", beta.Ask(crew.Patience, "erase", id))
	require.Equal(s.t, "no answer", s.alpha().Ask(lease/4, "open", living), "it has not started")
	require.NoError(s.t, s.engine.Unseal())
	s.recovers(beta, id)
	require.Equal(s.t, "plain 1", beta.Ask(crew.Patience, "open", living))
	s.recovers(s.alpha(), s.subject(beta))
	return true
}

// restart restarts the engine, with what it has stored.
func (s *hosts) restart() bool {
	require.NoError(s.t, s.engine.Restart())
	s.recovers(s.beta(), s.subject(s.alpha()))
	return true
}

// expire ends the tokens of all hosts, before their time.
func (s *hosts) expire() bool {
	require.NoError(s.t, s.engine.RevokeLogins(s.config))
	s.recovers(s.beta(), s.subject(s.alpha()))
	return true
}
