package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"mime"
	"strings"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/keystore"
)

// export answers with what is held about people, as a file.
//
// It is entered into everybody's history before the first byte of it leaves: nobody's data
// goes without that.
func (q *request) export() error {
	subjects, err := q.subjects()
	if err != nil {
		return err
	}
	format := q.form.Get("format")
	if len(subjects) == 0 {
		q.redirect(q.listURL("problem", "none"))
		return nil
	}
	if format != "json" && format != "csv" {
		return bad("")
	}
	if format == "csv" && len(subjects) > 1 { // its lines do not say whose they are
		q.redirect(q.listURL("problem", "csv"))
		return nil
	}
	if err := q.must(subjects, View, Export); err != nil {
		return err
	}
	body, err := q.documents(subjects, format)
	if err != nil {
		return err
	}
	errs, err := q.keys.Note(q.ctx, keystore.ChangeExported, subjects...)
	if err = errors.Join(append(errs, err)...); err != nil {
		return err
	}
	q.o.Logger.Info("exported", "actor", q.actor, "format", format, "subjects", texts(subjects))
	name := "export"
	if len(subjects) == 1 {
		name += "-" + fileName(subjects[0].String())
	}
	h := q.w.Header()
	h.Set("Content-Type", map[string]string{"json": "application/json", "csv": "text/csv; charset=utf-8"}[format])
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name + "." + format}))
	_, _ = q.w.Write(body) // who asked may be gone
	return nil
}

// documents reads all of it: a file that ends half way would look like all there is.
func (q *request) documents(subjects []keystore.Subject, format string) ([]byte, error) {
	var docs []*anonymize.Document
	for _, s := range subjects {
		doc, err := q.eraser.Export(q.ctx, s)
		if err != nil {
			return nil, err
		}
		docs = append(docs, doc)
	}
	var b bytes.Buffer
	switch {
	case format == "csv":
		err := docs[0].WriteCSV(&b)
		return b.Bytes(), err
	case len(docs) == 1:
		err := docs[0].WriteJSON(&b)
		return b.Bytes(), err
	}
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // it is a file for people
	enc.SetIndent("", "  ")
	err := enc.Encode(docs)
	return b.Bytes(), err
}

// fileName is what of a subject can stand in the name of a file anywhere.
func fileName(s string) string {
	s = strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, s)
	return s[:min(len(s), 60)]
}
