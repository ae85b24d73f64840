package storetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/oubli/oubli/keystore"
)

// together runs n actors at once and joins their errors.
func together(n int, actor func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = actor(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// update replaces key by change of its value, and tries again on a conflict.
func (h *harness) update(ctx context.Context, key string, change func(old string) string) error {
	for {
		r, err := h.one(ctx, key)
		if err != nil {
			return err
		}
		_, err = h.Commit(ctx, []keystore.Group{{put(key, r.Rev, randomRev(), change(string(r.Value)))}})
		if !errors.Is(err, keystore.ErrConflict) {
			return err
		}
	}
}

func increment(old string) string {
	n, _ := strconv.Atoi(old) // nothing stored counts as 0
	return strconv.Itoa(n + 1)
}

// checkRacingCounter loses counts where check and write are not one step.
func checkRacingCounter(ctx context.Context, h *harness) error {
	const actors, rounds = 6, 20
	err := together(actors, func(int) error {
		for range rounds {
			if err := h.update(ctx, "counter", increment); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	r, err := h.one(ctx, "counter")
	if err != nil {
		return err
	}
	if want := strconv.Itoa(actors * rounds); string(r.Value) != want {
		return fmt.Errorf("%s increments stand as %s: updates were lost", want, r.Value)
	}
	return nil
}

// checkRacingGroups looks, while pairs of records are replaced, for halves.
func checkRacingGroups(ctx context.Context, h *harness) error {
	const rounds = 30
	if err := h.commit(ctx, keystore.Group{put("left", 0, 1, "0"), put("right", 0, 1, "0")}); err != nil {
		return err
	}
	return together(3, func(i int) error {
		if i > 0 { // look
			for range rounds * 2 {
				rs, err := h.Scan(ctx, []byte("l"), []byte("z"), 9)
				if err != nil {
					return err
				}
				if len(rs) != 2 || string(rs[0].Value) != string(rs[1].Value) {
					return errors.New("a scan sees half a group")
				}
			}
			return nil
		}
		for rev := keystore.Rev(1); rev <= rounds; rev++ {
			v := fmt.Sprint(rev)
			if err := h.commit(ctx, keystore.Group{put("left", rev, rev+1, v), put("right", rev, rev+1, v)}); err != nil {
				return err
			}
		}
		return nil
	})
}

// checkGuardRace is what creating keys and re-keying a shard do: creators write rings
// under the generation that the page shows and name the page's revision; one actor
// moves the page on and then scans. After that scan no ring of an earlier generation
// may appear. A backend that checks a guard, but does not hold it until the commit,
// lets one slip in.
func checkGuardRace(ctx context.Context, h *harness) error {
	const creators, generations = 4, 80
	const page = "page"
	if err := h.commit(ctx, keystore.Group{put(page, 0, 1, "0")}); err != nil {
		return err
	}
	seen := make([]int, generations+1) // by the rekeyer, when it had left the generation
	count := func() ([]int, error) {
		n := make([]int, generations+1)
		rs, err := h.Scan(ctx, []byte("r"), []byte("s"), 1<<20)
		for _, r := range rs {
			g, err := strconv.Atoi(string(r.Value))
			if err != nil {
				return nil, err
			}
			n[g]++
		}
		return n, err
	}
	stop := make(chan struct{})
	err := together(creators+1, func(i int) error {
		if i == 0 {
			defer close(stop)
			for g := range generations {
				if err := h.update(ctx, page, increment); err != nil {
					return err
				}
				n, err := count()
				if err != nil {
					return err
				}
				seen[g] = n[g]
			}
			return nil
		}
		for n := 0; ; n++ {
			select {
			case <-stop:
				return nil
			default:
			}
			p, err := h.one(ctx, page)
			if err != nil {
				return err
			}
			g := keystore.Group{
				guard(page, p.Rev),
				put(fmt.Sprintf("r%d-%d", i, n), 0, randomRev(), string(p.Value)),
			}
			if _, err := h.Commit(ctx, []keystore.Group{g}); err != nil && !errors.Is(err, keystore.ErrConflict) {
				return err
			}
		}
	})
	if err != nil {
		return err
	}
	now, err := count()
	if err != nil {
		return err
	}
	for g := range generations {
		if now[g] != seen[g] {
			return fmt.Errorf("%d records named page revision %d after it was gone: the guard was not held until the commit", now[g]-seen[g], g)
		}
	}
	return nil
}

// checkAbsenceRace is the same for a guard that names the absence of a record: while a mark
// is absent, writers add records and name its absence; one actor sets the mark and counts.
// Until the mark goes again, no record may appear.
func checkAbsenceRace(ctx context.Context, h *harness) error {
	const writers, rounds = 4, 25
	const mark = "mark"
	count := func() (int, error) {
		rs, err := h.Scan(ctx, []byte("r"), []byte("s"), 1<<20)
		return len(rs), err
	}
	stop := make(chan struct{})
	return together(writers+1, func(i int) error {
		if i == 0 {
			defer close(stop)
			for range rounds {
				rev := randomRev()
				for {
					_, err := h.Commit(ctx, []keystore.Group{{put(mark, 0, rev, "")}})
					if err == nil {
						break
					}
					if !errors.Is(err, keystore.ErrConflict) {
						return err
					}
				}
				before, err := count()
				if err != nil {
					return err
				}
				time.Sleep(2 * time.Millisecond) // for those that were under way
				after, err := count()
				if err != nil {
					return err
				}
				if after != before {
					return fmt.Errorf("%d records named the absence of a record that was there: the guard was not held until the commit", after-before)
				}
				if err := h.commit(ctx, keystore.Group{del(mark, rev)}); err != nil {
					return err
				}
			}
			return nil
		}
		for n := 0; ; n++ {
			select {
			case <-stop:
				return nil
			default:
			}
			g := keystore.Group{guard(mark, 0), put(fmt.Sprintf("r%d-%d", i, n), 0, randomRev(), "")}
			if _, err := h.Commit(ctx, []keystore.Group{g}); err != nil && !errors.Is(err, keystore.ErrConflict) {
				return err
			}
		}
	})
}
