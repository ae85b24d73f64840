// Package pkcs11 wraps roots with keys of a hardware security module, by PKCS#11
// (OASIS, versions 2.40 and 3): the keys of a [rootkms.Store].
//
//	config, err := pkcs11.Parse("pkcs11:token=oubli?module-path=/usr/lib/…/libmodule.so&pin-source=file:/etc/oubli.pin")
//	keys, err := pkcs11.Open(ctx, config)
//	roots := rootkms.New(keys, shelf, nil)
//
// # What stands on the token
//
// Each root has an AES-256 key object of its own, made by the token, which cannot leave it
// (CKA_SENSITIVE, not CKA_EXTRACTABLE) and does nothing but AES-GCM. Its CKA_ID is
// "oubli:" and 16 random bytes, its CKA_LABEL names the keystore and the root. What the
// token made of it is read back; a token that makes keys otherwise is refused. Destroying
// a root is destroying that object, and a search that no longer finds it, by a session
// that is certainly logged in to that token: logged out, a token hides its private
// objects, and that must not read as a destruction. Nor must it that another token of that
// label was plugged in: a key's name tells which one made it, and where it was moved to
// another on purpose, [Config.Replaces] says so.
//
// A nonce is random, unless the token insists on one of its own, and a key wraps a root
// once or a few times, never a second one.
//
// # What it does not show
//
// Backups of the token, members of a cluster that are away, and clones of its domain hold
// destroyed keys for as long as they are kept: [rootkms.Options.Copies] says how long that
// is. Nobody can take a destruction back on the token itself. A token that says that it is
// software (no CKF_HW_SLOT), such as SoftHSM, destroys as well as the disk does on which
// it deletes a file: its class is best effort. Who has the PIN can use the keys while they
// live, and destroy them.
//
// # Modules and processes
//
// A module is loaded and initialized once per process, and logging in counts for the whole
// process; others in it may use the same module and token, before and after. Therefore
// [Keys.Close] closes sessions and does no more: it neither logs out nor finalizes.
// A call into a module cannot be interrupted. When a context ends, or after two minutes,
// the method returns; the call is left to itself until the token answers, and may yet do
// what was asked. Calls wait for each other: there are a few in an epoch.
//
// The package needs cgo. Without it, Open fails and says so.
package pkcs11
