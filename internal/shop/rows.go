package shop

import (
	"time"

	"github.com/oubli/oubli/fieldcrypt"
)

// purposeTax is what billing addresses are kept for when a customer is erased.
const purposeTax = "tax"

// Customer is a row of the table customer. The tags name who it is about, what is
// personal, and what that reads as when it is erased.
type Customer struct {
	ID         int64                         `db:"customer_id" oubli:",subject=customer" json:"id"`
	FirstName  string                        `oubli:"first_name,replace=Erased" json:"first_name"`
	LastName   string                        `oubli:"last_name,replace=Customer {id}" json:"last_name"`
	Company    *string                       `oubli:"company" json:"company"`
	Phone      *string                       `oubli:"phone" json:"phone"`
	Fax        *string                       `oubli:"fax" json:"fax"`
	Email      string                        `oubli:"email,replace={id}@erased.invalid" json:"email"`
	BirthDate  fieldcrypt.Private[time.Time] `oubli:"birth_date,blank=year" json:"-"` // shows itself to nobody; see customerJSON
	Newsletter bool                          `json:"newsletter"`
	SupportRep *int32                        `db:"support_rep_id" json:"support_rep_id"`
	Privacy    fieldcrypt.Status             `json:"privacy"` // filled when it is read
}

// Anonymize is called when the customer is erased, for what goes with the personal
// columns without being one. It returns the columns that it changed.
func (c *Customer) Anonymize() (columns []string) {
	c.Newsletter = false
	return []string{"newsletter"}
}

// Address is a row of the table address. It belongs to its customer, and its values are
// bound to the row: swapped with those of another address, even of the same customer,
// they do not open.
type Address struct {
	ID         int64             `db:"address_id" oubli:",key" json:"id"`
	CustomerID int64             `oubli:",subject=customer" json:"-"`
	Street     string            `oubli:"street,replace=-" json:"street"`
	City       string            `oubli:"city,replace=-" json:"city"`
	State      *string           `oubli:"state" json:"state"`
	PostalCode *string           `oubli:"postal_code" json:"postal_code"`
	Country    string            `json:"country"` // not personal: what the statistics need
	Privacy    fieldcrypt.Status `json:"privacy"`
}

// Invoice is a row of the table invoice. The billing address is sealed under a key of its
// own, which an erasure can leave.
type Invoice struct {
	ID                int64             `db:"invoice_id" oubli:",key" json:"id"`
	CustomerID        int64             `db:"customer_id" oubli:",subject=customer" json:"customer_id"`
	Date              time.Time         `db:"invoice_date" json:"date"`
	BillingAddress    *string           `db:"billing_address" oubli:"billing_address,purpose=tax" json:"billing_address"`
	BillingCity       *string           `db:"billing_city" oubli:"billing_city,purpose=tax" json:"billing_city"`
	BillingState      *string           `db:"billing_state" oubli:"billing_state,purpose=tax" json:"billing_state"`
	BillingPostalCode *string           `db:"billing_postal_code" oubli:"billing_postal_code,purpose=tax" json:"billing_postal_code"`
	BillingCountry    string            `db:"billing_country" json:"billing_country"`
	Cents             int64             `db:"cents" json:"cents"`
	RefundedCents     int64             `db:"refunded_cents" json:"refunded_cents"`
	Privacy           fieldcrypt.Status `db:"-" json:"privacy"`
}
