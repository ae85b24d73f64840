package admin

import (
	"net/http"
	"slices"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// person answers with one person.
func (q *request) person() error {
	subjects, err := q.subjects()
	if err != nil {
		return err
	}
	if len(subjects) != 1 {
		return bad("")
	}
	s := subjects[0]
	if err := q.must(subjects, View); err != nil {
		return err
	}
	sts, err := q.keys.Status(q.ctx, s)
	if err != nil {
		return err
	}
	st := sts[0]
	may, err := q.offers(sts)
	if err != nil {
		return err
	}
	reveal, err := q.may(Reveal, s)
	if err != nil {
		return err
	}
	page := &personPage{Person: q.bare(st), Purposes: st.Purposes, Keys: st.Keys, Dropped: st.Dropped, Gone: st.Gone, History: st.History,
		Journal: st.Journal, Trouble: q.trouble(st, reveal[0]), Reveal: reveal[0], May: may}
	if why := q.refusal(actErase, st); why == "own" || why == "protected" {
		page.Refused = why
	}
	if err := q.personTables(page, s); err != nil {
		return err
	}
	if err := q.personActions(page, st); err != nil {
		return err
	}
	page.Busy = st.State == keystore.StateErasing
	page.URL = personURL(s)
	code := http.StatusOK
	if st.State == keystore.StateUnknown && !slices.ContainsFunc(page.Tables, func(t personTable) bool { return t.Count > 0 }) {
		code = http.StatusNotFound // there may be rows that nothing was sealed in yet
	}
	q.show(code, page)
	return nil
}

// personActions tells what can be done about an erasure that is under way.
func (q *request) personActions(page *personPage, st keystore.Status) error {
	if st.State != keystore.StateErasing || q.protected[st.Subject.Kind()] {
		return nil
	}
	may, err := q.may(Anonymize, st.Subject)
	if err != nil {
		return err
	}
	page.Cancel = may[0] && cancellable(st)
	page.Retry = may[0] && q.erasing(st) == stepFailed
	return nil
}

// personTables fills in the rows: opened for who may see them, else only what there is.
func (q *request) personTables(page *personPage, s keystore.Subject) error {
	if page.Reveal {
		doc, err := q.eraser.Export(q.ctx, s)
		if err == nil {
			page.Tables = opened(doc)
			return nil
		}
		switch a := answerTo(err); a.code {
		case http.StatusServiceUnavailable:
			return err
		case http.StatusNotFound:
			return nil // neither key nor row
		}
		// A row that does not open must not hide the person and what became of them.
		q.o.Logger.Error("a person's rows can't be opened", "actor", q.actor, "subject", s, "error", logged(err))
		page.Reveal, page.Unreadable = false, true
	}
	plan, err := q.eraser.Preview(q.ctx, s)
	if err != nil {
		return err
	}
	for _, t := range plan.Tables {
		page.Tables = append(page.Tables, personTable{Name: t.Table, Count: t.Rows, Fields: q.maskedFields(s.Kind(), t.Table, page.Person.State)})
	}
	return nil
}

// maskedFields are the personal fields of a table without their values.
func (q *request) maskedFields(kind, table string, state keystore.State) []field {
	all := q.eraser.Tables(kind)
	i := slices.IndexFunc(all, func(t anonymize.TableInfo) bool { return t.Name == table })
	if i < 0 {
		return nil
	}
	var fields []field
	for _, f := range all[i].Fields {
		v := masked(state)
		fields = append(fields, field{Name: f.Name, Personal: true, State: v.State, Masked: v.Masked})
	}
	return fields
}

// opened makes tables of what was read.
func opened(doc *anonymize.Document) []personTable {
	var list []personTable
	for _, t := range doc.Tables {
		pt := personTable{Name: t.Table, Count: len(t.Rows)}
		for _, row := range t.Rows {
			var fields []field
			for _, v := range row {
				f := field{Name: v.Name, Personal: v.Personal}
				f.Text, f.Null = textOf(v.Value)
				if v.Personal {
					f.State = v.State
				}
				if v.Personal && f.Null && doc.State == keystore.StateErased {
					f.State = fieldcrypt.StatusErased // where an erasure leaves NULL
				}
				if f.State == fieldcrypt.StatusWithheld {
					f.Null = false
				}
				fields = append(fields, f)
			}
			pt.Rows = append(pt.Rows, fields)
		}
		list = append(list, pt)
	}
	return list
}
