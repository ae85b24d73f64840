// Package awskms wraps root keys with AWS KMS, a key for each: a driver of
// [github.com/oubli/oubli/keystore/rootkms].
//
// There are two ways to make a key, and they differ in how it dies.
//
// By default the key's material is 32 random bytes that are made here, imported, and
// forgotten at once. KMS deletes imported material as soon as it is told to, and takes none
// but the same bytes back. So destroying such a key is immediate, and nobody can undo it;
// what remains in KMS is a name, which is then deleted too.
//
// With Config.Made, KMS makes the material, and it has never been anywhere else. KMS
// destroys it 7 to 30 days after it is told to. Until then it can't be used, but an
// administrator can cancel the deletion; whoever calls Destroy again begins it anew.
//
// What must be trusted: KMS itself, that it deletes what it says it deletes; and, with
// imported material, the process that makes a root, in whose memory the material is for
// some milliseconds, with the root itself. No key has replicas in other regions: they would
// live on. No message of AWS is repeated in an error, since they can hold tokens and names.
//
// KMS is eventually consistent. A new key is waited for; after a destruction KMS is asked
// until it says so itself. It may still decrypt for some seconds with a key of which it
// says that.
package awskms
