package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/oubli/oubli/keystore"
)

type fixedViewer struct {
	actor string
	ps    []Permission
}

func (v fixedViewer) Actor() string          { return v.actor }
func (v fixedViewer) Self() keystore.Subject { return keystore.Subject{} }

func (v fixedViewer) May(_ context.Context, p Permission, subjects ...keystore.Subject) ([]bool, error) {
	return slices.Repeat([]bool{slices.Contains(v.ps, p)}, len(subjects)), nil
}

// nobody stands for pages about nobody in particular.
var nobody keystore.Subject

// identify finds out who asks, and puts their actor into the context.
func (q *request) identify() error {
	v, err := q.o.Viewer(q.r)
	if errors.Is(err, ErrNobody) {
		q.o.Logger.Warn("refused: nobody is signed in", "path", q.r.URL.Path)
		return &answer{code: http.StatusUnauthorized, text: "nobody"}
	}
	if err != nil {
		return q.undecided("who asks could not be found out", err)
	}
	actor := ""
	if v != nil {
		actor = v.Actor()
	}
	if actor == "" || len(actor) > keystore.MaxActor || !printable(actor) {
		q.o.Logger.Warn("refused: a viewer without an actor that can be recorded", "path", q.r.URL.Path)
		return &answer{code: http.StatusForbidden, text: "forbidden"}
	}
	q.viewer, q.actor = v, actor
	q.ctx = keystore.WithActor(q.r.Context(), actor)
	return nil
}

// undecided is the answer where the application could not say who asks or what they may:
// never a yes. Its error's text is its own, so only the type is logged.
func (q *request) undecided(what string, err error) error {
	q.o.Logger.Error(what, "actor", q.actor, "path", q.r.URL.Path, "type", fmt.Sprintf("%T", err))
	return &answer{code: http.StatusServiceUnavailable, text: "undecided"}
}

// may asks what the viewer may do to each of some subjects.
func (q *request) may(p Permission, subjects ...keystore.Subject) ([]bool, error) {
	if len(subjects) == 0 {
		return nil, nil
	}
	yes, err := q.viewer.May(q.ctx, p, slices.Clone(subjects)...)
	if err == nil && len(yes) != len(subjects) {
		err = fmt.Errorf("%d answers for %d subjects", len(yes), len(subjects))
	}
	if err != nil {
		return nil, q.undecided("what the viewer may do could not be found out", err)
	}
	return yes, nil
}

// must refuses everything unless the viewer has each permission on each subject.
func (q *request) must(subjects []keystore.Subject, ps ...Permission) error {
	for _, p := range ps {
		yes, err := q.may(p, subjects...)
		if err != nil {
			return err
		}
		var lacks []string
		for i, s := range subjects {
			if !yes[i] {
				lacks = append(lacks, s.String())
			}
		}
		if len(lacks) > 0 {
			q.o.Logger.Warn("refused: a permission is missing", "actor", q.actor, "permission", string(p),
				"subjects", lacks, "method", q.r.Method, "path", q.r.URL.Path)
			return &answer{code: http.StatusForbidden, text: "forbidden", detail: strings.TrimSpace(string(p) + " " + few(lacks))}
		}
	}
	return nil
}

// visible tells which of some subjects the viewer may see, and of which the values.
func (q *request) visible(subjects []keystore.Subject) (view, reveal []bool, err error) {
	if view, err = q.may(View, subjects...); err != nil {
		return nil, nil, err
	}
	reveal, err = q.may(Reveal, subjects...)
	return view, reveal, err
}

// seen returns those of some subjects whom the viewer may see.
func (q *request) seen(subjects []keystore.Subject) (list []keystore.Subject, err error) {
	view, err := q.may(View, subjects...)
	for i, yes := range view {
		if yes {
			list = append(list, subjects[i])
		}
	}
	return list, err
}

// few names the first of many.
func few(names []string) string {
	if len(names) > 5 {
		return strings.Join(names[:5], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}
