// Package anonymize erases people: it tells the receivers that must know, blanks the
// personal fields of the application's own tables, destroys the subject's keys and
// lets the key tree advance, in this order, and it survives being killed at any step.
//
// # The order of one erasure
//
//  1. The request becomes durable in the subject's own record of the keystore, its
//     journal. From here nobody seals or reads the subject's fields, except
//  2. the pre-anonymize receivers, which are called one after the other, in the order
//     in which they were connected, with the plaintext still in hand. A receiver that
//     returns nil is acknowledged durably and never called again for this erasure; one
//     that fails, panics, or dies with its process is called again: at least once.
//     Until all have acknowledged, nothing is destroyed and [Eraser.Cancel] undoes it.
//  3. The subject's rows in every registered table of its kind are blanked, and only
//     the changed columns are saved: row by row ([Register]), or all tables in one
//     transaction ([Eraser.RegisterTables]).
//  4. The keys are destroyed and the tree advances, once for a whole batch.
//
// All durable state lives in the keystore. Twice is the same as once, and whoever comes
// next, the same call again or a worker in [Eraser.Run], goes on where the last one stopped.
//
// # Mandatory receivers
//
// Before its first erasure of a kind, an [Eraser] records durably which receivers it
// has for that kind. Every request, from whichever program, freezes the recorded set:
// a tool that does not have them cannot skip them. It leaves the erasure pending, and
// [Result.WaitingFor] names who is missing. A receiver that is gone for good is
// removed with [Eraser.Retire].
//
// # What it does not do
//
// Blanking covers registered tables only. What a receiver copied, what went to logs or
// to search indexes as plaintext, is the application's to clean up; receivers are the
// place for it. A row that the application writes while its subject is being erased
// cannot get new ciphertext, but it can keep old ciphertext; destroying the keys makes
// that unreadable too, which is the point of the exercise.
package anonymize
