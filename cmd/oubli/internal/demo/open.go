package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/anonymize/admin"
	"github.com/oubli/oubli/keystore"
)

// Grace of the keystore of a Shop: what is erased in it is final a day later.
const Grace = 24 * time.Hour

// Newsletter is the name of the receiver for customers that a Shop has.
const Newsletter = "newsletter"

// Shop is the shop of the story, for others to work in: 59 customers and their 412
// invoices, sealed, with an Eraser that has both tables, and a newsletter that everybody
// has subscribed to. Each erasure takes the customer's address off its list first.
//
// More receivers may be connected before the Eraser is used.
type Shop struct {
	Keys      *keystore.Store
	Eraser    *anonymize.Eraser
	Customers *anonymize.Table[Customer]
	Invoices  *anonymize.Table[Invoice]

	world *world
	list  newsletter
}

// Open opens the shop in a folder, and makes it there if the folder is empty. The folder is
// the caller's to remove. o is for its Eraser, and may be nil.
func Open(ctx context.Context, dir string, o *anonymize.Options) (s *Shop, err error) {
	s = &Shop{world: &world{dir: dir}, list: newsletter{dir: filepath.Join(dir, Newsletter)}}
	defer func() {
		if err != nil {
			s, err = nil, errors.Join(err, s.Close())
		}
	}()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return s, err
	}
	if len(entries) == 0 {
		err = s.make(ctx)
	} else {
		err = s.world.open(ctx)
	}
	if err != nil {
		return s, err
	}
	s.Keys = s.world.keys
	if s.Eraser, err = anonymize.New(s.Keys, o); err != nil {
		return s, err
	}
	live := s.world.live
	s.Customers = anonymize.Register(s.Eraser, live.customerKeys, live.customerFile)
	s.Invoices = anonymize.Register(s.Eraser, live.invoiceKeys, live.invoiceFile)
	s.Customers.PreAnonymize(Newsletter, func(_ context.Context, _ anonymize.Erasure, c Customer) error {
		return s.list.unsubscribe(c.Email)
	})
	return s, nil
}

func (s *Shop) make(ctx context.Context) error {
	p, err := readPlain()
	if err != nil {
		return err
	}
	if err := s.world.build(ctx, p, Grace); err != nil {
		return err
	}
	return s.list.subscribe(p.customers)
}

// GivePast has some people erased and restricted already, so that every state is to be
// seen: customer/37 is erased, of customer/2 what the tax office wants is kept, customer/59
// is restricted, and customer/5 may not be erased.
func (s *Shop) GivePast(ctx context.Context) error {
	for _, past := range []struct {
		id   int64
		keep []string
	}{{gone, nil}, {kept, []string{"tax"}}} {
		who, err := customer(past.id)
		if err != nil {
			return err
		}
		if _, err := s.Eraser.AnonymizeWith(ctx, &anonymize.Request{Keep: past.keep}, who); err != nil {
			return err
		}
	}
	for _, past := range []struct {
		id int64
		o  keystore.RestrictOptions
	}{{59, keystore.RestrictOptions{}}, {5, keystore.RestrictOptions{Hold: "a claim is before the court"}}} {
		who, err := customer(past.id)
		if err != nil {
			return err
		}
		errs, err := s.Keys.Restrict(ctx, &past.o, who)
		if err := errors.Join(append(errs, err)...); err != nil {
			return err
		}
	}
	return nil
}

// Columns are what lists show of a customer.
func (s *Shop) Columns() (admin.Columns, error) {
	return admin.TableColumns(s.Customers, "first_name", "last_name", "country")
}

func customer(id int64) (keystore.Subject, error) { return keystore.NewSubject("customer", id) }

// Turnover is what was sold, in cents by country, of customers who are erased as well: it
// is not personal.
func (s *Shop) Turnover(ctx context.Context) (map[string]int64, error) {
	invoices, err := all(s.world.live.invoiceFile.List(ctx))
	return turnover(invoices), err
}

// Stop is the file that stops the newsletter: while it exists, no erasure goes on.
func (s *Shop) Stop() string { return s.list.stop() }

// Close closes the keystore. The Eraser's Run must have returned.
func (s *Shop) Close() error {
	if s.world.keys == nil {
		return nil
	}
	return s.world.keys.Close()
}

// newsletter is a system that has data of its own about customers, in a folder: the
// addresses that it writes to.
type newsletter struct {
	dir string
	mu  sync.Mutex
}

func (n *newsletter) file() string { return filepath.Join(n.dir, "subscribers.txt") }
func (n *newsletter) stop() string { return filepath.Join(n.dir, "stop") }

func (n *newsletter) subscribe(customers []Customer) error {
	if err := os.Mkdir(n.dir, 0o700); err != nil {
		return err
	}
	var b strings.Builder
	for _, c := range customers {
		b.WriteString(c.Email + "\n")
	}
	return os.WriteFile(n.file(), []byte(b.String()), 0o600)
}

// unsubscribe takes an address off the list, if it is there.
func (n *newsletter) unsubscribe(address string) error {
	if _, err := os.Stat(n.stop()); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the newsletter is stopped: remove %s", n.stop())
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	f, err := os.Open(n.file())
	if err != nil {
		return err
	}
	defer f.Close()
	var left []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		left = append(left, lines.Text())
	}
	if lines.Err() != nil {
		return lines.Err()
	}
	left = slices.DeleteFunc(left, func(line string) bool { return line == address })
	if err := os.WriteFile(n.file()+".new", []byte(strings.Join(append(left, ""), "\n")), 0o600); err != nil {
		return err
	}
	return os.Rename(n.file()+".new", n.file())
}
