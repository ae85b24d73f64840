// Command oubli keeps every person's data under that person's own key, and forgets a
// person by destroying it. It works on CSV and NDJSON files, and administers the
// keystore that an application uses through the Go packages.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(mainExit()) }

// mainExit is main, returning the exit code.
func mainExit() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second interrupt ends the program at once
	u := newUI(os.Stdin, os.Stdout, os.Stderr)
	return u.exit(ctx, newApp(u).run(ctx, os.Args[1:]))
}
