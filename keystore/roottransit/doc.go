// Package roottransit keeps the root keys of a keystore with HashiCorp Vault or OpenBao,
// for many hosts: each root is wrapped by a version of its own of a key of the transit
// engine, and destroyed by trimming that version. The wrapped roots stand in a KV engine of
// version 2, with the anchor and the tombstones that a restore must replay.
//
// What it rests on:
//
//   - The transit engine can only drop its oldest versions: min_decryption_version goes
//     above them, and then trim removes them from its storage for good. The limit alone is
//     no destruction, an administrator lowers it again. What [rootkms.Store] wants to keep
//     below a version that goes, it has wrapped by a newer one before.
//   - Encrypting under a key that was deleted makes a new key, silently, where the token
//     may create one. The policy of [Config.Policy] does not let it, and besides the key's
//     state is read before anything is encrypted.
//   - A Vault that came back from a snapshot counts versions anew. A version is therefore
//     known by its number and the second in which it was made.
//
// What destroying does not reach: snapshots of Vault's own storage, together with its unseal
// keys. [Config.Copies] says how long those are kept, and erasures are final that much later.
//
// Calls: one login and one renewal for each process, one read of the shelf and one decrypt
// for each root that a process loads, three calls of the transit engine and one write for a
// new root, and none for a read or a write of personal fields.
package roottransit
