// Package panics tells where a panic was, for reports that leave its value out: that may
// hold personal data.
package panics

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
)

// Origin returns file and line of the panic that is being recovered: call it in the
// deferred function, or below.
func Origin() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(0, pcs)])
	past := false
	for {
		f, more := frames.Next()
		if past && !strings.HasPrefix(f.Function, "runtime.") {
			return fmt.Sprintf("%s:%d", filepath.Base(f.File), f.Line)
		}
		past = past || f.Function == "runtime.gopanic"
		if !more {
			return "an unknown place"
		}
	}
}
