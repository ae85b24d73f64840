package shop

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/keystore"
)

// newEraser tells the eraser which tables hold something personal and who must know
// before it goes. Every process does so, also one that runs no worker: each request names
// all that must be told.
func (s *Shop) newEraser(o *Options) error {
	e, err := anonymize.New(s.keys, &anonymize.Options{
		Actor: "shop", Worker: o.Worker, Logger: s.log,
		Interval: 2 * time.Second, // until another process' request is noticed
	})
	if err != nil {
		return err
	}
	customers := anonymize.Register(e, s.customers.codec, s.customers.rows)
	anonymize.Register(e, s.customers.addressCodec, s.customers.addresses)
	anonymize.Register(e, s.invoices.codec, s.invoices.table)
	customers.PreAnonymize("newsletter", func(ctx context.Context, e anonymize.Erasure, c Customer) error {
		if !c.Newsletter {
			return nil
		}
		return unsubscribe(ctx, o.NewsletterURL, e.Event.String(), c.Email)
	})
	s.eraser = e
	return nil
}

// unsubscribe tells the newsletter's own system, which has copied the address, to forget
// it. As long as it fails, the erasure is tried again and nothing is destroyed. The event
// is the same each time.
func unsubscribe(ctx context.Context, url, event, email string) error {
	body, err := json.Marshal(map[string]string{"event": event, "email": email})
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	answer.Body.Close()
	if answer.StatusCode >= 300 {
		return fmt.Errorf("the newsletter answers %s", answer.Status)
	}
	return nil
}

// requestErasure makes the erasure of a customer durable. What the tax office wants stays,
// unless its time is up.
func (s *Shop) requestErasure(ctx context.Context, customer int64, keepTax bool) error {
	subject, err := keystore.NewSubject(s.customers.codec.Kind(), customer)
	if err != nil {
		return err
	}
	r := &anonymize.Request{}
	if keepTax {
		r.Keep = []string{purposeTax}
	}
	return s.eraser.RequestWith(ctx, r, subject)
}

// Erasure is how far an erasure has come.
type Erasure struct {
	Customer   int64      `json:"customer"`
	State      string     `json:"state"`       // none, waiting, pending, erased, final
	WaitingFor []string   `json:"waiting_for"` // who has not been told yet
	Kept       []string   `json:"kept"`        // the purposes for which something stays
	FinalAt    *time.Time `json:"final_at"`    // when no backup brings it back any more, at the earliest; null if it is so already, or not known
}

// erasure reads how far the erasure of a customer has come.
func (s *Shop) erasure(ctx context.Context, customer int64) (Erasure, error) {
	e := Erasure{Customer: customer, WaitingFor: []string{}, Kept: []string{}}
	subject, err := keystore.NewSubject(s.customers.codec.Kind(), customer)
	if err != nil {
		return e, err
	}
	all, err := s.keys.Status(ctx, subject)
	if err != nil {
		return e, err
	}
	st := all[0]
	switch {
	case st.State == keystore.StateErasing:
		e.State, e.Kept = "pending", st.Journal.Keep
		if waiting := st.Journal.Waiting(); len(waiting) > 0 {
			e.State, e.WaitingFor = "waiting", waiting
		}
	case st.State == keystore.StateErased || st.Kept:
		e.State = "erased"
		if st.Final {
			e.State = "final"
		}
		if st.Kept {
			e.Kept = st.Purposes
		}
		if !st.FinalAt.IsZero() {
			e.FinalAt = &st.FinalAt
		}
	default:
		e.State = "none"
	}
	return e, nil
}
