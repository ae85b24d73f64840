//go:build linux

package crew

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What must not be is found in a journal, and only that.
func TestTheJudge(t *testing.T) {
	const ann, bob = 1, 2
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	// Ann's erasure is asked for at 10 ms and returns at 20.
	story := []entry{{what: asked, subject: ann, at: ms(10)}, {what: gone, subject: ann, began: ms(10), at: ms(20)}}
	for name, c := range map[string]struct {
		entry
		fault string
	}{
		"opened before the return":          {entry{what: opened, subject: ann, began: ms(19), at: ms(25)}, ""},
		"opened after the return":           {entry{what: opened, subject: ann, began: ms(21), at: ms(25)}, "opened 1ms after"},
		"another is opened":                 {entry{what: opened, subject: bob, began: ms(21), at: ms(25)}, ""},
		"a key after the return":            {entry{what: sealed, subject: ann, began: ms(21), at: ms(25)}, "got a key"},
		"rotated after the return":          {entry{what: rotated, subject: ann, began: ms(21), at: ms(25)}, "got a key"},
		"dark once asked for":               {entry{what: dark, subject: ann, began: ms(9), at: ms(11)}, ""},
		"dark before it was asked for":      {entry{what: dark, subject: ann, began: ms(8), at: ms(9)}, "nobody had asked"},
		"dark and never asked for":          {entry{what: dark, subject: bob, began: ms(21), at: ms(25)}, "nobody had asked"},
		"withheld and never asked for":      {entry{what: withheld, subject: bob, began: ms(21), at: ms(25)}, "nobody had asked"},
		"refused and never asked for":       {entry{what: refused, subject: bob, began: ms(21), at: ms(25), note: string(dark)}, "nobody had asked"},
		"refused as erased":                 {entry{what: refused, subject: ann, began: ms(21), at: ms(25), note: string(dark)}, ""},
		"refused as erasing, though erased": {entry{what: refused, subject: ann, began: ms(21), at: ms(25), note: string(withheld)}, "after its erasure"},
		"an outage":                         {entry{what: away, began: ms(21), at: ms(25), note: "no"}, ""},
		"an alarm":                          {entry{what: wrong, began: ms(21), at: ms(25), note: "tampered"}, "tampered"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "journal")
			j, err := openJournal(path)
			require.NoError(t, err)
			for _, e := range append(story, c.entry) {
				j.write(e)
			}
			_, err = j.f.WriteString("opened\t1\t2") // cut off
			require.NoError(t, err)
			v := judge(func(f func(entry)) { require.NoError(t, readJournal(path, "it", f)) })
			require.Len(t, v.gone, 1)
			if c.fault == "" {
				require.Empty(t, v.Faults)
				return
			}
			require.Len(t, v.Faults, 1)
			require.Contains(t, v.Faults[0], c.fault)
		})
	}
}

func TestTheJudgeOfRows(t *testing.T) {
	v := &Verdict{acked: map[int64]int64{7: 2}, begun: map[int64]int64{7: 3}}
	row := func(version int64, of int64) note {
		text, tax := wants(7, of)
		return note{Row: 7, Version: version, Text: text, Tax: tax}
	}
	require.Contains(t, v.judgeRow(row(1, 1)), "version 2 was committed")
	require.Empty(t, v.judgeRow(row(2, 2)))
	require.Empty(t, v.judgeRow(row(3, 3)))
	require.Contains(t, v.judgeRow(row(4, 4)), "nobody wrote")
	require.Contains(t, v.judgeRow(row(3, 2)), "another content")
}
