//go:build linux

package crew

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Verdict is what the journals of a run say together.
type Verdict struct {
	Faults  []string      // what must not be
	Silence time.Duration // the longest time in which no process opened anything

	cutOff int // advances that a kill cut off

	asked map[int64]time.Duration // by subject: when its erasure was first asked for
	gone  map[int64]time.Duration // by subject: when its erasure first returned
	doubt map[int64]int           // by subject: calls to erase it of which it is not known what they did
	acked map[int64]int64         // by row: the version that the database said is there
	begun map[int64]int64         // by row: the version that was written last, there or not
	count map[what]int
}

// judge reads all entries twice, by calling each.
func judge(each func(func(entry))) *Verdict {
	v := &Verdict{asked: map[int64]time.Duration{}, gone: map[int64]time.Duration{}, doubt: map[int64]int{},
		acked: map[int64]int64{}, begun: map[int64]int64{}, count: map[what]int{}}
	first := func(m map[int64]time.Duration, e entry) {
		if at, ok := m[e.subject]; !ok || e.at < at {
			m[e.subject] = e.at
		}
	}
	var served []time.Duration
	advancing := map[string]bool{}
	each(func(e entry) {
		v.count[e.what]++
		switch e.what {
		case asked:
			first(v.asked, e)
			v.doubt[e.subject]++
		case gone:
			first(v.gone, e)
		case spared:
			v.doubt[e.subject]--
		case writing:
			v.begun[e.row] = max(v.begun[e.row], e.version)
		case wrote:
			v.acked[e.row] = max(v.acked[e.row], e.version)
		case opened:
			served = append(served, e.at)
		case advance:
			advancing[e.by] = true
		case advanced:
			advancing[e.by] = false
		case started:
			if advancing[e.by] {
				v.cutOff++
			}
			advancing[e.by] = false
		}
	})
	slices.Sort(served)
	for i := 1; i < len(served); i++ {
		v.Silence = max(v.Silence, served[i]-served[i-1])
	}
	each(func(e entry) {
		if fault := v.fault(e); fault != "" && len(v.Faults) < 100 {
			v.Faults = append(v.Faults, fmt.Sprintf("%s: subject %d row %d version %d, from %v to %v: %s",
				e.by, e.subject, e.row, e.version, e.began, e.at, fault))
		}
	})
	return v
}

// fault says what is wrong with an entry, "" if nothing.
func (v *Verdict) fault(e entry) string {
	at, isGone := v.gone[e.subject]
	late := isGone && e.began > at
	since, isAsked := v.asked[e.subject]
	early := !isAsked || e.at < since
	switch {
	case e.what == wrong:
		return e.note
	case e.what == opened && late:
		return fmt.Sprintf("opened %v after its erasure had returned", e.began-at)
	case (e.what == sealed || e.what == rotated) && late:
		return fmt.Sprintf("got a key %v after its erasure had returned", e.began-at)
	case e.what == dark && early, e.what == withheld && early, e.what == refused && early:
		return fmt.Sprintf("%s %s, and nobody had asked to erase it", e.what, e.note)
	case e.what == withheld && late, e.what == refused && e.note != string(dark) && late:
		return fmt.Sprintf("%s %s after its erasure had returned", e.what, e.note)
	}
	return ""
}

// Lacking is what must still happen for the run to tell anything.
func (v *Verdict) Lacking() (list []string) {
	if v.cutOff < 2 {
		list = append(list, fmt.Sprintf("%d advances cut off by a kill, of 2", v.cutOff))
	}
	if len(v.gone) < 20 {
		list = append(list, fmt.Sprintf("%d subjects erased, of 20", len(v.gone)))
	}
	for _, w := range []what{opened, sealed, dark, refused, stale, rotated, wrote} {
		if v.count[w] < 5 {
			list = append(list, fmt.Sprintf("%d %s, of 5", v.count[w], w))
		}
	}
	if v.count[away] == 0 { // most outages are over before a retry gives up
		list = append(list, "no outage was noticed")
	}
	return list
}

// judgeRow says what is wrong with a row that is there, and that reads as text and tax.
// Nobody asked to erase its subject.
func (v *Verdict) judgeRow(n note) string {
	text, tax := wants(n.Row, n.Version)
	switch {
	case n.Version < v.acked[n.Row]:
		return fmt.Sprintf("row %d is at version %d, and version %d was committed", n.Row, n.Version, v.acked[n.Row])
	case n.Version > v.begun[n.Row]:
		return fmt.Sprintf("row %d is at version %d, which nobody wrote", n.Row, n.Version)
	case n.Text != text, n.Tax != tax:
		return fmt.Sprintf("row %d version %d of subject %d reads %q with another content than was written", n.Row, n.Version, n.Subject, n.Privacy)
	}
	return ""
}

// String is what happened, and how often.
func (v *Verdict) String() string {
	var parts []string
	for _, w := range slices.SortedFunc(maps.Keys(v.count), func(a, b what) int { return cmp.Compare(v.count[b], v.count[a]) }) {
		parts = append(parts, fmt.Sprintf("%d %s", v.count[w], w))
	}
	return fmt.Sprintf("%d subjects erased, %d advances cut off by a kill, nobody served for %v at most; entries: %s",
		len(v.gone), v.cutOff, v.Silence.Round(time.Millisecond), strings.Join(parts, ", "))
}
