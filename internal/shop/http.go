package shop

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// Handler answers the shop's requests.
func (s *Shop) Handler() http.Handler {
	m := http.NewServeMux()
	m.Handle("GET /customers/{id}", s.handle(s.getCustomer))
	m.Handle("POST /customers", s.handle(s.postCustomer))
	m.Handle("PUT /customers/{id}", s.handle(s.putCustomer))
	m.Handle("DELETE /customers/{id}", s.handle(s.deleteCustomer))
	m.Handle("GET /erasures/{id}", s.handle(s.getErasure))
	m.Handle("GET /invoices", s.handle(s.listInvoices))
	m.Handle("POST /invoices", s.handle(s.postInvoice))
	m.Handle("PUT /invoices/{id}", s.handle(s.putInvoice))
	m.Handle("POST /invoices/{id}/refund", s.handle(s.refundInvoice))
	m.Handle("GET /report/turnover", s.handle(s.reportTurnover))
	// Behind the accountants' login: what is kept for the tax office opens here alone.
	m.Handle("GET /tax/invoices", s.handle(func(r *http.Request) (int, any, error) {
		return s.listInvoices(r.WithContext(keystore.WithPurpose(r.Context(), purposeTax)))
	}))
	return m
}

// customerJSON is a customer with what has no JSON of its own: a Private shows its value to
// those who ask for it with Get, and to nobody else.
type customerJSON struct {
	Customer
	BirthDate string    `json:"birth_date,omitempty"` // 1990-05-17
	Addresses []Address `json:"addresses"`
}

func toJSON(c Customer, as []Address) customerJSON {
	j := customerJSON{Customer: c, Addresses: as}
	if born, ok := c.BirthDate.Get(); ok {
		j.BirthDate = born.Format(time.DateOnly)
	}
	return j
}

// customer is what a client sends. What it says of the row's privacy does not count.
func (j customerJSON) customer() (Customer, error) {
	c := j.Customer
	c.Privacy = ""
	if j.BirthDate != "" {
		born, err := time.Parse(time.DateOnly, j.BirthDate)
		if err != nil {
			return c, badRequest("birth_date is a date, as 1990-05-17")
		}
		c.BirthDate = fieldcrypt.NewPrivate(born)
	}
	return c, nil
}

func (s *Shop) getCustomer(r *http.Request) (int, any, error) {
	id, err := number(r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	c, as, err := s.customers.get(r.Context(), id)
	if err != nil {
		return 0, nil, err
	}
	withheld := func(a Address) bool { return a.Privacy == fieldcrypt.StatusWithheld }
	if c.Privacy == fieldcrypt.StatusWithheld || slices.ContainsFunc(as, withheld) {
		return 0, nil, errWithheld
	}
	return http.StatusOK, toJSON(c, as), nil // an erased customer reads as the replacements
}

func (s *Shop) postCustomer(r *http.Request) (int, any, error) {
	c, as, err := readCustomer(r)
	if err != nil {
		return 0, nil, err
	}
	c.ID = 0 // the database makes it
	c, as, err = s.customers.create(r.Context(), c, as)
	return http.StatusCreated, toJSON(c, as), err
}

func (s *Shop) putCustomer(r *http.Request) (int, any, error) {
	id, err := number(r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	c, _, err := readCustomer(r)
	if err != nil {
		return 0, nil, err
	}
	c.ID = id
	if _, err = s.customers.rows.Update(r.Context(), c); err != nil {
		return 0, nil, err
	}
	return s.getCustomer(r)
}

func readCustomer(r *http.Request) (c Customer, as []Address, err error) {
	var j customerJSON
	if err := decode(r, &j); err != nil {
		return c, nil, err
	}
	for i := range j.Addresses {
		j.Addresses[i].ID, j.Addresses[i].Privacy = 0, ""
	}
	c, err = j.customer()
	return c, j.Addresses, err
}

// deleteCustomer makes the request for an erasure durable and answers 202 with the place
// to ask how far it is. From then on nobody reads the customer; a worker does the rest. It
// reads no row: one that is damaged must not be in the way.
func (s *Shop) deleteCustomer(r *http.Request) (int, any, error) {
	id, err := number(r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	keepNothing := r.URL.Query().Get("keep") == "nothing" // the tax office's time is up
	err = s.requestErasure(r.Context(), id, !keepNothing)
	if errors.Is(err, keystore.ErrUnknownSubject) {
		err = errNone // nothing was ever stored about such a customer
	}
	if err != nil {
		return 0, nil, err
	}
	e, err := s.erasure(r.Context(), id)
	return http.StatusAccepted, e, err
}

func erasureURL(customer int64) string { return fmt.Sprintf("/erasures/%d", customer) }

func (s *Shop) getErasure(r *http.Request) (int, any, error) {
	id, err := number(r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	e, err := s.erasure(r.Context(), id)
	return http.StatusOK, e, err
}

func (s *Shop) listInvoices(r *http.Request) (int, any, error) {
	id, err := number(r.URL.Query().Get("customer"))
	if err != nil {
		return 0, nil, err
	}
	rows, err := s.invoices.ofCustomer(r.Context(), id)
	return http.StatusOK, rows, err
}

func (s *Shop) postInvoice(r *http.Request) (int, any, error) {
	var i Invoice
	if err := decode(r, &i); err != nil {
		return 0, nil, err
	}
	i.Privacy = ""
	err := s.invoices.create(r.Context(), &i)
	return http.StatusCreated, i, err
}

func (s *Shop) putInvoice(r *http.Request) (int, any, error) {
	id, err := number(r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	var i Invoice
	if err := decode(r, &i); err != nil {
		return 0, nil, err
	}
	i.ID, i.Privacy = id, ""
	if err := s.invoices.update(r.Context(), &i); err != nil {
		return 0, nil, err
	}
	stored, err := s.invoices.get(r.Context(), id)
	return http.StatusOK, stored, err
}

func (s *Shop) refundInvoice(r *http.Request) (int, any, error) {
	id, err := number(r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	var refund struct {
		Cents int64 `json:"cents"`
	}
	if err := decode(r, &refund); err != nil {
		return 0, nil, err
	}
	if err := s.invoices.table.refund(r.Context(), id, refund.Cents); err != nil {
		return 0, nil, err
	}
	i, err := s.invoices.get(r.Context(), id)
	return http.StatusOK, i, err
}

func (s *Shop) reportTurnover(r *http.Request) (int, any, error) {
	sums, err := s.invoices.table.turnover(r.Context())
	return http.StatusOK, sums, err
}

func number(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 {
		return 0, badRequest("an id is a positive number")
	}
	return n, nil
}

func decode(r *http.Request, v any) error {
	if json.NewDecoder(r.Body).Decode(v) != nil {
		return badRequest("this is not the JSON of such a row") // its error may quote a value
	}
	return nil
}
