package admin

import (
	"html/template"
	"time"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// A view is what one page shows: values that are checked, masked and decided already. The
// templates put words, order and colour to them, and decide nothing.

// frame is what every page has around it.
type frame struct {
	Here   string // the page, as in the navigation: people, batches, health; empty for none of them
	Actor  string // who looks at it
	Notice string // the key of a text about what just happened, empty if nothing did
	Busy   bool   // the page changes by itself: it is asked for again every few seconds
	Idle   bool   // nobody works on erasures in this process
	URL    string // of this very page, to ask again
}

// person is one person in a list.
type person struct {
	Subject  string
	URL      string
	State    keystore.State
	Kept     bool   // restricted to what an erasure kept
	Hold     string // why destruction is refused
	Final    bool
	FinalAt  time.Time // zero: not known
	Values   []Value   // parallel to the page's Columns; nil: there is no row
	Selected bool
	Own      bool // the viewer's own
}

// peoplePage is the list.
type peoplePage struct {
	frame
	Query    string // as it was typed
	State    keystore.State
	After    string // of the page, as it was asked for
	Filters  []filter
	Columns  []Column
	People   []person
	Missing  []string // of an exact search: subjects that are unknown, or not to be seen
	Hidden   int      // people on this page that the viewer may not see
	Next     string   // URL; empty: no more
	First    string   // URL of the first page; empty: this is it
	May      actions  // what the viewer may do to anybody on it
	Problem  string   // the key of a text: why the last try to go on did not work
	MaxBatch int
	drawn    template.HTML // in place of the people's rows, to make a skeleton
}

// filter is a choice of the list.
type filter struct {
	State  keystore.State // StateUnknown: everybody
	URL    string
	Active bool
}

// actions are what may be offered.
type actions struct{ Erase, Restrict, Release, Export bool }

// personPage is one person.
type personPage struct {
	frame
	Person     person
	Purposes   []string // of a restriction
	Keys       []keystore.KeyInfo
	Dropped    []uint32
	Gone       []string
	History    []keystore.Change
	Journal    *keystore.Journal
	Trouble    *trouble // of an erasure that is under way
	Tables     []personTable
	Reveal     bool // the values of Tables are opened
	Unreadable bool // they should be, and could not be
	May        actions
	Cancel     bool // the erasure can still be cancelled
	Retry      bool
	Refused    string // the key of a text: why this person can't be erased here (own, protected); empty if they can
}

// personTable is a person's rows in one table.
type personTable struct {
	Name   string
	Count  int
	Rows   [][]field // empty where they are masked: then Fields tells what there is
	Fields []field
}

type field struct {
	Name     string
	Personal bool
	Text     string
	State    fieldcrypt.Status // open, withheld, erased
	Masked   bool
	Null     bool
}

// confirmPage says what will happen to whom.
type confirmPage struct {
	frame
	Action   string // erase, restrict, release
	Batch    string // id of what will be done
	Digest   string // of what is shown
	People   []confirmPerson
	Keep     []keepChoice // erase: purposes that can be kept
	Tables   []confirmTable
	Calls    []string  // receivers that will run, in their order
	Missing  []string  // receivers that this process lacks
	FinalAt  time.Time // if it was confirmed now
	Class    string    // of the root store
	Asks     string    // what is to be typed: the id, or the count; empty: nothing
	One      bool      // exactly one person is concerned
	Wrong    bool      // it was typed wrongly
	Stale    bool      // what was confirmed is not so any more
	Hold     string    // restrict: what was typed
	Purpose  string    // restrict: what was typed
	Possible int       // people whom it will be done to
	Back     string    // URL
	Columns  []Column  // of the people's values

	// Where in the list it began, to go along in the forms: it decides Back.
	Query, Filter, After string
}

type confirmPerson struct {
	person
	Refused string // the key of a text: why it will not be done to them; empty: it will
	Detail  string // for it: the hold's reason
	Rows    int    // of theirs in all tables; -1 if they were not counted
}

// keepChoice is a purpose that an erasure may keep.
type keepChoice struct {
	Purpose string
	Checked bool
}

type confirmTable struct {
	Kind   string
	Table  string
	Rows   int // of all the people; -1 if they were not counted
	Fields []string
	Kept   []string

	ByPurpose []purposeFields // the same fields, and what keeping their purpose would keep
}

// purposeFields are the fields of a table that one purpose keeps or an erasure blanks.
type purposeFields struct {
	Purpose string // empty: the default, which can't be kept
	Fields  []string
	Kept    bool
}

// batchPage is how far something has come.
type batchPage struct {
	frame
	ID      string
	Action  string
	By      string
	At      time.Time
	People  []batchPerson
	Done    int
	Failed  int // stopped, refused or waiting for somebody
	Running int
	Over    bool // nothing more will happen by itself
	Retry   bool // some can be retried
	Cancel  bool // some can be cancelled
	Keep    []string
	Hidden  int // people of it whom the viewer may not see
}

type batchPerson struct {
	person
	Step    string // the key of a text: done, refused, cancelled, waiting, working, failed, notasked
	Refused string // of those refused: the key of a text, as in confirmPerson
	Why     string // in words, for failed and refused
	Calls   []call // receivers
	Retry   bool
	Cancel  bool
	Trouble *trouble
}

// call is how far one receiver has come.
type call struct {
	Name string
	Step string // done, working, failed, missing, open
}

// trouble is why an erasure does not go on.
type trouble struct {
	Where    string // receiver or table
	Why      string // the error's text, or what of it the viewer may see
	Hidden   bool   // there is more, that the viewer may not see
	Failures int
	Next     time.Time // when it is tried again by itself
	Worker   string    // who has claimed it, if somebody elsewhere
	Until    time.Time
}

// batchesPage lists what was asked for.
type batchesPage struct {
	frame
	Batches []batchLine
	Damaged bool // there are some that can't be read
	Next    string
	First   string
}

type batchLine struct {
	URL    string
	Action string
	By     string
	At     time.Time
	People int
}

// healthPage is the keystore as a whole.
type healthPage struct {
	frame
	Name      string
	Place     keystore.Place
	Grace     time.Duration
	Health    keystore.Health
	Lease     keystore.LeaseStatus
	Oldest    time.Time // request of the oldest unfinished erasure; zero: none
	OldestURL string
	Pending   []person // the oldest unfinished erasures, a few
	NotFinal  int
	NextFinal time.Time // when the next of them is
	LastFinal time.Time
	Problems  []problem
	Damaged   bool // a record can't be read
}

// problem is what somebody should look at, with words from the texts.
type problem struct {
	Text string // key
	Args []any
}

// errorPage says why there is nothing else.
type errorPage struct {
	frame
	Code   int
	Text   string // key: forbidden, notfound, toolarge, badrequest, unavailable, crossorigin, broken
	Detail string // in words; never a value
	Back   string
}
