package pgoracle_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
	"github.com/oubli/oubli/keystore/rootfile"
)

// customer is a row of the application. Each field has a key of its own.
type customer struct {
	ID      int64  `oubli:",subject=customer"`
	Name    string `oubli:"name,replace=Erased"`
	VAT     string `oubli:"vat,purpose=tax"`
	Taste   string `oubli:"taste,purpose=ads"`
	Privacy fieldcrypt.Status
}

var purposes = []string{"", "tax", "ads"}

// plain is what the application knows of a person.
func plain(id int64) customer {
	return customer{ID: id, Name: fmt.Sprintf("Person %d", id), VAT: fmt.Sprintf("EU%d", id), Taste: fmt.Sprintf("tea %d", id)}
}

// person is a subject with what the test knows about its keys.
type person struct {
	sub  keystore.Subject
	live map[uint32]string // purposes by key id: must open
	dead map[uint32]bool   // destroyed on purpose: must never come back
}

// world is an application and its keystore, in one database of a server.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	now     time.Time
	server  *pgtest.Server
	dsn     string
	pool    *pgxpool.Pool
	backend *recorder
	roots   *learner
	store   *keystore.Store
	codec   *fieldcrypt.Codec[customer]
	people  []*person // by their ids, from 1
}

var seedFlag = flag.Uint64("seed", 0, "repeat the histories of a seed; 0: new ones")

// newWorld makes a keystore with an application in a new database of a server. The
// standbys are those that must follow before a root is destroyed.
func newWorld(t *testing.T, server *pgtest.Server, o *keystore.CreateOptions, standbys ...string) *world {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("the history is that of -seed %d", seed)
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 0)), now: time.Now().Truncate(time.Second)}
	dir := t.TempDir()
	roots, err := rootfile.New([]string{filepath.Join(dir, "root"), filepath.Join(dir, "mirror")}, nil)
	require.NoError(t, err)
	w.roots = &learner{inner: roots, dir: dir}

	dsn := server.Database(t)
	b, err := pgstore.Create(t.Context(), dsn, &pgstore.Options{Standbys: standbys})
	require.NoError(t, err)
	w.backend = &recorder{inner: b}
	require.NoError(t, keystore.Create(t.Context(), w.backend, w.roots, o))
	w.enter(server, dsn)
	w.open()
	t.Cleanup(func() { _ = w.store.Close() })
	_, err = w.pool.Exec(t.Context(), "create table customers (id bigint primary key, name text, vat text, taste text)")
	require.NoError(t, err)
	return w
}

// enter makes the database at dsn the application's.
func (w *world) enter(server *pgtest.Server, dsn string) {
	var err error
	w.server, w.dsn = server, dsn
	w.pool, err = pgxpool.New(w.t.Context(), dsn)
	require.NoError(w.t, err)
	w.t.Cleanup(w.pool.Close)
}

func (w *world) options() *keystore.Options {
	return &keystore.Options{Clock: func() time.Time { return w.now }}
}

// open opens the keystore.
func (w *world) open() {
	var err error
	w.store, err = keystore.Open(w.t.Context(), w.backend, w.roots, w.options())
	require.NoError(w.t, err)
	w.codec, err = fieldcrypt.NewCodec[customer](w.store, "customers", nil)
	require.NoError(w.t, err)
}

// close ends the use of the keystore and of the database.
func (w *world) close() {
	require.NoError(w.t, w.store.Close())
	w.pool.Close()
}

// add brings in people with a row each.
func (w *world) add(n int) {
	var rows []customer
	for range n {
		id := int64(len(w.people) + 1)
		sub, err := keystore.NewSubject("customer", id)
		require.NoError(w.t, err)
		w.people = append(w.people, &person{sub: sub, live: map[uint32]string{}, dead: map[uint32]bool{}})
		rows = append(rows, plain(id))
	}
	sealed, err := w.codec.SealAll(w.t.Context(), rows...)
	require.NoError(w.t, err)
	_, err = w.pool.CopyFrom(w.t.Context(), pgx.Identifier{"customers"}, []string{"id", "name", "vat", "taste"},
		pgx.CopyFromSlice(n, func(i int) ([]any, error) {
			return []any{sealed[i].ID, sealed[i].Name, sealed[i].VAT, sealed[i].Taste}, nil
		}))
	require.NoError(w.t, err)
	w.sync(nil, w.people[len(w.people)-n:]...)
}

