package pgadopt

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
)

// unmapped names what looks personal and is not in the map: columns of mapped tables, and
// other tables, among them those that look like copies.
func (p *planner) unmapped(ctx context.Context) error {
	tables, err := survey(ctx, p.db)
	if err != nil {
		return err
	}
	for _, t := range tables {
		if m := p.mapped(t.OID); m != nil {
			p.unmappedColumns(t, m)
		} else {
			p.unmappedTable(t)
		}
	}
	return nil
}

func (p *planner) mapped(oid uint32) *pgmap.Table {
	i := slices.IndexFunc(p.tables, func(t *pgmap.Table) bool { return t.OID == oid })
	if i < 0 {
		return nil
	}
	return p.tables[i]
}

func (p *planner) unmappedColumns(t *found, m *pgmap.Table) {
	for _, c := range t.Columns {
		in := slices.ContainsFunc(m.Fields, func(f pgmap.Field) bool { return f.Name == c.Name })
		if in || c.guess == nil || c.Name == m.Subject.Name || m.Bound != nil && c.Name == m.Bound.Name {
			continue
		}
		do := "map it, or leave it if it says nothing about anybody"
		if c.Fixed {
			do = "it cannot be sealed as part of a key or generated column: change that first, or leave it if it says nothing about anybody"
		}
		p.plan.Findings = append(p.plan.Findings, Finding{Level: Unmapped, Table: m.Map.Table, Column: c.Name, What: c.why, Do: do})
	}
}

func (p *planner) unmappedTable(t *found) {
	var columns []string
	sure := false
	for _, c := range t.Columns {
		if c.guess != nil {
			columns = append(columns, c.Name+" ("+c.why+")")
			sure = sure || !c.guess.decide || strings.HasPrefix(c.guess.name, documents)
		}
	}
	object := "table "
	if t.Kind == "m" {
		object = "materialized view "
	}
	n := Finding{Level: Unmapped, Object: object + pgx.Identifier{t.Schema, t.Name}.Sanitize(), Do: "map it, or see that what it holds is deleted when somebody is erased"}
	switch like, same := p.copied(t); {
	case like != "":
		n.What = fmt.Sprintf("looks like a copy of %s: it has its columns %s", like, list(same))
		n.Do = "drop it, or map it: an erasure does not reach it"
	case sure:
		n.What = "holds " + strings.Join(columns, "; ")
	default:
		return
	}
	p.plan.Findings = append(p.plan.Findings, n)
}

// copied finds the mapped table most of whose personal columns a table has, too.
func (p *planner) copied(t *found) (like string, same []string) {
	for _, m := range p.tables {
		var both []string
		for _, f := range m.Fields {
			if slices.ContainsFunc(t.Columns, func(c foundColumn) bool { return c.Name == f.Name }) {
				both = append(both, f.Name)
			}
		}
		if len(both) > len(same) && len(both) >= 3 && 2*len(both) > len(m.Fields) {
			like, same = m.Map.Table, both
		}
	}
	return like, same
}
