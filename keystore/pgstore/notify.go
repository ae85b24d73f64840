package pgstore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/keystore"
)

// How often a silent connection is asked whether it lives, and how long it may think.
const (
	listenPing    = 15 * time.Second
	listenTimeout = 5 * time.Second
)

// channel is named for the schema; names longer than a channel's may be are shortened.
func (s *Store) channel() string {
	name := "oubli:" + s.schema
	if len(name) > 63 {
		name = fmt.Sprintf("oubli:%x", sha256.Sum256([]byte(s.schema)))[:63]
	}
	return name
}

// Notify implements [keystore.Shared]. Whoever notifies and listens hears itself too.
func (s *Store) Notify(ctx context.Context) error {
	err := s.usable(ctx)
	if err == nil {
		_, err = s.pool.Exec(ctx, "select pg_notify($1, '')", s.channel())
	}
	return s.explain("notify", err)
}

// Listen implements [keystore.Shared], on a connection of its own. Behind a pooler it
// fails at once: a session that others share hears nothing.
func (s *Store) Listen(ctx context.Context, changed func()) error {
	err := s.usable(ctx)
	if err == nil {
		err = s.listen(ctx, changed)
	}
	return s.explain("listen", err)
}

func (s *Store) listen(ctx context.Context, changed func()) error {
	config := s.pool.Config()
	if config.BeforeConnect != nil {
		if err := config.BeforeConnect(ctx, config.ConnConfig); err != nil {
			return err
		}
	}
	c, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), listenTimeout)
		defer cancel()
		c.Close(ctx)
	}()
	if config.AfterConnect != nil {
		if err := config.AfterConnect(ctx, c); err != nil {
			return err
		}
	}
	if !sessionOf(c.PgConn()).direct {
		return fmt.Errorf("%w: a pooler stands between, and notifications are not heard", keystore.ErrUnavailable)
	}
	if _, err := c.Exec(ctx, "listen "+quote(s.channel())); err != nil {
		return err
	}
	for {
		if s.closed.Load() {
			return keystore.ErrClosed
		}
		wait, cancel := context.WithTimeout(ctx, listenPing)
		_, err := c.WaitForNotification(wait)
		cancel()
		switch {
		case err == nil:
			changed()
		case ctx.Err() != nil:
			return fmt.Errorf("%w: %w", keystore.ErrUnavailable, context.Cause(ctx))
		case !errors.Is(err, context.DeadlineExceeded):
			return err
		default:
			ping, cancel := context.WithTimeout(ctx, listenTimeout)
			err := c.Ping(ping)
			cancel()
			if err != nil {
				return err
			}
		}
	}
}
