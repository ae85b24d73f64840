package pgadopt

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/cmd/oubli/internal/datamap"
	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
)

// Plan is what adopting the tables of a data map would change, and what stands in the way.
type Plan struct {
	Tables   []TablePlan `json:"tables"`
	Findings []Finding   `json:"findings"`
}

// TablePlan is what happens to one table. Findings about it stand in the plan.
type TablePlan struct {
	Table      string       `json:"table"`    // logical name
	Relation   string       `json:"relation"` // schema and name, quoted
	Kind       string       `json:"kind"`     // of its subjects
	Phase      Phase        `json:"phase"`
	Rows       int64        `json:"rows"`         // counted; the planner's estimate where it could not be read
	Bytes      int64        `json:"bytes"`        // on disk, with partitions and TOAST, without indexes
	IndexBytes int64        `json:"index_bytes"`  // on disk
	Sealed     int64        `json:"sealed_bytes"` // about how many bytes the table has when it is sealed
	Columns    []ColumnPlan `json:"columns"`
	Seconds    Seconds      `json:"seconds"`
}

// ColumnPlan is what a personal column becomes.
type ColumnPlan struct {
	Name    string `json:"name"`    // logical
	Column  string `json:"column"`  // as the database calls it
	From    string `json:"from"`    // type
	To      string `json:"to"`      // type while it is adopted
	Rewrite bool   `json:"rewrite"` // widening it rewrites the table
	NotNull bool   `json:"not_null"`
}

// Seconds are rough. They follow from how long this plan took to read the table.
type Seconds struct {
	Read     float64 `json:"read"`     // measured
	Widen    float64 `json:"widen"`    // rewriting under an exclusive lock; 0: no rewrite
	Backfill float64 `json:"backfill"` // while the application works
	Enforce  float64 `json:"enforce"`  // rewriting under an exclusive lock
}

const (
	// backfillRate is how many rows a second a run seals, about, on two cores; BenchmarkRun
	// measures it.
	backfillRate = 8000
	// rewriteFactor is how much longer a table takes to be written anew, with its WAL and
	// its indexes, than to be read by a plan: 9.2 s to 3.4 s for a million rows of 8 columns.
	rewriteFactor = 3
	// slowest is a lower bound of what a rewrite takes, in seconds for a byte.
	slowest = 1.0 / (40 << 20)
)

// planner makes a plan. Its queries run in read-only transactions in which the search
// path is pg_catalog alone, so that no function or operator of the database's users
// stands for one of PostgreSQL's, and never take a lock stronger than ACCESS SHARE.
type planner struct {
	db      pgmap.DB
	tables  []*pgmap.Table
	records map[string]*Record
	catalog *catalog
	plan    *Plan
}

// MakePlan looks at the tables of a data map and changes nothing. It reads every mapped
// table once, for what its values would make fail. Mistakes in the map that leave a table
// or column unfound are its error, all together; all else is a finding. No value of a row
// is part of the plan.
func MakePlan(ctx context.Context, db pgmap.DB, m *datamap.Map) (*Plan, error) {
	p := &planner{db: db, plan: &Plan{Tables: []TablePlan{}, Findings: []Finding{}}}
	var err error
	if p.tables, err = pgmap.Load(ctx, db, m); err != nil {
		return nil, err
	}
	if p.records, err = Records(ctx, db); err != nil {
		return nil, err
	}
	for _, t := range p.tables {
		if r := p.records[t.Map.Table]; r != nil && r.check(t) == nil && r.stale(t) {
			delete(p.records, t.Map.Table)
			p.plan.Findings = append(p.plan.Findings, Finding{Level: Note, Table: t.Map.Table,
				What: "is as it was before its adoption, which " + t.Quoted + " still has on record: it came back from a backup, or was put back by hand",
				Do:   "oubli adopt run --only-widen begins anew; then oubli reconcile --plaintext blanks who was erased since"})
		}
	}
	err = readOnly(ctx, db, func(tx pgx.Tx) (err error) {
		if p.catalog, err = readCatalog(ctx, tx, p.tables); err != nil {
			return err
		}
		return p.planDatabase(ctx, tx)
	})
	if err != nil {
		return nil, err
	}
	for _, t := range p.tables {
		if err := p.planTable(ctx, t); err != nil {
			return nil, err
		}
	}
	p.forgotten()
	if err := p.unmapped(ctx); err != nil {
		return nil, err
	}
	return p.plan, nil
}

