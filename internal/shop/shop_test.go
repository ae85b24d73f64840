package shop_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/internal/shop"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
	"github.com/oubli/oubli/keystore/rootfile"
)

// world is a database with the shop's tables and a keystore, and the newsletter's server.
type world struct {
	t          *testing.T
	dsn        string
	root       string
	newsletter *newsletter
}

const (
	grace = time.Second
	lease = time.Second // less, and a busy machine may look like a database that is away
)

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx := t.Context()
	w := &world{t: t, dsn: pgtest.Shared(t).Database(t), root: filepath.Join(t.TempDir(), "root"), newsletter: newNewsletter(t)}
	pool := w.pool(w.dsn, 0)
	require.NoError(t, shop.CreateTables(ctx, pool))
	backend, err := pgstore.Create(ctx, w.dsn, nil)
	require.NoError(t, err)
	defer backend.Close()
	require.NoError(t, keystore.Create(ctx, backend, w.roots(), &keystore.CreateOptions{Grace: grace, Lease: lease, Shards: 256}))
	return w
}

func (w *world) roots() *rootfile.Store {
	w.t.Helper()
	roots, err := rootfile.New([]string{w.root}, nil)
	require.NoError(w.t, err)
	return roots
}

// config is that of a process.
func (w *world) config(worker string) shop.Config {
	return shop.Config{Database: w.dsn, Root: []string{w.root}, NoWorker: worker == "",
		Options: shop.Options{NewsletterURL: w.newsletter.url, Worker: worker}}
}

// pool opens a pool of the application's; conns 0 is pgx's own choice.
func (w *world) pool(dsn string, conns int32) *pgxpool.Pool {
	w.t.Helper()
	c, err := pgxpool.ParseConfig(dsn)
	require.NoError(w.t, err)
	if conns > 0 {
		c.MaxConns = conns
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), c)
	require.NoError(w.t, err)
	w.t.Cleanup(pool.Close)
	return pool
}

// inProcess serves the shop in this process, with the keystore that dsn names.
func (w *world) inProcess(pool *pgxpool.Pool, backend *pgstore.Store) (client, *keystore.Store, *shop.Shop) {
	w.t.Helper()
	keys, err := keystore.Open(w.t.Context(), backend, w.roots(), nil)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { keys.Close() })
	s, err := shop.New(pool, keys, &shop.Options{NewsletterURL: w.newsletter.url, Worker: "here"})
	require.NoError(w.t, err)
	server := httptest.NewServer(s.Handler())
	w.t.Cleanup(server.Close)
	return client{t: w.t, url: server.URL}, keys, s
}

// newsletter is the system that has copies of the subscribers' addresses.
type newsletter struct {
	url string

	mu     sync.Mutex
	heard  []notice
	answer func(n notice, gone <-chan struct{}) int // default: 204
}

type notice struct{ Event, Email string }

func newNewsletter(t *testing.T) *newsletter {
	n := &newsletter{}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		var heard notice
		if err := json.NewDecoder(r.Body).Decode(&heard); err != nil {
			rw.WriteHeader(http.StatusBadRequest)
			return
		}
		n.mu.Lock()
		n.heard = append(n.heard, heard)
		answer := n.answer
		n.mu.Unlock()
		status := http.StatusNoContent
		if answer != nil {
			status = answer(heard, r.Context().Done())
		}
		rw.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	n.url = server.URL
	return n
}

func (n *newsletter) answers(f func(n notice, gone <-chan struct{}) int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answer = f
}

// of lists what was said about an address.
func (n *newsletter) of(email string) []notice {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(n.heard), func(h notice) bool { return h.Email != email })
}

// chinookShop is what the shop holds once Chinook's rows were sent to it.
type chinookShop struct {
	customers []object            // as they are read
	invoices  map[string][]object // by customer, as they are read
	turnover  map[string]float64
}

