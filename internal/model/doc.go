// Package model explores the protocol by which the key tree advances from one root to
// the next: every interleaving of its actors, every moment at which one of them may
// crash, for small numbers of each. Nothing but its tests uses it, and it has no code in
// common with package keystore: where the two differ, one of them is wrong.
//
// # What is modelled
//
// Four subjects in two shards, in one page or two; one or two mirrors of the root store;
// one or two advancers; erasers, one creator, one rotator. An attacker keeps every
// version of every page and of every ring, and with Config.ArchiveFailed also what
// failed commits had tried to write. A revision is not a number but a flag with whoever
// read it, which any later write of that record clears.
//
//	file            what it says                           in keystore
//	state.go        the records, the files, who is where   the epoch record, pages, rings; RootStore
//	writers.go      erase, create, rotate                  what commits a ring or a tombstone
//	advancer.go     record, tombstones, fresh root,        the advance; RootStore's Raise, Add, Destroy
//	                intent, record again, destruction
//	pages.go        one page under the new root            start, stepwise, one-shot
//	environment.go  late commits, backup, restore, repair  Restore; RootStore's mirrors
//	invariants.go   what must hold                         Verify, finality
//	canon.go        which states are the same
//	search.go       breadth first, and the way to a fault
//
// # What must hold
//
// In every state: every ring and every tombstone stands under a generation that its page
// holds, every page under a root that the record names, and every mirror has the root
// that a living subject needs. No erased subject is alive again, be it after a restore.
// An erasure that is final (every root that the record lists, and that some mirror still
// holds, covers its counter) is out of reach from every stored root through everything
// ever written. And from every state some continuation finishes: no intent, no
// superseded root, empty worklists, every erasure final. That there are never two
// successors follows from the second.
//
// Config.Faults are wrong turns that were considered or taken once. A test shows for
// each that it is found. Three taught the most:
//
//   - A one-shot (all rings moved and the page wrapped in one commit) needs its page
//     started by an earlier commit. A creator names the page's revision but does not
//     change it, and its ring is a record that the one-shot never read, so that no
//     revision catches it: it would stay under a generation that is gone. Starting the
//     page changes its revision, after which every creator uses the newest generation.
//     Without anybody who makes new records, the start is not needed.
//   - A restore replays the tombstones of subjects that the backup does not know, too.
//     Their ids would else be free for a new key.
//   - Taking a root that was found is harmless only as long as the mirrors remember what
//     they destroyed and a restore supersedes the roots of the time line it abandons.
//     With either gone it brings the finally erased back. A fresh root needs neither.
//
// # What is not modelled
//
// Numeric counters (a set of covered tombstones stands for them), the anchor, leases and
// caches, the passing of time (a superseded root may be destroyed whenever somebody
// comes), a failover that loses an acknowledged commit, mirrors that are away, readmission,
// cancelling, purposes, a second restore. An eraser's read and commit are one
// step: reading what a commit names is as good as reading it at the commit. At most five
// roots and five generations a shard are remembered at a time; a step that needs a sixth
// is not taken, Result.Cut counts these.
//
// # Sizes
//
// Every state is visited; states that differ only in the numbering of roots, generations
// or advancers count once. A state has 125 bytes. When nothing else runs, some
// 100,000 states a second:
//
//	configuration                                          states      with
//	one mirror, one erasure                                30,710      -race
//	one mirror, two erasures in one shard                 782,624
//	one mirror, erasures in both pages                    385,851      -full
//	both shards in one page                               231,464
//	two mirrors and their repair, one erasure             237,838
//	two mirrors and their repair, two erasures          4,040,734      -full
//	creator beside an erasure                             337,410
//	creator of whom is erased                              44,550
//	creator of whom is erased, beside another           1,835,005      -full
//	rotator of whom is erased, late intents               142,251
//	rotator beside an erasure, late intents               380,539      -full
//	rotator of one of two who are erased                4,041,253      -full
//	backup and restore, one erasure                        10,811      -race
//	backup and restore, two erasures                      345,009
//	backup and restore with two advancers, one erasure    461,943      -full
//	backup and restore with a creator                     793,246      -full
//	a superseded root in its grace                         18,770      -race
//	a superseded root in its grace, two advancers       1,198,423      -full
//	a superseded root in its grace, backup and restore    773,205      -full
//
// Those marked -race run with the race detector too, those marked -full only with
//
//	go test ./internal/model -full -timeout 30m
//
// which takes 3 GB; all others together 20 to 25 s of one processor, and 520 MB. With the
// race detector it is 13 s.
package model
