package pgadopt

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/keystore"
)

const (
	// heldFor is how long a transaction is meant to hold the locks of its rows. An
	// application that waits for one of them waits for about as long at most.
	heldFor = 12 * time.Millisecond
	// maxRows bounds the rows of a transaction.
	maxRows = 4096
	// maxRead and maxPage bound the rows of a page that is read, and what its cells take by
	// the size of the page before. Keystores make keys for many people at once with less
	// work, and for the time between reading and writing a row may change.
	maxRead = 16384
	maxPage = 4 << 20
	// patience is how long work without any progress is tried again.
	patience = time.Minute
)

// pace finds how many rows a transaction can take.
type pace struct {
	rows int
	each float64 // nanoseconds that a row takes, of late
}

func newPace() pace { return pace{rows: 64} }

// took tells the pace that a transaction of n rows took so long.
func (p *pace) took(n int, d time.Duration) {
	each := float64(d) / float64(n)
	switch {
	case p.each == 0:
		p.each = each
	case n*4 >= p.rows: // small ones say little
		p.each += (min(each, 4*p.each) - p.each) / 4 // and one that had to wait says not much
	}
	p.rows = min(max(int(float64(heldFor)/p.each), 1), 2*p.rows, maxRows)
}

// pager finds how many rows a page can take.
type pager struct{ rows int }

func newPager() pager { return pager{rows: 64} }

// read tells the pager what the last page held.
func (p *pager) read(rows []pgmap.Row) {
	bytes := 0
	for i := range rows {
		for j := range rows[i].Cells {
			bytes += 64 + len(rows[i].Cells[j].Text)
		}
	}
	p.rows = min(p.rows*2, maxRead)
	if len(rows) > 0 {
		p.rows = max(1, min(p.rows, maxPage*len(rows)/max(bytes, 1)))
	}
}

// keysAway is an error of the keystore: what is done with the application's database
// stops, and can be resumed.
type keysAway struct{ error }

func (e keysAway) Unwrap() error { return e.error }

// fail is pgmap.Fail for errors that may have been through it.
func fail(what string, err error) error {
	if pg := (*pgmap.Error)(nil); errors.As(err, &pg) || errors.Is(err, ErrPhase) {
		return err
	}
	return pgmap.Fail(what, err)
}

// passing tells whether an error of the application's database may be gone when the same
// is tried again: a lock, a deadlock, a server that restarts or cut the connection.
func passing(err error) bool {
	var away keysAway
	if err == nil || errors.As(err, &away) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	var pg *pgmap.Error
	if errors.As(err, &pg) {
		return pg.Passing() || pg.Code() == "25006" || pg.Code() == "53300" ||
			strings.HasPrefix(pg.Code(), "57P") || strings.HasPrefix(pg.Code(), "08")
	}
	return errors.Is(err, keystore.ErrUnavailable)
}

// refusedLock tells whether somebody else held a lock for longer than was waited, or the
// server chose this transaction as the victim.
func refusedLock(err error) bool {
	var pg *pgmap.Error
	return errors.As(err, &pg) && pg.Passing()
}

// patient bounds tries without progress.
type patient struct {
	tries int
	since time.Time // of the first
}

// progress starts anew.
func (p *patient) progress() { *p = patient{} }

// wait backs off before the next try, and reports false if it is not worth one any more,
// or ctx has ended.
func (p *patient) wait(ctx context.Context) bool {
	if p.tries == 0 {
		p.since = time.Now()
	}
	if time.Since(p.since) > patience {
		return false
	}
	most := 10 * time.Millisecond << min(p.tries, 7)
	p.tries++
	select {
	case <-ctx.Done():
		return false
	case <-time.After(most/2 + rand.N(most)):
		return true
	}
}

// retry runs f until it succeeds, or fails for good.
func retry(ctx context.Context, f func() error) error {
	var p patient
	for {
		err := f()
		if !passing(err) {
			return err
		}
		if !p.wait(ctx) {
			return errors.Join(ctx.Err(), err)
		}
	}
}

// recordsAgain is Records on a connection that may be cut.
func recordsAgain(ctx context.Context, db pgmap.DB) (r map[string]*Record, err error) {
	err = retry(ctx, func() (err error) {
		r, err = Records(ctx, db)
		return err
	})
	return r, err
}
