package pgadopt

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/fieldcrypt"
)

// scan reads a table page by page, in the order of its key.
type scan struct {
	db    *pgxpool.Pool
	table *pgmap.Table
	only  pgmap.Filter
	after []string // the key of the last row that is done with
}

// A long search for few rows must not end by a timeout that is meant for others.
const beginRead = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0"

// reading runs f in a transaction that only reads.
func reading(ctx context.Context, db *pgxpool.Pool, f func(tx pgx.Tx) error) error {
	return fail("read", pgx.BeginTxFunc(ctx, db, pgx.TxOptions{BeginQuery: beginRead}, f))
}

// into sends the pages after s.after.
func (s *scan) into(ctx context.Context, to chan<- []pgmap.Row) error {
	after, size := s.after, newPager()
	for {
		var rows []pgmap.Row
		asked := size.rows
		err := reading(ctx, s.db, func(tx pgx.Tx) (err error) {
			rows, err = s.table.Page(ctx, tx, pgmap.PageOptions{After: after, Limit: asked, Only: s.only})
			return err
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		after = rows[len(rows)-1].Key
		size.read(rows)
		select {
		case to <- rows:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if len(rows) < asked {
			return nil
		}
	}
}

// each calls f for every page, and reads the next one meanwhile. It resumes by itself
// after errors of the database that pass.
func (s *scan) each(ctx context.Context, f func(rows []pgmap.Row) error) error {
	var p patient
	for {
		pages, done := make(chan []pgmap.Row, 1), make(chan error, 1)
		readCtx, stop := context.WithCancel(ctx)
		go func() {
			defer close(pages)
			done <- s.into(readCtx, pages)
		}()
		var err error
		for rows := range pages {
			if err != nil {
				continue
			}
			if err = f(rows); err != nil {
				stop()
				continue
			}
			s.after = rows[len(rows)-1].Key
			p.progress()
		}
		if readErr := <-done; err == nil {
			err = readErr
		}
		stop()
		if err == nil || !passing(err) {
			return err
		}
		if !p.wait(ctx) {
			return errors.Join(ctx.Err(), err)
		}
	}
}

func cellsOf(rows []pgmap.Row) [][]fieldcrypt.Cell {
	cells := make([][]fieldcrypt.Cell, len(rows))
	for i := range rows {
		cells[i] = rows[i].Cells
	}
	return cells
}
