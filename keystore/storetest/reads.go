package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/oubli/oubli/keystore"
)

func checkAbsent(ctx context.Context, h *harness) error {
	return first(
		func() error { return h.want(ctx, "a", 0, "") },
		func() error { return h.scanKeys(ctx, "a", string(end), 10) },
		func() error { return h.commit(ctx) },
		func() error {
			rs, err := h.Get(ctx, nil)
			if err != nil || len(rs) != 0 {
				return fmt.Errorf("get of no key: %d records, %v", len(rs), err)
			}
			return nil
		},
	)
}

func checkGetOrder(ctx context.Context, h *harness) error {
	if err := h.commit(ctx, keystore.Group{put("c", 0, 3, "C"), put("a", 0, 1, "A"), put("b", 0, 2, "B")}); err != nil {
		return err
	}
	keys := []string{"b", "missing", "c", "a", "b", ""}
	var asked [][]byte
	for _, k := range keys {
		asked = append(asked, []byte(k))
	}
	rs, err := h.Get(ctx, asked)
	if err != nil {
		return err
	}
	if len(rs) != len(keys) {
		return fmt.Errorf("get of %d keys returns %d records", len(keys), len(rs))
	}
	revs := map[string]keystore.Rev{"a": 1, "b": 2, "c": 3}
	for i, k := range keys {
		if err := same(rs[i], k, revs[k], strings.ToUpper(k)); err != nil {
			return err
		}
	}
	return nil
}

// checkStream holds a keystore.Streamer to what Get gives; others pass.
func checkStream(ctx context.Context, h *harness) error {
	b, ok := h.Backend.(keystore.Streamer)
	if !ok {
		return nil
	}
	if err := h.commit(ctx, keystore.Group{put("c", 0, 3, "C"), put("a", 0, 1, "A"), put("b", 0, 2, "")}); err != nil {
		return err
	}
	asked := [][]byte{[]byte("b"), []byte("missing"), []byte("c"), []byte("a"), []byte("b")}
	want, err := h.Get(ctx, asked)
	if err != nil {
		return err
	}
	got := make([]*keystore.Record, len(asked))
	err = b.Each(ctx, asked, func(i int, r keystore.Record) {
		got[i] = &keystore.Record{Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value), Rev: r.Rev}
	})
	if err != nil {
		return fmt.Errorf("each: %w", err)
	}
	for i := range got {
		if got[i] == nil {
			return fmt.Errorf("each does not call for place %d of %d", i, len(asked))
		}
		if err := same(*got[i], string(asked[i]), want[i].Rev, string(want[i].Value)); err != nil {
			return fmt.Errorf("each: %w", err)
		}
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if err := b.Each(canceled, asked, func(int, keystore.Record) {}); err == nil {
		return errors.New("each with a canceled context succeeds")
	}
	return nil
}

func checkBinaryKeys(ctx context.Context, h *harness) error {
	// in order; a key that begins another, zero bytes and 0xff at every place
	keys := []string{"p", "p\x00", "p\x00\x00", "p\x00\xff", "p\x01", "p\x7f", "p\x80", "p\xc3\xa9", "p\xff", "p\xff\x00", "p\xff\xff", "p\xff\xff\xff"}
	var g keystore.Group
	for i, k := range keys {
		g = append(g, put(k, 0, keystore.Rev(i+1), "value of "+k))
	}
	slices.Reverse(g)
	if err := h.commit(ctx, g); err != nil {
		return err
	}
	for i, k := range keys {
		if err := h.want(ctx, k, keystore.Rev(i+1), "value of "+k); err != nil {
			return err
		}
	}
	return first(
		func() error { return h.scanKeys(ctx, "p", "q", 100, keys...) },
		func() error { return h.scanKeys(ctx, "p\xff", "p\xff\xff", 100, "p\xff", "p\xff\x00") },
		func() error { return h.scanKeys(ctx, "p\x00", "p\x01", 100, "p\x00", "p\x00\x00", "p\x00\xff") },
	)
}

func checkValues(ctx context.Context, h *harness) error {
	large := strings.Repeat("0123456789abcde\x00", 300<<10/16)
	return first(
		func() error {
			return h.commit(ctx, keystore.Group{put("empty", 0, 1, ""), put("exit", 0, 2, large)})
		},
		func() error { return h.want(ctx, "empty", 1, "") },
		func() error { return h.want(ctx, "exit", 2, large) },
		func() error { return h.want(ctx, "emptx", 0, "") },
		func() error { return h.scanKeys(ctx, "e", "f", 9, "empty", "exit") },
		// 0 stands for no record, not for an empty one
		func() error { return h.refuse(ctx, 0, keystore.Group{put("empty", 0, 3, "x")}) },
		func() error {
			return h.commit(ctx, keystore.Group{put("empty", 1, 1<<63+5, large), put("exit", 2, ^keystore.Rev(0), "")})
		},
		func() error { return h.want(ctx, "empty", 1<<63+5, large) },
		func() error { return h.want(ctx, "exit", ^keystore.Rev(0), "") },
	)
}

func checkScanOrder(ctx context.Context, h *harness) error {
	var want []string
	for i := range 60 {
		k := fmt.Sprintf("k%02d", i)
		want = append(want, k)
		// from the middle outwards: neither in order nor reversed
		j := 30 + (i+1)/2*(1-2*(i%2))
		j = (j%60 + 60) % 60
		if err := h.commit(ctx, keystore.Group{put(fmt.Sprintf("k%02d", j), 0, keystore.Rev(j+1), fmt.Sprint(j))}); err != nil {
			return err
		}
	}
	rs, err := h.Scan(ctx, []byte("k"), []byte("l"), 1000)
	if err != nil {
		return err
	}
	if len(rs) != len(want) {
		return fmt.Errorf("scan finds %d records, want %d", len(rs), len(want))
	}
	for i, r := range rs {
		if err := same(r, want[i], keystore.Rev(i+1), fmt.Sprint(i)); err != nil {
			return fmt.Errorf("scan, place %d: %w", i, err)
		}
	}
	return nil
}