// write seals somebody's row again, with the keys that are the newest.
func (w *world) write(p *person) {
	row, err := w.codec.Seal(w.t.Context(), plain(w.id(p)))
	if oneOf(w.t, err, refusals...); err != nil {
		return
	}
	_, err = w.pool.Exec(w.t.Context(), "update customers set name = $2, vat = $3, taste = $4 where id = $1", row.ID, row.Name, row.VAT, row.Taste)
	require.NoError(w.t, err)
	w.sync(nil, p)
}

func (w *world) id(p *person) int64 { return int64(slices.Index(w.people, p) + 1) }

// rows reads the application's table in some database, as it is stored.
func (w *world) rows(db *pgxpool.Pool) []*customer {
	rows, err := db.Query(w.t.Context(), "select id, name, vat, taste from customers order by id")
	require.NoError(w.t, err)
	list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (*customer, error) {
		c := &customer{}
		return c, r.Scan(&c.ID, &c.Name, &c.VAT, &c.Taste)
	})
	require.NoError(w.t, err)
	return list
}

// refusals are what the history may run into.
var refusals = []error{keystore.ErrState, keystore.ErrErased, keystore.ErrErasing, keystore.ErrHeld, keystore.ErrRestricted, keystore.ErrWithdrawn}

func oneOf(t *testing.T, err error, expected ...error) {
	t.Helper()
	if err != nil && !slices.ContainsFunc(expected, func(e error) bool { return errors.Is(err, e) }) {
		require.NoError(t, err)
	}
}

// sync takes over what the store says of people's keys. A key may be gone only where lose
// says so; what was destroyed must not be back.
func (w *world) sync(lose func(purpose string, st keystore.Status) bool, people ...*person) {
	list, err := w.store.Status(w.t.Context(), subjects(people)...)
	require.NoError(w.t, err)
	for i, st := range list {
		p := people[i]
		have := map[uint32]string{}
		for _, k := range st.Keys {
			require.False(w.t, p.dead[k.ID], "key %08x of %s was destroyed and is back", k.ID, p.sub)
			have[k.ID] = k.Purpose
		}
		for id, purpose := range p.live {
			if _, ok := have[id]; !ok {
				require.True(w.t, lose != nil && lose(purpose, st), "key %08x of %s for %q is lost, in state %s", id, p.sub, purpose, st.State)
				p.dead[id] = true
			}
		}
		p.live = have
	}
}

// deadKeys counts what was destroyed.
func (w *world) deadKeys() (n int) {
	for _, p := range w.people {
		n += len(p.dead)
	}
	return n
}

func subjects(people []*person) (list []keystore.Subject) {
	for _, p := range people {
		list = append(list, p.sub)
	}
	return list
}

// some draws n people.
func (w *world) some(n int) (list []*person) {
	for _, i := range w.rng.Perm(len(w.people))[:n] {
		list = append(list, w.people[i])
	}
	return list
}

// erase erases people at once, and tells whose keys were destroyed.
func (w *world) erase(keep []string, people ...*person) (erased []*person) {
	var rs []keystore.Request
	for _, p := range people {
		rs = append(rs, keystore.Request{Subject: p.sub, Keep: keep})
	}
	es, err := w.store.Erase(w.t.Context(), rs...)
	require.NoError(w.t, err)
	for i, e := range es {
		if oneOf(w.t, e.Err, refusals...); e.Err == nil {
			erased = append(erased, people[i])
		}
	}
	w.sync(func(purpose string, st keystore.Status) bool { return !slices.Contains(st.Journal.Keep, purpose) }, erased...)
	return erased
}

// withdraw destroys somebody's keys for a purpose.
func (w *world) withdraw(p *person, purpose string) {
	_, err := w.store.Withdraw(w.t.Context(), p.sub, purpose)
	oneOf(w.t, err, refusals...)
	w.sync(func(gone string, _ keystore.Status) bool { return err == nil && gone == purpose }, p)
}

