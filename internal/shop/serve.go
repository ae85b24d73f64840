package shop

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
	"github.com/oubli/oubli/keystore/rootfile"
)

// Config says what a process of the shop opens.
type Config struct {
	Database string   // URL of the database, which holds the keystore too
	Root     []string // the root key's file and its mirrors
	NoWorker bool     // leave the erasures to other processes
	Options  Options
}

// Serve is a whole process of the shop: it answers requests on l, works on erasures, and
// returns when ctx ends and all that it opened is closed.
func Serve(ctx context.Context, l net.Listener, c Config) (err error) {
	defer l.Close()
	pool, err := pgxpool.New(ctx, c.Database)
	if err != nil {
		return err
	}
	defer pool.Close()
	keys, err := openKeystore(ctx, pool, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keys.Close()) }()
	s, err := New(pool, keys, &c.Options)
	if err != nil {
		return err
	}
	if err := s.Check(ctx); err != nil {
		return err
	}

	// The worker and the server run until one of them fails or ctx ends.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	var worked, served error
	if !c.NoWorker {
		running.Go(func() { worked = s.Work(ctx); cancel() })
	}
	server := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 5 * time.Second}
	running.Go(func() { served = server.Serve(l); cancel() })
	<-ctx.Done()
	patience, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer stop()
	err = server.Shutdown(patience)
	running.Wait()
	if errors.Is(served, http.ErrServerClosed) {
		served = nil
	}
	return errors.Join(err, worked, served)
}

// openKeystore opens the keystore in the shop's own database, with connections of its own.
func openKeystore(ctx context.Context, pool *pgxpool.Pool, c Config) (*keystore.Store, error) {
	roots, err := rootfile.New(c.Root, nil)
	if err != nil {
		return nil, err
	}
	backend, err := pgstore.OpenPool(ctx, pool, nil)
	if err != nil {
		return nil, err
	}
	keys, err := keystore.Open(ctx, backend, roots, &keystore.Options{Logger: c.Options.Logger})
	if err != nil {
		return nil, errors.Join(err, backend.Close())
	}
	return keys, nil
}
