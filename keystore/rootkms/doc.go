// Package rootkms keeps root keys wrapped by keys of a key management service, in which
// destroying a key is real. It is for keystores that many hosts share.
//
// A root is 32 random bytes that stand nowhere as they are: each is wrapped by a key of its
// own, which the service makes, never gives away, and destroys when the root's time is up.
// The wrapped roots, the anchor and the tombstones stand on a [Shelf], a few documents that
// are changed by compare-and-swap. Who keeps old documents keeps ciphertext whose key is gone.
//
// The [Store] thinks, drivers remember: [Keys] is the service, of which there is one in
// memory for tests in package kmstest, with the suite that every driver passes; Shelf is a
// place for documents, such as [BackendShelf].
//
// What it guarantees: a root that Add returned nil for can be had until somebody destroys
// it, whichever process dies at whichever call, and also where the service can only drop
// its oldest versions, so that destroying one key means to wrap other roots anew. What Load
// says is destroyed was seen to be gone, for as long as copies of the service's storage are
// kept. A key that is missing is a loss, and says so; it never reads as an erasure.
//
// What it does not: the service must destroy what it says it destroyed, for which [Store.Rehearse]
// looks; copies of its storage that are kept longer than Options.Copies says open old roots;
// and a shelf that is restored together with the keystore can't tell an old keystore from
// the living one. One key of a service that has versions serves one root store: two
// would destroy each other's.
package rootkms
