// Package fieldcrypt seals the personal fields of rows, each person's under that
// person's own key, and opens them again: the part of oubli that an application talks to.
//
// Personal fields are tagged. A [Codec] reads the tags once and then works on copies
// of rows, whole or partial, one or many, with one round trip to the keystore:
//
//	type Customer struct {
//		ID        int64                         `oubli:",subject=customer"`
//		FirstName string                        `oubli:"first_name,replace=Erased"`
//		Email     string                        `oubli:"email"`
//		Phone     *string                       `oubli:"phone"`
//		BirthDate fieldcrypt.Private[time.Time] `oubli:"birth_date"`
//		Privacy   fieldcrypt.Status             // filled by Open: open, withheld, erased
//		Country   string                        // not personal: what the statistics need
//	}
//
// string, *string and []byte hold the envelope in place; [Private] holds a value of any
// type and refuses to be printed, logged or written while it is in the clear. Tags:
//
//	name                the logical name: part of the format, keep it when renaming
//	subject=KIND        this field is the id of the person; its kind is KIND
//	key                 this field binds the row's values to the row
//	purpose=P           a key of its own, which can be kept or withdrawn by itself
//	replace=TEXT        what an erased field reads as; {id} stands for the person's id
//	blank=RULE          what blanking leaves: null, year, first:N
//	-                   not looked into
//
// Nested and embedded structs are part of the row. All mistakes of a struct are
// reported together by [NewCodec]. [RowCodec] does the same for rows without a struct.
//
// Reading never fails because one person was erased: erased fields read as their
// replacement, those of restricted people and of people being erased as empty, and
// [Status] says which. Writing personal content always fails when it cannot be sealed.
// What was altered, or moved from another person, column, table or row, never opens;
// it is reported by row, and the other rows open. An unavailable keystore fails the
// call: it never looks like an erasure.
//
// A database that is full of plaintext is sealed while the application works. For that
// time [Options].Adopting names the columns in which a codec takes what is no envelope for
// the value itself, and counts it; it shows plaintext to whom it would show the opened
// envelope, and seals whatever it writes. [BoundRows].Adopt seals what is there. Once
// nothing is left, a codec without Adopting refuses plaintext as tampered again.
//
// An envelope shows that a value is there, its length and its key's id. It does not
// hide that, and it does not protect the columns that are not tagged.
// docs/format.md specifies every byte.
package fieldcrypt
