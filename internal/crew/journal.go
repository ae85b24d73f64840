//go:build linux

package crew

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// entry is one line of a journal: something that happened to a process.
type entry struct {
	what    what
	began   time.Duration // when the call began; for a final check, just before it
	at      time.Duration // when it was over
	subject int64
	row     int64
	version int64
	note    string

	by string // whose journal it stands in
}

type what string

const (
	opened   what = "opened"   // plaintext left
	sealed   what = "sealed"   // a key was given out to write with
	refused  what = "refused"  // a key to write with was refused; note says why
	dark     what = "dark"     // read as erased
	withheld what = "withheld" // read as being erased
	stale    what = "stale"    // opened, but the final check said no
	away     what = "away"     // the keystore was unavailable
	asked    what = "asked"    // an erasure is about to be asked for
	gone     what = "gone"     // an erasure returned
	spared   what = "spared"   // an erasure was refused: the subject is unknown
	advance  what = "advance"  // an advance has begun: its root is about to be added
	advanced what = "advanced" // a call that could advance returned
	writing  what = "writing"  // a row is about to be written
	wrote    what = "wrote"    // the database said that the row is committed
	rotated  what = "rotated"
	started  what = "started" // the process serves
	ended    what = "ended"   // the process stopped by itself
	wrong    what = "wrong"   // what must not be; note says what
)

// Now is the boot time, the same in all processes of the machine.
func Now() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(err)
	}
	return time.Duration(t.Nano())
}

// journal is what a process appends to. Each entry is one write to the file, so that it
// outlives a SIGKILL right after. It is safe for concurrent use.
type journal struct {
	f  *os.File
	mu sync.Mutex
	n  atomic.Int64
}

func openJournal(path string) (*journal, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	return &journal{f: f}, err
}

func (j *journal) write(e entry) {
	if e.at == 0 {
		e.at = Now()
	}
	line := fmt.Sprintf("%s\t%d\t%d\t%d\t%d\t%d\t%s\n", e.what, e.began, e.at, e.subject, e.row, e.version,
		strings.NewReplacer("\n", " ", "\t", " ").Replace(e.note))
	j.n.Add(1)
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.f.WriteString(line); err != nil {
		panic(err)
	}
}

// readJournal calls f with each entry. A line that a kill cut off is passed over.
func readJournal(path, by string, f func(entry)) error {
	file, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	for r := bufio.NewReader(file); ; {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		parts := strings.Split(string(bytes.TrimSuffix(line, []byte("\n"))), "\t")
		if len(parts) != 7 {
			return fmt.Errorf("%s: a line of %d parts: %q", path, len(parts), line)
		}
		var n [5]int64
		for i := range n {
			if n[i], err = strconv.ParseInt(parts[1+i], 10, 64); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		f(entry{what: what(parts[0]), began: time.Duration(n[0]), at: time.Duration(n[1]),
			subject: n[2], row: n[3], version: n[4], note: parts[6], by: by})
	}
}
