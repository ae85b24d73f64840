package model

// Config says which actors take part, how many of each, and what is wrong on purpose.
// A set of subjects is a bit mask: bit u stands for subject u; subjects 0 to 2 live in
// shard 0, subject 3 in shard 1.
type Config struct {
	Advancers int // 1 or 2
	Mirrors   int // 1 or 2
	Pages     int // 1: both shards in one page; 2: a page for each

	Present  Set // have a ring from the start
	Erasable Set // may be erased, at any moment
	Created  Set // may be created, by one creator at a time
	Rotated  Set // may be rotated, again and again, by one rotator at a time

	// ArchiveFailed lets the attacker keep what a commit that failed had tried to
	// write, as a write-ahead log keeps aborted rows.
	ArchiveFailed bool
	// LateIntents lets the commit of an intent become visible, or vanish, long after
	// its client has gone; the record stays locked meanwhile.
	LateIntents bool
	// Backup lets the keystore be copied once and the copy be put back once.
	Backup bool
	// Repair lets the root store copy a root to a mirror that lacks it.
	Repair bool

	// Superseded is how many superseded roots may still live when an advance begins. In
	// the product a grace period may leave many; one tells several apart from none.
	Superseded int

	Faults Faults
}

// Faults are the known wrong turns. Each must make Check find a violation.
type Faults struct {
	Discard          bool // recovery discards a root because it read no intent for it
	Join             bool // an erasure joins the advance that is under way
	TwoGenerations   bool // a page goes under the new root with its old generation too
	CreatorUnguarded bool // the creator does not name the page's revision
	RotatorUnguarded bool // the rotator does not name the page's revision
	EraserUnguarded  bool // the eraser does not name the page's revision
	RingFirst        bool // the rotator reads the ring before the page
	ReuseRoots       bool // an advance takes a root that it found instead of a fresh one
	KeepTimeLine     bool // a restore does not supersede the roots of the abandoned time line
	ForgetDestroyed  bool // mirrors do not remember which roots they destroyed
	DestroyUnlisted  bool // roots that the record does not list as superseded are destroyed
	OneShotNoGuards  bool // the one-shot does not name the revisions of the rings
	OneShotRingFirst bool // the one-shot reads the rings before the page
	OneShotNoStart   bool // the one-shot does not start the page first
	NoTombstones     bool // no tombstones stand beside the root
	ReplayKnown      bool // tombstones are replayed only for subjects that the backup holds
	ClearWorklist    bool // entries are removed from a worklist by "all", not by id
}
