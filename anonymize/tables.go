package anonymize

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// Tables are tables without Go structs, such as those of a data map, whose rows of one
// person are blanked together. Its methods must be safe for concurrent use on different
// subjects, and honour their contexts. What they fail with, or panic with, stops the
// erasure of that subject, with nothing destroyed, until a later attempt.
type Tables interface {
	// Tables tells what there is, at least one table, always the same. It is asked once.
	Tables() []TableInfo

	// Blank blanks the personal fields of all rows of s in all tables of its kind,
	// but for fields of the purposes in keep. It must do that in one transaction,
	// which is durable when Blank returns nil, and doing it again must be harmless. ctx
	// opens the subject's fields, for generalizations, until Blank returns.
	Blank(ctx context.Context, s keystore.Subject, keep []string) error

	// Count returns how many rows of s each table of its kind has, by logical name.
	Count(ctx context.Context, s keystore.Subject) (map[string]int, error)

	// Export returns the rows of s in each table of its kind, as [Table] does: read
	// with what ctx may read, and none of another subject.
	Export(ctx context.Context, s keystore.Subject) ([]TableData, error)
}

// TableInfo describes one of [Tables].
type TableInfo struct {
	Name   string // logical, unique among the tables of an Eraser
	Kind   string // of its rows' subjects
	Fields []fieldcrypt.Field
}

// RegisterTables adds tables to an Eraser beside those of [Register]. A table's name may
// be registered once.
func (e *Eraser) RegisterTables(t Tables) {
	if t == nil {
		e.mistake("the tables to register are nil")
		return
	}
	g := &group{tables: t, all: t.Tables()}
	if len(g.all) == 0 {
		e.mistake("a %T was registered without tables", t)
		return
	}
	for _, info := range g.all {
		if info.Name == "" {
			e.mistake("a table of %T has no name", t)
		}
		if err := keystore.CheckKind(info.Kind); err != nil {
			e.mistake("table %q: %v", info.Name, err)
		}
	}
	e.register(g)
}

// Tables describes the registered tables of a kind, in the order of registering; those of
// all kinds if it is empty.
func (e *Eraser) Tables(kind string) []TableInfo {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []TableInfo
	for _, r := range e.tables {
		for _, info := range r.infos() {
			if kind == "" || info.Kind == kind {
				all = append(all, info)
			}
		}
	}
	return all
}

// registered is what an Eraser has of tables: one Table, whose row type does not matter
// any more, or a group of them that are blanked together.
type registered interface {
	infos() []TableInfo
	blankAll(ctx context.Context, s keystore.Subject, keep []string) error
	counts(ctx context.Context, s keystore.Subject) (map[string]int, error)
	export(ctx context.Context, s keystore.Subject) ([]TableData, error)
}

// register adds r unless one of its names is taken.
func (e *Eraser) register(r registered) {
	taken := map[string]bool{}
	e.mu.Lock()
	for _, other := range e.tables {
		for _, info := range other.infos() {
			taken[info.Name] = true
		}
	}
	var twice []string
	for _, info := range r.infos() {
		if taken[info.Name] {
			twice = append(twice, info.Name)
		}
		taken[info.Name] = true
	}
	if twice == nil {
		e.tables = append(e.tables, r)
	}
	e.mu.Unlock()
	for _, name := range twice {
		e.mistake("table %q is registered twice", name)
	}
}

// tablesOf returns what has tables of a kind, in the order of registering.
func (e *Eraser) tablesOf(kind string) []registered {
	e.mu.Lock()
	defer e.mu.Unlock()
	var rs []registered
	for _, r := range e.tables {
		if len(ofKind(r, kind)) > 0 {
			rs = append(rs, r)
		}
	}
	return rs
}

// ofKind returns the tables of a kind in r.
func ofKind(r registered, kind string) []TableInfo {
	var infos []TableInfo
	for _, info := range r.infos() {
		if info.Kind == kind {
			infos = append(infos, info)
		}
	}
	return infos
}

// hasPurpose tells whether a table of a kind in r has a field of a purpose.
func hasPurpose(r registered, kind, purpose string) bool {
	return slices.ContainsFunc(ofKind(r, kind), func(t TableInfo) bool {
		return slices.ContainsFunc(t.Fields, func(f fieldcrypt.Field) bool { return f.Purpose == purpose })
	})
}

// group is registered Tables.
type group struct {
	tables Tables
	all    []TableInfo
}

func (g *group) infos() []TableInfo { return g.all }

func (g *group) blankAll(ctx context.Context, s keystore.Subject, keep []string) error {
	return callback("Blank", g.what(s), func() error { return g.tables.Blank(ctx, s, slices.Clone(keep)) })
}

func (g *group) counts(ctx context.Context, s keystore.Subject) (n map[string]int, err error) {
	err = callback("Count", g.what(s), func() (err error) { n, err = g.tables.Count(ctx, s); return err })
	return n, err
}

func (g *group) export(ctx context.Context, s keystore.Subject) (data []TableData, err error) {
	err = callback("Export", g.what(s), func() (err error) { data, err = g.tables.Export(ctx, s); return err })
	return data, err
}

// what names the tables of the subject's kind.
func (g *group) what(s keystore.Subject) string {
	var names []string
	for _, info := range ofKind(g, s.Kind()) {
		names = append(names, fmt.Sprintf("%q", info.Name))
	}
	if len(names) == 1 {
		return "table " + names[0]
	}
	return "tables " + strings.Join(names, ", ")
}
