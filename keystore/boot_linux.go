package keystore

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootTime is the time since the machine started, with the time that it was suspended.
func bootTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return time.Since(start) // a kernel before 2.6.39
	}
	return time.Duration(t.Nano())
}
