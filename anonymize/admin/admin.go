package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// Options of a [Handler].
type Options struct {
	// Viewer tells who asks: from the application's own session. It is called once for
	// each request. [ErrNobody] says that nobody is signed in, and any other error that
	// it could not be found out: neither sees anything. Required.
	Viewer func(*http.Request) (Viewer, error)

	// Columns are shown of each person. Default: none but subject and state.
	Columns Columns

	// Protected lists kinds of which nobody is erased, restricted or released here.
	Protected []string

	// Path is what the path of the requests begins with, and ends with a slash:
	// "/privacy/" for a handler that is mounted there. Behind [http.StripPrefix] it is "/".
	// Default: "/".
	Path string

	// Texts are the words of the pages. Default: English.
	Texts *Texts

	// Logger gets refused attempts (Warn), failures (Error) and what was asked for (Info):
	// actor, permission, subjects, never a value. Default: discards.
	Logger *slog.Logger

	// Clock tells the time; tests set it. Default: time.Now.
	Clock func() time.Time

	// PageSize is how many people one page of the list has, 1 to 1000. Default: 50.
	PageSize int
}

// ErrNobody is what Options.Viewer returns when nobody is signed in: the answer is 401.
var ErrNobody = errors.New("nobody is signed in")

// Permission is what a viewer needs for a page or an action.
type Permission string

// The permissions. Each is asked for by itself: one does not include another.
const (
	View      Permission = "view"      // to see that a person is known, with state, history and key ids
	Reveal    Permission = "reveal"    // to see personal values, and errors of receivers, which may hold some
	Anonymize Permission = "anonymize" // to ask for an erasure, to retry and to cancel it
	Restrict  Permission = "restrict"  // to restrict and to release
	Export    Permission = "export"    // to take away what is held about a person
)

// Viewer is who looks at a page.
type Viewer interface {
	// Actor names the viewer in journals, histories and logs. It is stored, so it must
	// not be a personal name: a staff number, or an account's id. One without is refused, and
	// one with control characters.
	Actor() string

	// Self is the viewer's own subject, whom they may not erase here; zero: none.
	Self() keystore.Subject

	// May tells for each subject, parallel to them, whether the viewer may do that. It is
	// asked when a page is made and once more when an action is carried out. The zero
	// Subject stands for pages about nobody in particular: the list, whose addresses may hold
	// an id that it does not show, who asked for what when, about how many, and the health of
	// the keystore. An error, and a list of another
	// length, is never a yes: nothing happens, and the answer is 503.
	May(ctx context.Context, p Permission, subjects ...keystore.Subject) ([]bool, error)
}

// ViewerFor is a Viewer who may do the same to everybody, for tools of one operator.
func ViewerFor(actor string, ps ...Permission) Viewer { return fixedViewer{actor, ps} }

// Columns are what the list shows of each person. Its methods must be safe for
// concurrent use.
type Columns interface {
	Columns() []Column

	// Values returns a row for each of asks, parallel to Columns, or nil where there is
	// none. It must not open a personal value where Reveal is not set. What ctx may read
	// decides what of a restricted person is shown.
	Values(ctx context.Context, asks []Ask) ([][]Value, error)
}

// Column is one of [Columns].
type Column struct {
	Name     string
	Personal bool // shown to those who may Reveal alone
}

// Ask asks for the values of one person.
type Ask struct {
	Subject keystore.Subject
	Reveal  bool // whether the viewer may see what is personal
}

// Value is a person's value in a [Column].
type Value struct {
	Text   string
	State  fieldcrypt.Status // of a personal value that is shown: open, withheld, erased
	Masked bool              // personal, and not for this viewer
}

// Handler is the admin page: an [http.Handler], safe for concurrent use. It holds no
// state of its own but what keeps a double click from doing a thing twice: all it shows
// comes from the keystore and the tables, so several processes may serve it.
type Handler struct {
	eraser    *anonymize.Eraser
	keys      *keystore.Store
	o         Options
	renderer  *renderer
	columns   []Column
	protected map[string]bool
	origin    *http.CrossOriginProtection
	acting    keyed
	routes    map[string]route
}

// New makes the page for an eraser, whose keystore, tables and receivers it uses. It
// erases nobody by itself: [anonymize.Eraser.Run] must run in this process or in another
// one. The error wraps [keystore.ErrInvalid].
func New(eraser *anonymize.Eraser, o *Options) (*Handler, error) {
	h := &Handler{eraser: eraser, protected: map[string]bool{}, origin: http.NewCrossOriginProtection(), routes: routes()}
	if o != nil {
		h.o = *o
	}
	if eraser == nil {
		return nil, invalid("there is no eraser")
	}
	if h.o.Viewer == nil {
		return nil, invalid("Options.Viewer is missing: somebody must say who may see what")
	}
	if h.o.Path == "" {
		h.o.Path = "/"
	}
	if !strings.HasPrefix(h.o.Path, "/") || !strings.HasSuffix(h.o.Path, "/") {
		return nil, invalid("Options.Path %q must begin and end with a slash", h.o.Path)
	}
	if h.o.PageSize == 0 {
		h.o.PageSize = 50
	}
	if h.o.PageSize < 1 || h.o.PageSize > keystore.MaxList {
		return nil, invalid("Options.PageSize is %d, which is not 1 to %d", h.o.PageSize, keystore.MaxList)
	}
	for _, kind := range h.o.Protected {
		if err := keystore.CheckKind(kind); err != nil {
			return nil, fmt.Errorf("admin: Options.Protected: %w", err)
		}
		h.protected[kind] = true
	}
	if h.o.Logger == nil {
		h.o.Logger = slog.New(slog.DiscardHandler)
	}
	if h.o.Clock == nil {
		h.o.Clock = time.Now
	}
	if h.o.Columns != nil {
		h.columns = h.o.Columns.Columns()
	}
	h.keys = eraser.Keystore()
	var err error
	h.renderer, err = newRenderer(h.o.Texts, h.o.Clock)
	return h, err
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("admin: "+format+": %w", append(args, keystore.ErrInvalid)...)
}
