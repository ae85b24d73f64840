//go:build !linux

package keystore

import "time"

// bootTime is the time since the process started. Whether it counts suspension depends
// on the system; the wall clock, which is looked at as well, does.
func bootTime() time.Duration { return time.Since(start) }
