package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/anonymize/admin"
	"github.com/oubli/oubli/cmd/oubli/internal/loopback"
	"github.com/oubli/oubli/keystore"
)

// serveOptions are those of an admin page.
type serveOptions struct {
	listen, actor   string
	permit, protect []string
}

const defaultListen = "127.0.0.1:8470"

// permissions are all that can be permitted.
var permissions = []admin.Permission{admin.View, admin.Reveal, admin.Anonymize, admin.Restrict, admin.Export}

func (a *app) serveCommand() *cobra.Command {
	var o serveOptions
	c := &cobra.Command{
		Use:   "serve",
		Short: "The admin page in a browser on this machine, through a link that works once",
		Long: `Serves the admin page, with which people are found, erased, restricted, released and
exported, and prints a link to it. Unfinished erasures are worked on meanwhile, those that
were begun elsewhere too, but not where --permit leaves out anonymize. It runs until Ctrl-C
or SIGTERM, and what is unfinished then goes on when it runs again, or whatever else works
on the keystore.

With --db the rows of people are blanked in the tables of the data map, and the list has
the columns that the map names under "show:". Without it keys are destroyed, and no row is
touched. Receivers of an application do not run here: an erasure waits for them, and the
page says so. Tables that an application alone knows are not blanked. It can have the same
page in its own admin, where all of that happens.

The page is for this machine alone: it listens on a loopback address, for it has neither
TLS nor a login. The link works once, for one browser, until that is closed; for a new link
start the command again. Whoever has the link or the browser may do what --permit lists.
On a machine with other users it is as safe as the link: do not let it stand in a log.`,
		Args: between(0, 0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error { return a.serve(c.Context(), &o) },
	}
	o.flags(c)
	c.Flags().StringVar(&o.actor, "actor", "oubli", "who acts on the page, for the record; it is stored and not sealed")
	c.Flags().StringSliceVar(&o.permit, "permit", texts(permissions), "what may be done on the page")
	c.Flags().StringSliceVar(&o.protect, "protect", nil, "a kind of subjects of which nobody is erased, restricted or released here; repeat it, or write a list")
	return c
}

func (o *serveOptions) flags(c *cobra.Command) {
	c.Flags().StringVar(&o.listen, "listen", defaultListen, "a loopback address and port; port 0 is any that is free")
}

// texts are permissions as texts.
func texts(ps []admin.Permission) (list []string) {
	for _, p := range ps {
		list = append(list, string(p))
	}
	return list
}

// check finds mistakes before anything is opened.
func (o *serveOptions) check() error {
	for _, p := range o.permit {
		if !slices.Contains(texts(permissions), p) {
			return usagef("--permit %q is not known; known: %s", p, strings.Join(texts(permissions), ", "))
		}
	}
	if !slices.Contains(o.permit, string(admin.View)) {
		return usagef("--permit without view: nobody would see anything")
	}
	for _, kind := range o.protect {
		if err := keystore.CheckKind(kind); err != nil {
			return usagef("--protect: %w", err)
		}
	}
	if o.actor == "" || len(o.actor) > keystore.MaxActor || !utf8.ValidString(o.actor) {
		return usagef("--actor needs a name of at most %d bytes", keystore.MaxActor)
	}
	return nil
}

// listening listens where the user wants.
func (o *serveOptions) listening() (net.Listener, error) {
	l, err := loopback.Listen(o.listen)
	switch {
	case errors.Is(err, keystore.ErrInvalid):
		return nil, withHint(asUsage(err), "to reach the page from elsewhere, mount it in your application's own admin, which has both: package anonymize/admin")
	case err != nil:
		return nil, withHint(err, "--listen 127.0.0.1:0 takes any port that is free")
	}
	return l, nil
}

func (a *app) serve(ctx context.Context, o *serveOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	at, err := a.location()
	if err != nil {
		return err
	}
	l, err := o.listening()
	if err != nil {
		return err
	}
	defer l.Close()
	of := &anonymize.Options{Actor: o.actor, Logger: a.logger(slog.LevelWarn)}
	if !at.shared() {
		of.Worker = "oubli serve" // nobody else works there, so it is this command's own work that it takes up at once
	}
	run := func(t *tables) error {
		return a.withStore(ctx, writing, func(keys *keystore.Store) error {
			eraser, err := anonymize.New(keys, of)
			if err != nil {
				return err
			}
			page := &admin.Options{Protected: o.protect}
			if t != nil {
				live, err := newLiveTables(t, keys)
				if err != nil {
					return err
				}
				eraser.RegisterTables(live)
				page.Columns = live.people()
			}
			if err := a.sayReach(ctx, keys, eraser, t); err != nil {
				return err
			}
			return a.servePage(ctx, l, eraser, o, page)
		})
	}
	if a.db == "" {
		return run(nil)
	}
	return a.withTables(ctx, run)
}

// sayReach says what an erasure on this page does not reach. t is nil without tables.
func (a *app) sayReach(ctx context.Context, keys *keystore.Store, eraser *anonymize.Eraser, t *tables) error {
	kinds := eraser.Kinds()
	if t == nil {
		a.say("no --db: to erase people here destroys their keys, and blanks no row")
	} else {
		a.say("rows of these kinds are blanked in the tables of %s: %s; of others keys are destroyed, and no row is blanked", a.mapFile, strings.Join(kinds, ", "))
	}
	const look = 100 // a few people tell which kinds there are
	some, _, err := keys.List(ctx, keystore.ListQuery{Limit: look})
	if err != nil && !errors.Is(err, keystore.ErrTampered) { // the page names who it is
		return err
	}
	pending, _, err := keys.List(ctx, keystore.ListQuery{State: keystore.StateErasing, Limit: look})
	if err != nil && !errors.Is(err, keystore.ErrTampered) {
		return err
	}
	for _, st := range slices.Concat(some, pending) {
		kinds = append(kinds, st.Subject.Kind())
	}
	slices.Sort(kinds)
	for _, kind := range slices.Compact(kinds) {
		names, err := keys.Receivers(ctx, kind)
		if err != nil {
			return err
		}
		if len(names) > 0 {
			a.warn("to erase a %s waits for %s, of an application: the page asks, and it is the application that goes on", kind, strings.Join(names, ", "))
		}
	}
	return nil
}

// farewell is how long an erasure that is being worked on when the end has come is waited
// for. What is not done then is taken up by the next who works on the keystore.
const farewell = 3 * time.Second

// servePage serves the page of an Eraser on l and lets it run, until ctx ends.
func (a *app) servePage(ctx context.Context, l net.Listener, eraser *anonymize.Eraser, o *serveOptions, page *admin.Options) error {
	logger := a.logger(slog.LevelInfo)
	var ps []admin.Permission
	for _, p := range o.permit {
		ps = append(ps, admin.Permission(p))
	}
	viewer := admin.ViewerFor(o.actor, ps...)
	page.Viewer = func(*http.Request) (admin.Viewer, error) { return viewer, nil }
	page.Logger = logger
	handler, err := admin.New(eraser, page)
	if err != nil {
		return err
	}
	door, err := loopback.NewDoor(l.Addr(), handler, logger)
	if err != nil {
		return err
	}
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	ended := make(chan struct{})
	var broken error
	go func() {
		defer close(ended)
		if !slices.Contains(ps, admin.Anonymize) {
			return // who only looks does not destroy keys
		}
		if broken = eraser.Run(running); broken != nil {
			stop(broken)
		}
	}()
	if err := a.sayLink(door.Link()); err != nil {
		return err
	}
	err = loopback.Serve(running, l, door, logger)
	stop(nil)
	select {
	case <-ended:
		return errors.Join(err, broken)
	case <-time.After(farewell):
		a.warn("an erasure is being worked on that does not end: it goes on when this runs again")
		return err
	}
}

// sayLink prints the link where data goes.
func (a *app) sayLink(link string) error {
	a.say("open this link in a browser on this machine; it works once, and Ctrl-C ends the page:")
	_, err := fmt.Fprintln(a.out, link)
	return err
}
