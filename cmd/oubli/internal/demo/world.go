package demo

import (
	"context"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/boltstore"
	"github.com/oubli/oubli/keystore/rootfile"
)

// world is the folder that the story plays in.
type world struct {
	dir   string
	roots *rootfile.Store
	bolt  *boltstore.Store // under keys
	keys  *keystore.Store
	live  data
}

func (w *world) path(parts ...string) string {
	return filepath.Join(append([]string{w.dir}, parts...)...)
}

// data is the tables in one folder, bare and wrapped.
type data struct {
	customerFile *table[Customer]
	invoiceFile  *table[Invoice]
	customerKeys *fieldcrypt.Codec[Customer]
	invoiceKeys  *fieldcrypt.Codec[Invoice]
	customers    fieldcrypt.Repository[Customer, int64]
	invoices     fieldcrypt.Repository[Invoice, int64]
}

// build makes the keystore, the root in another folder, and the tables with the shop's
// rows, which are written through wrapped repositories.
func (w *world) build(ctx context.Context, p plain, grace time.Duration) error {
	for _, d := range []string{"keys", "root", "data", "backup"} {
		if err := os.Mkdir(w.path(d), 0o700); err != nil {
			return err
		}
	}
	roots, err := w.rootStore()
	if err != nil {
		return err
	}
	b, err := boltstore.Create(w.keystoreFile(), nil)
	if err != nil {
		return err
	}
	err = keystore.Create(ctx, b, roots, &keystore.CreateOptions{Grace: grace})
	if err = errors.Join(err, b.Close()); err != nil {
		return err
	}
	if err := w.open(ctx); err != nil {
		return err
	}
	for _, c := range p.customers {
		if _, err := w.live.customers.Create(ctx, c); err != nil {
			return err
		}
	}
	for _, i := range p.invoices {
		if _, err := w.live.invoices.Create(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// open opens what was built.
func (w *world) open(ctx context.Context) (err error) {
	if w.roots, err = w.rootStore(); err != nil {
		return err
	}
	if w.bolt, err = boltstore.Open(w.keystoreFile(), nil); err != nil {
		return err
	}
	if w.keys, err = keystore.Open(ctx, w.bolt, w.roots, nil); err != nil {
		return errors.Join(err, w.bolt.Close())
	}
	w.live, err = tables(w.keys, w.path("data"))
	return err
}

func (w *world) keystoreFile() string { return w.path("keys", "oubli.keys") }

func (w *world) rootStore() (*rootfile.Store, error) {
	return rootfile.New([]string{w.path("root", "oubli.root")}, nil)
}

// tables wraps the tables in a folder.
func tables(keys *keystore.Store, dir string) (d data, err error) {
	d.customerFile = &table[Customer]{path: filepath.Join(dir, "customers.ndjson"), id: customerID, subject: customerID}
	d.invoiceFile = &table[Invoice]{path: filepath.Join(dir, "invoices.ndjson"), id: invoiceID, subject: invoicedTo}
	if d.customerKeys, err = fieldcrypt.NewCodec[Customer](keys, "customers", nil); err != nil {
		return d, err
	}
	if d.invoiceKeys, err = fieldcrypt.NewCodec[Invoice](keys, "invoices", nil); err != nil {
		return d, err
	}
	d.customers = fieldcrypt.Wrap[Customer, int64](d.customerFile, d.customerKeys)
	d.invoices = fieldcrypt.Wrap[Invoice, int64](d.invoiceFile, d.invoiceKeys)
	return d, nil
}

// backUp copies the data files, and the keystore while it is in use.
func (w *world) backUp(ctx context.Context) error {
	for _, name := range []string{"customers.ndjson", "invoices.ndjson"} {
		text, err := os.ReadFile(w.path("data", name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(w.path("backup", name), text, 0o600); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(w.path("backup", "oubli.keys"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(w.bolt.CopyTo(ctx, f), f.Close())
}

// all collects what a repository lists.
func all[T any](rows iter.Seq2[T, error]) (list []T, err error) {
	for row, err := range rows {
		if err != nil {
			return list, err
		}
		list = append(list, row)
	}
	return list, nil
}

// thief is the root store of somebody who has the root file as it is now and an old
// keystore, and ignores every guard: it knows of no anchor and no destroyed root.
type thief struct {
	contents keystore.RootContents
	place    keystore.Place
}

func (t thief) Load(context.Context, ...keystore.RootID) (keystore.RootContents, error) {
	return keystore.RootContents{Store: t.contents.Store, Living: t.contents.Living}, nil
}

func (t thief) Place() keystore.Place                                   { return t.place }
func (thief) Create(context.Context, keystore.RootContents) error       { return keystore.ErrReadOnly }
func (thief) Add(context.Context, keystore.Root) error                  { return keystore.ErrReadOnly }
func (thief) Destroy(context.Context, []keystore.RootID) error          { return keystore.ErrReadOnly }
func (thief) Trim(context.Context, func(keystore.Tombstone) bool) error { return keystore.ErrReadOnly }
func (thief) Remove(context.Context) error                              { return keystore.ErrReadOnly }
func (thief) Raise(context.Context, keystore.Anchor, []keystore.Tombstone) error {
	return keystore.ErrReadOnly
}
