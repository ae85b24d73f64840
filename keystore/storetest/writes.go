package storetest

import (
	"context"
	"errors"
	"fmt"

	"github.com/oubli/oubli/keystore"
)

func checkWrites(ctx context.Context, h *harness) error {
	return first(
		func() error { return h.commit(ctx, keystore.Group{put("a", 0, 1, "one"), put("b", 0, 2, "two")}) },
		func() error { return h.want(ctx, "a", 1, "one") },
		func() error { return h.want(ctx, "b", 2, "two") },
		func() error {
			return h.commit(ctx, keystore.Group{put("a", 1, 3, "three"), del("b", 2), put("c", 0, 4, "four")})
		},
		func() error { return h.want(ctx, "a", 3, "three") },
		func() error { return h.want(ctx, "b", 0, "") },
		func() error { return h.want(ctx, "c", 4, "four") },
		func() error { return h.scanKeys(ctx, "a", "z", 9, "a", "c") },
		// what was deleted can come again, as something new
		func() error { return h.commit(ctx, keystore.Group{put("b", 0, 5, "five")}) },
		func() error { return h.want(ctx, "b", 5, "five") },
	)
}

func checkConflicts(ctx context.Context, h *harness) error {
	if err := h.commit(ctx, keystore.Group{put("a", 0, 7, "A"), put("b", 0, 8, "B")}); err != nil {
		return err
	}
	for name, w := range map[string]keystore.Write{
		"put over a record as if there were none": put("a", 0, 9, "X"),
		"put over another revision":               put("a", 6, 9, "X"),
		"put over a record that is absent":        put("c", 6, 9, "X"),
		"delete of another revision":              del("a", 6),
		"delete as if there were none":            del("a", 0),
		"delete of a record that is absent":       del("c", 6),
	} {
		err := first(
			func() error { return h.refuse(ctx, 0, keystore.Group{w}) },
			func() error { return h.want(ctx, "a", 7, "A") },
			func() error { return h.want(ctx, "b", 8, "B") },
			func() error { return h.want(ctx, "c", 0, "") },
		)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func checkAtomicGroup(ctx context.Context, h *harness) error {
	if err := h.commit(ctx, keystore.Group{put("m", 0, 1, "M"), put("n", 0, 2, "N")}); err != nil {
		return err
	}
	// the conflict at every place of the group
	for at := range 4 {
		g := keystore.Group{put("a", 0, 10, "new"), put("m", 1, 11, "changed"), del("n", 2), put("z", 0, 12, "new")}
		g[at].If = 99
		err := first(
			func() error { return h.refuse(ctx, 0, g) },
			func() error { return h.scanKeys(ctx, "a", string(end), 9, "m", "n") },
			func() error { return h.want(ctx, "m", 1, "M") },
			func() error { return h.want(ctx, "n", 2, "N") },
		)
		if err != nil {
			return fmt.Errorf("conflict at place %d: %w", at, err)
		}
	}
	return nil
}

func checkGuards(ctx context.Context, h *harness) error {
	if err := h.commit(ctx, keystore.Group{put("page", 0, 1, "P")}); err != nil {
		return err
	}
	for _, g := range []keystore.Group{
		{guard("page", 2), put("x", 0, 9, "X")},
		{put("x", 0, 9, "X"), guard("page", 2)},
		{guard("page", 0), put("x", 0, 9, "X")},
		{guard("paged", 1), put("x", 0, 9, "X")},
		{guard("page", 2)},
	} {
		err := first(
			func() error { return h.refuse(ctx, 0, g) },
			func() error { return h.want(ctx, "x", 0, "") },
		)
		if err != nil {
			return fmt.Errorf("a guard that does not hold: %w", err)
		}
	}
	return first(
		func() error { return h.commit(ctx, keystore.Group{guard("page", 1), put("x", 0, 9, "X")}) },
		func() error { return h.commit(ctx, keystore.Group{put("y", 0, 8, "Y"), guard("paged", 0)}) },
		func() error { return h.commit(ctx, keystore.Group{guard("page", 1)}) },
		func() error { return h.want(ctx, "page", 1, "P") },
		func() error { return h.want(ctx, "x", 9, "X") },
		func() error { return h.want(ctx, "y", 8, "Y") },
		func() error { return h.want(ctx, "paged", 0, "") },
	)
}

func checkPrefix(ctx context.Context, h *harness) error {
	if err := h.commit(ctx, keystore.Group{put("k", 0, 1, "K")}); err != nil {
		return err
	}
	return first(
		func() error {
			return h.refuse(ctx, 2,
				keystore.Group{put("a", 0, 2, "A")},
				keystore.Group{put("b", 0, 3, "B"), guard("k", 1)},
				keystore.Group{put("c", 0, 4, "C"), put("k", 99, 5, "X")},
				keystore.Group{put("d", 0, 6, "D")},
			)
		},
		func() error { return h.scanKeys(ctx, "a", "z", 9, "a", "b", "k") },
		func() error { return h.want(ctx, "a", 2, "A") },
		func() error { return h.want(ctx, "b", 3, "B") },
		func() error { return h.want(ctx, "k", 1, "K") },
		// the rest goes on from there
		func() error {
			return h.commit(ctx, keystore.Group{put("c", 0, 4, "C"), put("k", 1, 5, "X")}, keystore.Group{put("d", 0, 6, "D")})
		},
		func() error { return h.scanKeys(ctx, "a", "z", 9, "a", "b", "c", "d", "k") },
	)
}

func checkChain(ctx context.Context, h *harness) error {
	return first(
		func() error {
			return h.commit(ctx,
				keystore.Group{put("a", 0, 1, "one")},
				keystore.Group{put("a", 1, 2, "two"), put("b", 0, 3, "B")},
				keystore.Group{guard("a", 2), del("b", 3)},
				keystore.Group{put("b", 0, 4, "again"), guard("a", 2)},
			)
		},
		func() error { return h.want(ctx, "a", 2, "two") },
		func() error { return h.want(ctx, "b", 4, "again") },
		// what the first group replaced, the second must not find
		func() error {
			return h.refuse(ctx, 1, keystore.Group{put("a", 2, 5, "three")}, keystore.Group{put("a", 2, 6, "lost")})
		},
		func() error { return h.want(ctx, "a", 5, "three") },
	)
}

func checkCanceled(ctx context.Context, h *harness) error {
	if err := h.commit(ctx, keystore.Group{put("a", 0, 1, "A")}); err != nil {
		return err
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if err := h.refusesAll(canceled, context.Canceled); err != nil {
		return fmt.Errorf("with a canceled context: %w", err)
	}
	return first(
		func() error { return h.want(ctx, "a", 1, "A") },
		func() error { return h.want(ctx, "b", 0, "") },
	)
}

func checkClosed(ctx context.Context, h *harness) error {
	if err := h.commit(ctx, keystore.Group{put("a", 0, 1, "A")}); err != nil {
		return err
	}
	h.closed = true
	if err := h.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if err := h.refusesAll(ctx, keystore.ErrClosed); err != nil {
		return fmt.Errorf("after close: %w", err)
	}
	if h.Name() == "" {
		return errors.New("the backend has no name")
	}
	return nil
}

// refusesAll checks that reads and commits fail with want, and nothing looks absent.
func (h *harness) refusesAll(ctx context.Context, want error) error {
	if rs, err := h.Get(ctx, [][]byte{[]byte("a")}); !errors.Is(err, want) {
		return fmt.Errorf("get returns %d records and %v, want %v", len(rs), err, want)
	}
	if rs, err := h.Scan(ctx, []byte("a"), []byte("z"), 9); !errors.Is(err, want) {
		return fmt.Errorf("scan returns %d records and %v, want %v", len(rs), err, want)
	}
	done, err := h.Commit(ctx, []keystore.Group{{put("b", 0, 1, "B")}})
	if !errors.Is(err, want) || errors.Is(err, keystore.ErrConflict) || done != 0 {
		return fmt.Errorf("commit says %d groups done and %v, want %v", done, err, want)
	}
	return nil
}

func checkDurable(ctx context.Context, h *harness) error {
	if h.suite.Reopen == nil {
		return nil
	}
	if err := h.commit(ctx, keystore.Group{put("a", 0, 1, "A"), put("b", 0, 2, "B")}); err != nil {
		return err
	}
	if err := h.commit(ctx, keystore.Group{put("a", 1, 3, "A2"), del("b", 2), put("c", 0, 4, "")}); err != nil {
		return err
	}
	h.closed = true
	if err := h.Close(); err != nil {
		return err
	}
	again, err := h.suite.Reopen(h.Backend)
	if err != nil {
		return fmt.Errorf("reopen: %w", err)
	}
	h = &harness{Backend: again, suite: h.suite}
	return errors.Join(first(
		func() error { return h.scanKeys(ctx, "a", "z", 9, "a", "c") },
		func() error { return h.want(ctx, "a", 3, "A2") },
		func() error { return h.want(ctx, "c", 4, "") },
		func() error { return h.commit(ctx, keystore.Group{put("a", 3, 5, "A3")}) },
		func() error { return h.want(ctx, "a", 5, "A3") },
	), h.Close())
}