// Blocked returns what stands in the way.
func (p *Plan) Blocked() []Finding { return p.level(Blocks) }

// BlockedFor returns what stands in the way of one table: its own findings and those of
// the database.
func (p *Plan) BlockedFor(table string) (found []Finding) {
	for _, f := range p.Blocked() {
		if f.Table == "" || f.Table == table {
			found = append(found, f)
		}
	}
	return found
}

func (p *Plan) level(l Level) (found []Finding) {
	for _, f := range p.Findings {
		if f.Level == l {
			found = append(found, f)
		}
	}
	return found
}

// planTable adds one table and its findings.
func (p *planner) planTable(ctx context.Context, t *pgmap.Table) error {
	s := &subject{
		findings: findings{table: t.Map.Table},
		Table:    t,
		phase:    p.phase(t.Map.Table),
		columns:  of(p.catalog.Columns, t.OID, func(c column) uint32 { return c.Root }),
		indexes:  of(p.catalog.Indexes, t.OID, func(i index) uint32 { return i.Root }),
		triggers: of(p.catalog.Triggers, t.OID, func(t trigger) uint32 { return t.Root }),
	}
	p.recordFindings(s)
	tp := TablePlan{Table: t.Map.Table, Relation: t.Quoted, Kind: t.Map.Kind, Phase: s.phase, Rows: t.Rows}
	s.relations = of(p.catalog.Relations, t.OID, func(r relation) uint32 { return r.Root })
	for _, r := range s.relations {
		tp.Bytes += r.HeapBytes
		tp.IndexBytes += r.IndexBytes
	}
	p.relationFindings(s)
	tp.Columns = p.columnFindings(s)
	p.dependencyFindings(s)
	if s.readable() {
		v, err := p.readValues(ctx, s)
		if err != nil {
			return err
		}
		tp.Rows, tp.Seconds.Read = v.rows, v.took.Seconds()
		s.valueFindings(v)
	}
	if err := p.trials(ctx, s); err != nil {
		return err
	}
	s.estimate(&tp)
	p.plan.Tables = append(p.plan.Tables, tp)
	p.plan.Findings = append(p.plan.Findings, s.all...)
	return nil
}

// recordFindings are about where the adoption stands.
func (p *planner) recordFindings(s *subject) {
	r := p.records[s.Map.Table]
	if err := r.check(s.Table); err != nil {
		s.add(Blocks, "", "", "was adopted with another data map: "+err.Error(), "take that map, or undo the adoption with it")
	}
	for _, name := range slices.Sorted(maps.Keys(p.records)) {
		if name != s.Map.Table && p.records[name].Relation == s.Quoted {
			s.add(Blocks, "", "", "was adopted under the name "+name+", which is part of what its values are bound to", "call it so in the map")
		}
	}
	if s.phase == PhaseEnforced && !enforced(s.Table) {
		s.add(Changes, "", "", "was enforced, and somebody has given its columns other types since: they take plaintext", "oubli adopt run, and: oubli adopt enforce")
	}
	if s.phase == PhaseUndoing {
		s.add(Blocks, "", "", "is being undone", "finish that with: oubli adopt undo")
	}
}

func (p *planner) phase(table string) Phase {
	if r := p.records[table]; r != nil {
		return r.Phase
	}
	return PhaseNone
}

// forgotten names tables that were adopted and are not in the map any more.
func (p *planner) forgotten() {
	for _, name := range slices.Sorted(maps.Keys(p.records)) {
		if !slices.ContainsFunc(p.tables, func(t *pgmap.Table) bool { return t.Map.Table == name }) {
			p.plan.Findings = append(p.plan.Findings, Finding{Level: Note, Object: "table " + p.records[name].Relation,
				What: "was adopted as " + name + ", and is not in the map: no command reaches its values", Do: "put it back into the map"})
		}
	}
}