func checkScanBounds(ctx context.Context, h *harness) error {
	var g keystore.Group
	for _, k := range []string{"a", "b", "bb", "c", "d"} {
		g = append(g, put(k, 0, 1, k))
	}
	return first(
		func() error { return h.commit(ctx, g) },
		func() error { return h.scanKeys(ctx, "b", "d", 9, "b", "bb", "c") },
		func() error { return h.scanKeys(ctx, "ba", "cc", 9, "bb", "c") },
		func() error { return h.scanKeys(ctx, "b", "b", 9) },
		func() error { return h.scanKeys(ctx, "d", "b", 9) },
		func() error { return h.scanKeys(ctx, "", "b", 9, "a") },
		func() error { return h.scanKeys(ctx, "", string(end), 2, "a", "b") },
		func() error { return h.scanKeys(ctx, "x", string(end), 2) },
	)
}

func checkScanSteps(ctx context.Context, h *harness) error {
	var g keystore.Group
	for i := range 100 {
		g = append(g, put(fmt.Sprintf("k%03d", i), 0, 1, "v"))
	}
	if err := h.commit(ctx, g); err != nil {
		return err
	}
	for _, limit := range []int{1, 7, 50, 99, 100, 101} {
		from, n := []byte("k"), 0
		for {
			rs, err := h.Scan(ctx, from, []byte("l"), limit)
			if err != nil {
				return err
			}
			if len(rs) > limit {
				return fmt.Errorf("scan of at most %d returns %d records", limit, len(rs))
			}
			for _, r := range rs {
				if want := fmt.Sprintf("k%03d", n); string(r.Key) != want {
					return fmt.Errorf("scan in steps of %d: got %s, want %s", limit, r.Key, want)
				}
				n++
			}
			if len(rs) < limit {
				break
			}
			from = append(bytes.Clone(rs[len(rs)-1].Key), 0)
		}
		if n != 100 {
			return fmt.Errorf("scan in steps of %d ends after %d of 100 records", limit, n)
		}
	}
	return nil
}

func checkAliasing(ctx context.Context, h *harness) error {
	key, value := []byte("key1"), []byte("value one")
	group := keystore.Group{
		{Op: keystore.Put, Key: key, Rev: 1, Value: value},
		put("key2", 0, 2, "value two"),
	}
	if err := h.commit(ctx, group); err != nil {
		return err
	}
	if string(key) != "key1" || string(value) != "value one" || group[0].Rev != 1 || group[1].Rev != 2 {
		return fmt.Errorf("commit changes what it was passed")
	}
	copy(key, "####") // not kept
	copy(value, "#########")
	whole := func() error {
		return first(
			func() error { return h.want(ctx, "key1", 1, "value one") },
			func() error { return h.want(ctx, "key2", 2, "value two") },
			func() error { return h.scanKeys(ctx, "k", "l", 9, "key1", "key2") },
		)
	}
	if err := whole(); err != nil {
		return fmt.Errorf("after changing what was passed to commit: %w", err)
	}
	asked := [][]byte{[]byte("key1"), []byte("key2")}
	got, err := h.Get(ctx, asked)
	if err != nil {
		return err
	}
	scanned, err := h.Scan(ctx, []byte("k"), []byte("l"), 9)
	if err != nil {
		return err
	}
	copy(asked[0], "####")
	for _, rs := range [][]keystore.Record{got, scanned} {
		if len(rs) != 2 {
			return fmt.Errorf("%d records, want 2", len(rs))
		}
		_ = append(rs[0].Key, "YYYYYYYYYYYYYYYY"...) // must not run into what follows
		_ = append(rs[0].Value, "YYYYYYYYYYYYYYYY"...)
		if err := same(rs[0], "key1", 1, "value one"); err != nil {
			return fmt.Errorf("after changing the keys asked for: %w", err)
		}
		if err := same(rs[1], "key2", 2, "value two"); err != nil {
			return fmt.Errorf("after appending to the record before: %w", err)
		}
		for _, r := range rs {
			copy(r.Key, "ZZZZ")
			copy(r.Value, "ZZZZZZZZZ")
		}
	}
	if err := whole(); err != nil {
		return fmt.Errorf("after changing what get and scan returned: %w", err)
	}
	return nil
}

func checkFresh(ctx context.Context, h *harness) error {
	var rev keystore.Rev
	for i := range 20 {
		next, value := randomRev(), fmt.Sprint(i)
		if err := h.commit(ctx, keystore.Group{put("k", rev, next, value)}); err != nil {
			return err
		}
		rev = next
		if err := h.want(ctx, "k", rev, value); err != nil {
			return fmt.Errorf("get after commit %d: %w", i, err)
		}
		rs, err := h.Scan(ctx, []byte("k"), []byte("l"), 9)
		if err != nil || len(rs) != 1 {
			return fmt.Errorf("scan after commit %d: %d records, %v", i, len(rs), err)
		}
		if err := same(rs[0], "k", rev, value); err != nil {
			return fmt.Errorf("scan after commit %d: %w", i, err)
		}
	}
	return nil
}
