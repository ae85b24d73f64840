package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/keystore"
)

// preview shows what anonymize would do, one JSON plan a line.
func (a *app) preview(ctx context.Context, eraser *anonymize.Eraser, subjects []keystore.Subject, o *anonymizeOptions) error {
	out := json.NewEncoder(a.out)
	refused := 0
	for _, s := range subjects {
		plan, err := eraser.PreviewWith(ctx, &anonymize.Request{Keep: o.keep, Unknown: o.unknown}, s)
		if err != nil {
			return err
		}
		if plan.Refused != "" {
			refused++
			a.say("error: %s: %s", s, plan.Refused)
		}
		if err := out.Encode(plan); err != nil {
			return err
		}
	}
	if refused > 0 {
		return fmt.Errorf("%d of %d subjects would not be erased", refused, len(subjects))
	}
	return nil
}
