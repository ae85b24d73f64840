package admin

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/oubli/oubli/keystore"
)

var (
	lineBreak = regexp.MustCompile(`[\r\n]+`)
	separator = regexp.MustCompile(`[\s,]+`)
)

// search finds the people whose subjects a text names, exactly. An id may hold spaces,
// commas and slashes, so the text as a whole is looked for first, then each of its lines,
// then what stands between white space and commas: whoever is known wins. missing are the
// pieces that name nobody whom the viewer may see: whether others are known is not to be
// told from them.
func (q *request) search(text string) (found []keystore.Status, missing []string, err error) {
	seen := map[keystore.Subject]bool{}
	tries := 0
	var look func(piece string, cuts []*regexp.Regexp) error
	look = func(piece string, cuts []*regexp.Regexp) error {
		if piece = strings.TrimSpace(piece); piece == "" {
			return nil
		}
		if tries++; tries > keystore.MaxBatch {
			return &answer{code: http.StatusUnprocessableEntity, text: "toomany", back: link("")}
		}
		sts, err := q.named(piece)
		if err != nil {
			return err
		}
		for _, st := range sts {
			if !seen[st.Subject] {
				seen[st.Subject] = true
				found = append(found, st)
			}
		}
		if len(sts) > 0 {
			return nil
		}
		for i, cut := range cuts {
			if pieces := cut.Split(piece, -1); len(pieces) > 1 {
				for _, p := range pieces {
					if err := look(p, cuts[i+1:]); err != nil {
						return err
					}
				}
				return nil
			}
		}
		missing = append(missing, piece)
		return nil
	}
	err = look(text, []*regexp.Regexp{lineBreak, separator})
	return found, missing, err
}

// named finds whom one piece of a search names, of those whom the viewer may see: a
// subject, or else the id of one in any kind that has tables or receivers.
func (q *request) named(piece string) ([]keystore.Status, error) {
	texts := []string{piece}
	for _, kind := range q.eraser.Kinds() {
		texts = append(texts, kind+"/"+piece)
	}
	var subjects []keystore.Subject
	for _, text := range texts {
		if s, err := keystore.ParseSubject(text, keystore.AllowAt()); err == nil {
			subjects = append(subjects, s)
		}
	}
	// Whether somebody who is not to be seen is known does not even show in the time it takes.
	subjects, err := q.seen(subjects)
	if err != nil {
		return nil, err
	}
	sts, err := q.keys.Status(q.ctx, subjects...)
	if err != nil {
		return nil, err
	}
	var known []keystore.Status
	for _, st := range sts {
		if st.State == keystore.StateUnknown {
			continue
		}
		known = append(known, st)
		if st.Subject.String() == piece {
			break // written out: no id of another kind is meant
		}
	}
	return known, nil
}
