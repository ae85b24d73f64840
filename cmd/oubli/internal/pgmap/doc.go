// Package pgmap finds the tables of a data map in a PostgreSQL database, and reads and
// writes their rows as cells of text: what every command with --db stands on.
//
// A row is read with its version and saved only while it is still that version, so that
// nothing is locked between the two and no change of somebody else is lost.
package pgmap
