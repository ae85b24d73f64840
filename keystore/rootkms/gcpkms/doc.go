// Package gcpkms wraps root keys with Google Cloud KMS, a version of one CryptoKey for each:
// a driver of [github.com/oubli/oubli/keystore/rootkms].
//
// Cloud KMS destroys a version some time after it is told to: the CryptoKey's
// destroy_scheduled_duration, 30 days if nothing else was said when it was made, a day at
// least, and never to be changed. Until then the version can't be used, but an
// administrator can restore it; whoever calls Destroy again begins it anew. An erasure is
// final when the version is destroyed, so make the CryptoKey with a short duration.
//
// A version's material is made by Cloud KMS and is nowhere else. CryptoKeys for imported or
// external material are refused, since whoever has that can bring it back.
//
// Each ciphertext is bound to the name of its version, checksums are sent and checked both
// ways, and no message of Google is repeated in an error.
//
// Cloud KMS is eventually consistent in one thing: a version that was just disabled, or told
// to be destroyed, may decrypt for another minute, and in exceptional cases for hours, Google
// says. An erasure that is not final yet is not touched by that: the version is still there.
package gcpkms