// load sends Chinook's customers to the shop and then its invoices, several at a time, to
// several processes.
func load(t *testing.T, clients ...client) chinookShop {
	t.Helper()
	s := chinookShop{invoices: map[string][]object{}, turnover: map[string]float64{}}
	ids := map[string]float64{}
	rows := chinook(t, "customers.csv")
	s.customers = post(t, clients, "/customers", len(rows), func(n int) object { return customerOf(rows[n]) })
	for n, c := range s.customers {
		ids[rows[n]["customer_id"]] = c["id"].(float64)
	}
	rows = chinook(t, "invoices.csv")
	stored := post(t, clients, "/invoices", len(rows), func(n int) object { return invoiceOf(rows[n], ids[rows[n]["customer_id"]]) })
	for n, i := range stored {
		i["privacy"] = "open" // when it is read
		customer := fmt.Sprint(i["customer_id"])
		s.invoices[customer] = append(s.invoices[customer], i)
		s.turnover[rows[n]["billing_country"]] += i["cents"].(float64)
	}
	for _, is := range s.invoices {
		slices.SortFunc(is, func(x, y object) int { return cmp.Compare(x["id"].(float64), y["id"].(float64)) })
	}
	require.Len(t, s.customers, 59)
	require.Len(t, stored, 412)
	return s
}

// post sends n rows, four at a time, and returns them as they are stored.
func post(t *testing.T, clients []client, path string, n int, row func(int) object) []object {
	t.Helper()
	stored := make([]object, n)
	var next atomic.Int64
	failed := make(chan error, 4)
	for range cap(failed) {
		go func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					failed <- nil
					return
				}
				status, text, _, err := clients[i%len(clients)].try("POST", path, row(i))
				if err == nil && status != http.StatusCreated {
					err = fmt.Errorf("POST %s: %d %s", path, status, text)
				}
				if err == nil {
					err = json.Unmarshal(text, &stored[i])
				}
				if err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	for range cap(failed) {
		require.NoError(t, <-failed)
	}
	return stored
}

func id(row object) string { return fmt.Sprint(int64(row["id"].(float64))) }