// subject is a table that is looked at.
type subject struct {
	findings
	*pgmap.Table
	phase     Phase
	relations []relation // the table first, then partitions and children
	columns   []column   // personal ones, in each relation
	indexes   []index
	triggers  []trigger
}

// root is the mapped table itself.
func (s *subject) root() relation { return s.relations[0] }

// readable tells whether its rows can be read.
func (s *subject) readable() bool {
	here := !slices.ContainsFunc(s.relations, func(r relation) bool { return r.Kind == "f" })
	return here && (s.Kind == 'r' || s.Kind == 'p') && s.root().Readable && s.root().Persistence != "t"
}

// field is the personal field in a column, nil if it is none.
func (s *subject) field(column string) *pgmap.Field {
	for i := range s.Fields {
		if s.Fields[i].Name == column {
			return &s.Fields[i]
		}
	}
	return nil
}

// blankIsNull tells whether an erasure leaves NULL in a field.
func (s *subject) blankIsNull(f *pgmap.Field) bool {
	for _, spec := range s.Map.Fields {
		if spec.Name == f.Logical {
			return spec.Blank == "null" || spec.Blank == "" && spec.Replace == ""
		}
	}
	return false
}

// estimate fills in sizes and times to come.
func (s *subject) estimate(tp *TablePlan) {
	var growth float64
	for _, f := range s.Fields {
		for _, c := range s.columns {
			if c.Rel == s.OID && c.Name == f.Name && s.phase == PhaseNone {
				growth += sealedSize(c.Width, f.Binary) - c.Width
			}
		}
	}
	tp.Sealed = tp.Bytes + int64(growth*float64(max(tp.Rows, 0)))
	if !s.readable() {
		return
	}
	rewrite := func(bytes int64) float64 {
		return max(rewriteFactor*tp.Seconds.Read*float64(bytes)/float64(max(tp.Bytes, 1)), slowest*float64(bytes+tp.IndexBytes))
	}
	switch s.phase {
	case PhaseNone:
		for _, c := range tp.Columns {
			if c.Rewrite {
				tp.Seconds.Widen = rewrite(tp.Bytes)
			}
		}
		fallthrough
	case PhaseWidened:
		tp.Seconds.Backfill = float64(tp.Rows) / backfillRate
		fallthrough
	case PhaseAdopted:
		tp.Seconds.Enforce = rewrite(tp.Sealed)
	}
}

// sealedSize is how many bytes the envelope of a value of n bytes has.
func sealedSize(n float64, binary bool) float64 {
	if binary {
		return n + 33
	}
	return 7 + (n+33)*4/3
}

// planSettings hold until the transaction ends.
const planSettings = `SELECT pg_catalog.set_config('transaction_read_only', 'on', true), pg_catalog.set_config('search_path', 'pg_catalog', true),
       pg_catalog.set_config('lock_timeout', '5s', true), pg_catalog.set_config('statement_timeout', '0', true), pg_catalog.set_config('row_security', 'on', true),
       pg_catalog.set_config('timezone', 'UTC', true), pg_catalog.set_config('datestyle', 'ISO, YMD', true)`

// readOnly runs f in a read-only transaction with the settings above.
func readOnly(ctx context.Context, db pgmap.DB, f func(pgx.Tx) error) error {
	tx, err := db.Begin(ctx)
	if err != nil {
		return pgmap.Fail("plan", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if _, err := tx.Exec(ctx, planSettings); err != nil {
		return pgmap.Fail("plan", err)
	}
	return f(tx)
}

// sampling bounds a statement that may be given up.
const sampling = 5 * time.Second

// try runs f in a savepoint; what fails there leaves the transaction usable.
func try(ctx context.Context, tx pgx.Tx, f func(pgx.Tx) error) error {
	sub, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	if err := f(sub); err != nil {
		if e := sub.Rollback(context.WithoutCancel(ctx)); e != nil {
			return fmt.Errorf("%w (%w)", err, e)
		}
		return err
	}
	return sub.Rollback(ctx)
}
