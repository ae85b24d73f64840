// Package keystore keeps a ring of data keys for every data subject and can make any
// one of them unreadable, in the living store and in every copy of it.
//
// Deleting a wrapped key from a database does not destroy it: it stays in freed pages,
// in the write-ahead log and in backups. A wrapped key that lingers is harmless only
// when a key above it is gone. So the keystore is a tree whose root is a few bytes that
// live elsewhere, in a [RootStore]:
//
//	root key   epoch e; in the root store, never in the keystore
//	  └─ shard keys    in pages, wrapped under the root
//	       └─ rings    one per subject: random data keys, wrapped under a shard key
//	            └─ fields    in the application's own tables
//
// Nothing is derived: what can be derived again cannot be forgotten. To erase, the
// [Store] drops the ring, gives the shard a fresh key and re-wraps its survivors, wraps
// every page under a fresh root, and has the old root destroyed (after a grace, in which
// backups of the keystore can still be restored). From then on the erasure is final:
// whoever holds every copy of the keystore and all keys that are left learns nothing.
// The construction follows Di Crescenzo et al. (1999), Boneh and Lipton (1996), and
// Reardon, Basin and Capkun (2013).
//
// Advancing from one epoch to the next is roll-forward only and can be interrupted at
// any write. internal/model explores the protocol exhaustively; its package comment says
// which of its files stands for what here.
//
// Several processes may share a keystore, where its backend is [Shared]. Each serves keys
// from memory only under a lease: it polls the change counters of all pages, one read twice
// in a lease's time L, and serves for 0.9·L after the sending of the last poll that was
// answered, by boot time and wall clock both, which is looked at again after decryption
// ([Fresh]). One that can't poll serves nobody. Who makes a subject erasing or restricted
// waits for L, once for a batch, so that when Erase returns no process opens the subject any
// more. A keystore that went back in time, as in a failover to a standby that lagged, is
// noticed by its counters and serves nobody either.
//
// What it does not do: it cannot reach plaintext or keys that a process once had in
// memory, that were logged, or that somebody copied together with a root key before an
// erasure was final. Losing the root store loses everybody.
//
// An application makes a keystore with [Create], or with the command line, opens it with
// [Open], and hands the [Store] to package fieldcrypt, which seals and opens fields, and to
// package anonymize, which runs erasures with their signal. What it calls itself is about
// people (Restrict, Release, Rotate, Withdraw, Readmit, Status) and about the whole (Health,
// Verify, Advance). Lookup and Ensure are for codecs; RequestErasure, Claim, Reveal,
// AwaitErasing, Acknowledge, BeginBlanking and RecordReceivers are the steps of whoever runs an erasure.
// Erase is for kinds that have no receivers and no tables to blank.
//
// A [Backend] remembers records: keystore/pgstore in PostgreSQL, for many processes,
// keystore/boltstore in a file, for one, and keystore/memstore in memory. A [RootStore]
// holds the root: keystore/rootfile for the processes of one host, keystore/roottransit and
// keystore/rootkms with a service, for those of many. The root moves from one to another while
// all of them go on ([Store.MoveRoots], NextRoots in [Options]). Where a service takes its time
// to destroy, an erasure is final when the service has confirmed it.
package keystore