// The shop's day: Chinook's customers come in through two processes, one asks to be erased,
// the process that works on it is killed and started again, and both agree on what is left.
func TestShop(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := start(t, w.config("a")), start(t, w.config(""))
	s := load(t, a.client, b.client)

	// What one process wrote, the other reads, and the database holds nothing of it.
	for _, c := range s.customers {
		require.Equal(t, c, b.get("/customers/"+id(c)))
		require.Equal(t, s.invoices[id(c)], a.list("/invoices?customer="+id(c)))
	}
	require.Equal(t, s.turnover, want[map[string]float64](b.client, 200, "GET", "/report/turnover", nil))
	require.Greater(t, requireSealed(t, w.pool(w.dsn, 1), personal(t)), 59*6+412*3)
	require.Equal(t, 404, status(a.client, "GET", "/customers/1000"))
	require.Equal(t, "none", a.get("/erasures/1")["state"])

	// The newsletter is down when it is told first, and hangs when it is told again. By then
	// nobody else reads the customer, in neither process.
	leonie := s.customers[1]
	path, email := "/customers/"+id(leonie), leonie["email"].(string)
	hangs := make(chan struct{})
	readByOthers := make(chan int, 1)
	var once sync.Once
	w.newsletter.answers(func(n notice, gone <-chan struct{}) int {
		if len(w.newsletter.of(email)) == 1 {
			if answer, err := http.Get(b.url + path); err == nil {
				answer.Body.Close()
				readByOthers <- answer.StatusCode
			}
			return http.StatusBadGateway
		}
		once.Do(func() { close(hangs) })
		<-gone
		return http.StatusNoContent
	})
	require.Equal(t, leonie, b.get(path), "her keys are in the memory of both")
	code, text, header, err := a.try("DELETE", path, nil)
	require.NoError(t, err)
	require.Equal(t, 202, code, "%s", text)
	require.Equal(t, "/erasures/"+id(leonie), header.Get("Location"))
	require.Equal(t, 451, status(a.client, "GET", path), "here it is withheld at once")
	require.Equal(t, 451, status(a.client, "PUT", path, leonie))
	require.Equal(t, 202, status(a.client, "DELETE", path), "asking twice is asking once")

	// The process dies in the middle of telling it, and is started again.
	select {
	case <-hangs:
	case <-time.After(20 * time.Second):
		require.Fail(t, "the newsletter is not told again")
	}
	a.kill()
	log := a.log.String()
	w.newsletter.answers(nil)
	require.Equal(t, 451, <-readByOthers)
	e := b.get(header.Get("Location"))
	require.Equal(t, "waiting", e["state"])
	require.Equal(t, []any{"newsletter"}, e["waiting_for"])
	require.Equal(t, 451, status(b.client, "GET", path))
	a = start(t, w.config("a"))
	e = a.erasure(id(leonie), "erased", "final")
	require.Equal(t, []any{"tax"}, e["kept"])

	// Both processes agree. The other one may call it withheld until it has heard.
	var erased object
	for _, p := range []*process{b, a} {
		erased = p.erased(path)
		require.Equal(t, "erased", erased["privacy"])
		require.Equal(t, "Erased", erased["first_name"])
		require.Equal(t, "Customer "+id(leonie), erased["last_name"])
		require.Equal(t, id(leonie)+"@erased.invalid", erased["email"])
		require.Nil(t, erased["phone"])
		require.Equal(t, false, erased["newsletter"])
		address := erased["addresses"].([]any)[0].(object)
		require.Equal(t, "-", address["street"])
		require.Equal(t, "Germany", address["country"])
		for _, i := range p.list("/invoices?customer=" + id(leonie)) {
			require.Equal(t, "withheld", i["privacy"])
			require.Nil(t, i["billing_address"])
		}
		require.Equal(t, s.invoices[id(leonie)], p.list("/tax/invoices?customer="+id(leonie)), "for the tax office")
		require.Equal(t, s.turnover, want[map[string]float64](p.client, 200, "GET", "/report/turnover", nil))
	}
	heard := w.newsletter.of(email)
	require.Len(t, heard, 3, "once down, once hanging, once for good")
	require.Equal(t, heard[0], heard[2], "the same event")
	require.NotEmpty(t, heard[0].Event)

	// An erased customer's rows can be written, but for what is personal.
	require.Equal(t, erased["email"], want[object](b.client, 200, "PUT", path, erased)["email"])
	erased["phone"] = "+49 0711 2842222"
	require.Equal(t, 410, status(b.client, "PUT", path, erased))
	first := s.invoices[id(leonie)][0]
	refunded := want[object](b.client, 200, "POST", "/invoices/"+id(first)+"/refund", object{"cents": 100})
	require.Equal(t, 100.0, refunded["refunded_cents"])
	s.turnover["Germany"] -= 100
	require.Equal(t, 451, status(a.client, "POST", "/invoices", first))

	// When the tax office's time is up, the rest goes. The process that is asked dies with
	// the request, before it could do anything.
	require.Equal(t, 202, status(b.client, "DELETE", path+"?keep=nothing"))
	b.kill()
	a.erasure(id(leonie), "erased", "final")
	b = start(t, w.config(""))
	for _, p := range []*process{b, a} {
		for _, i := range p.list("/tax/invoices?customer=" + id(leonie)) {
			require.Equal(t, "erased", i["privacy"])
			require.Nil(t, i["billing_city"])
		}
		require.Equal(t, s.turnover, want[map[string]float64](p.client, 200, "GET", "/report/turnover", nil))
	}
	refunded = a.list("/invoices?customer=" + id(leonie))[0]
	refunded["refunded_cents"] = 198.0
	require.Equal(t, 198.0, want[object](a.client, 200, "PUT", "/invoices/"+id(first), refunded)["refunded_cents"])
	require.Equal(t, 410, status(a.client, "POST", "/invoices", first))
	require.Equal(t, 410, status(a.client, "PUT", "/invoices/"+id(first), first))

	// Nobody else lost anything, and after the grace it is final.
	for _, c := range s.customers {
		if id(c) != id(leonie) {
			require.Equal(t, c, b.get("/customers/"+id(c)))
			require.Equal(t, s.invoices[id(c)], a.list("/invoices?customer="+id(c)))
		}
	}
	a.stop()
	log += a.log.String()
	time.Sleep(grace)
	a = start(t, w.config("a"))
	for _, p := range []*process{a, b} {
		p.erasure(id(leonie), "final")
	}
	a.stop()
	b.stop()

	// The logs tell what went wrong, and hold nothing of anybody.
	log += a.log.String() + b.log.String()
	require.Contains(t, log, "customer/"+id(leonie))
	for _, value := range personal(t) {
		if len(value) > 4 {
			require.NotContains(t, log, value)
		}
	}
}

// status makes a request and returns the answer's status.
func status(c client, method, path string, body ...object) int {
	c.t.Helper()
	var send any
	if len(body) > 0 {
		send = body[0]
	}
	status, _ := c.call(method, path, send)
	return status
}
