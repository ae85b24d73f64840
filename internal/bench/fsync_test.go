package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oubli/oubli/keystore"
	"github.com/stretchr/testify/require"
)

// childDir tells a copy of this test binary to erase in that folder, for BenchmarkFsyncs.
const (
	childDir   = "OUBLI_BENCH_CHILD"
	mark       = "oubli-mark"
	childTimes = 10
)

// BenchmarkFsyncs counts the fsyncs of an erasure of one subject, durable and final, in
// a process of its own under strace.
func BenchmarkFsyncs(b *testing.B) {
	if dir := os.Getenv(childDir); dir != "" {
		eraseUnderTrace(b, dir)
		return
	}
	dir := b.TempDir()
	ctx := context.Background()
	s, _ := openStore(b, dir, 0)
	for i := 0; i < *subjects; i += createBatch {
		_, err := s.Ensure(ctx, nil, []string{""}, list(b, i, min(createBatch, *subjects-i))...)
		require.NoError(b, err)
	}
	require.NoError(b, s.Close())

	trace := filepath.Join(dir, "trace")
	cmd := exec.Command("strace", "-f", "-e", "trace=fsync,fdatasync,sync_file_range,msync,unlinkat,unlink", "-o", trace,
		os.Args[0], "-test.run", "^$", "-test.bench", "^BenchmarkFsyncs$", "-test.benchtime", "1x")
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.CombinedOutput()
	require.NoError(b, err, "%s", out)
	text, err := os.ReadFile(trace)
	require.NoError(b, err)
	parts := strings.Split(string(text), mark+"\", 0)") // os.Remove tries a file, then a folder
	require.Len(b, parts, childTimes+2)
	most := 0
	for _, part := range parts[1 : childTimes+1] {
		n := 0
		for line := range strings.Lines(part) {
			if strings.Contains(line, "sync(") { // as begun; a resumed line has no parenthesis behind the name
				n++
			}
		}
		most = max(most, n)
	}
	for b.Loop() {
	}
	b.ReportMetric(float64(most), "fsyncs/erasure")
}

func eraseUnderTrace(b *testing.B, dir string) {
	ctx := context.Background()
	s, _ := openStore(b, dir, 0)
	defer s.Close()
	for i := range childTimes {
		os.Remove(filepath.Join(dir, mark))
		es, err := s.Erase(ctx, keystore.Request{Subject: subject(b, i)})
		require.NoError(b, err)
		require.True(b, es[0].Final, fmt.Sprint(es[0].Err))
	}
	os.Remove(filepath.Join(dir, mark))
}