// steps does n things at random.
func (w *world) steps(n int) {
	for range n {
		w.step()
	}
	w.sync(nil, w.people...)
}

func (w *world) step() {
	ctx, few := w.t.Context(), w.some(1+w.rng.IntN(20))
	one := few[0]
	switch w.rng.IntN(12) {
	case 0:
		w.add(len(few))
	case 1:
		errs, err := w.store.Rotate(ctx, subjects(few)...)
		require.NoError(w.t, err)
		for _, err := range errs {
			oneOf(w.t, err, refusals...)
		}
	case 2, 3:
		w.write(one)
	case 4:
		oneOf(w.t, joined(w.store.Restrict(ctx, &keystore.RestrictOptions{Purposes: purposes[1 : 1+w.rng.IntN(3)]}, one.sub)), refusals...)
	case 5:
		for _, p := range few {
			oneOf(w.t, joined(w.store.Release(ctx, p.sub)), refusals...)
		}
	case 6:
		errs, err := w.store.RequestErasure(ctx, keystore.Request{Subject: one.sub, Keep: purposes[1 : 1+w.rng.IntN(2)]})
		require.NoError(w.t, err)
		oneOf(w.t, errs[0], refusals...)
	case 7:
		w.withdraw(one, "ads")
	case 8:
		w.erase([]string{"tax"}, one)
	case 9:
		w.erase(nil, one)
	case 10:
		w.erase(nil, few...)
	case 11:
		for _, p := range few {
			oneOf(w.t, w.store.Readmit(ctx, p.sub), refusals...)
		}
	}
	w.sync(nil, few...)
}

// read opens rows of the application, as they stood in some copy of it, and checks that
// each field reads as it must now. It tells how many are in the clear, and how many erased.
func (w *world) read(rows []*customer) (open, erased int) {
	status, err := w.store.Status(w.t.Context(), subjects(w.people)...)
	require.NoError(w.t, err)
	allowed := map[string][]*customer{} // by the purpose that may be read for
	var stored []customer
	for _, row := range rows {
		stored = append(stored, *row)
		purpose := ""
		if st := status[row.ID-1]; st.State == keystore.StateRestricted && len(st.Purposes) > 0 {
			purpose = st.Purposes[0]
		}
		allowed[purpose] = append(allowed[purpose], row)
	}
	for purpose, rows := range allowed {
		ctx := w.t.Context()
		if purpose != "" {
			ctx = keystore.WithPurpose(ctx, purpose)
		}
		require.NoError(w.t, w.codec.Open(ctx, rows...))
	}
	for i, row := range rows {
		p, st, full := w.people[row.ID-1], status[row.ID-1], plain(row.ID)
		withheld := st.State == keystore.StateErasing || st.State == keystore.StateRestricted && len(st.Purposes) == 0
		for _, f := range []struct{ stored, read, plain, replacement string }{
			{stored[i].Name, row.Name, full.Name, "Erased"}, {stored[i].VAT, row.VAT, full.VAT, ""}, {stored[i].Taste, row.Taste, full.Taste, ""},
		} {
			id := envelopeOf(w.t, f.stored).keyID()
			_, lives := p.live[id]
			require.NotEqual(w.t, lives, p.dead[id])
			switch {
			case p.dead[id]:
				erased++
				require.Equal(w.t, f.replacement, f.read, "%s is %s", p.sub, st.State)
			case withheld:
				require.Empty(w.t, f.read, "%s is %s", p.sub, st.State)
			default:
				open++
				require.Equal(w.t, f.plain, f.read, "%s is %s", p.sub, st.State)
			}
		}
		if st.State == keystore.StateErased {
			require.Equal(w.t, fieldcrypt.StatusErased, row.Privacy)
		}
	}
	return open, erased
}

// stored returns every record that the database holds now.
func stored(t *testing.T, b keystore.Backend) []keystore.Record {
	recs, err := b.Scan(context.WithoutCancel(t.Context()), []byte{0}, []byte{0xff, 0xff}, 1<<20)
	require.NoError(t, err)
	return recs
}

// joined is the error of a call that is about one subject.
func joined(errs []error, err error) error { return errors.Join(append(errs, err)...) }
