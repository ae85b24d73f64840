package fieldcrypt

import (
	"errors"
	"fmt"

	"github.com/oubli/oubli/keystore"
)

// Spec says what in a table is personal, where there is no struct: what a data map
// holds. Its names are the logical ones of a Codec's tags, so that each opens what the
// other sealed.
type Spec struct {
	Table         string // logical name
	Kind          string // kind of the subjects
	SubjectColumn string // holds the subjects' ids
	Key           string // column that binds values to the row; empty: none
	Fields        []FieldSpec
	AllowAt       bool // accept subject ids with an @
}

// FieldSpec is one personal column. See Field for the options.
type FieldSpec struct {
	Name    string // of the column, and logical name
	Purpose string
	Replace string
	Blank   string
	Binary  bool // cells hold bytes, in a Go string, and binary envelopes, as a bytea column does
}

// RowCodec seals and opens rows that are lists of cells. It is safe for concurrent use.
type RowCodec struct {
	t    *table
	spec Spec
}

// NewRowCodec checks a spec. o may be nil. The error names all mistakes and wraps
// keystore.ErrInvalid.
func NewRowCodec(keys *keystore.Store, spec Spec, o *Options) (*RowCodec, error) {
	t := newTable(keys, spec.Table, o)
	if spec.AllowAt && t.allow == nil {
		t.allow = append(t.allow, keystore.AllowAt())
	}
	t.kind, t.keyed = spec.Kind, spec.Key != ""
	var mistakes []error
	add := func(err error) {
		if err != nil {
			mistakes = append(mistakes, err)
		}
	}
	add(checkName("table name", spec.Table))
	add(keystore.CheckKind(spec.Kind))
	add(checkName("subject column", spec.SubjectColumn))
	if len(spec.Fields) == 0 {
		add(errors.New("no personal column"))
	}
	for _, f := range spec.Fields {
		if err := checkFieldSpec(f, spec); err != nil {
			add(err)
			continue
		}
		own := field{Field: Field{Name: f.Name, Purpose: f.Purpose, Replace: f.Replace, Blank: f.Blank}, binary: f.Binary}
		if err := t.add(own, true); err != nil {
			add(fmt.Errorf("column %s: %w", f.Name, err))
		}
	}
	mistakes = append(mistakes, t.adopt()...)
	if mistakes != nil {
		return nil, fmt.Errorf("%w: data map of table %q:\n%w", keystore.ErrInvalid, spec.Table, errors.Join(mistakes...))
	}
	return &RowCodec{t: t, spec: spec}, nil
}

func checkFieldSpec(f FieldSpec, spec Spec) error {
	if err := checkName("column name", f.Name); err != nil {
		return err
	}
	if f.Name == spec.SubjectColumn || f.Name == spec.Key {
		return fmt.Errorf("column %s is the subject's id or the row's key: it cannot be personal", f.Name)
	}
	if f.Purpose != "" {
		if err := checkName("purpose", f.Purpose); err != nil {
			return fmt.Errorf("column %s: %w", f.Name, err)
		}
	}
	return nil
}

// Table returns the logical name of the table.
func (c *RowCodec) Table() string { return c.t.name }

// Kind returns the kind of the rows' subjects.
func (c *RowCodec) Kind() string { return c.t.kind }

// Fields returns the personal columns.
func (c *RowCodec) Fields() []Field { return c.t.describe() }

// Plaintext tells how many values Open has read as plaintext since the codec was made,
// by column that is being adopted: see Options.Adopting. Whose cannot be shown any more,
// or not to that context, count as well.
func (c *RowCodec) Plaintext() map[string]int64 { return c.t.plaintexts() }

// Bind tells the codec the header of the rows. The error names the columns that are
// missing or stand twice, and wraps keystore.ErrInvalid.
func (c *RowCodec) Bind(columns []string) (*BoundRows, error) {
	var mistakes []error
	find := func(name string) int {
		at := -1
		for i, col := range columns {
			if col != name {
				continue
			}
			if at >= 0 {
				mistakes = append(mistakes, fmt.Errorf("column %s stands twice", name))
				break
			}
			at = i
		}
		if at < 0 {
			mistakes = append(mistakes, fmt.Errorf("column %s is missing", name))
		}
		return at
	}
	b := &BoundRows{t: c.t, subject: find(c.spec.SubjectColumn), key: -1, width: len(columns)}
	if c.spec.Key != "" {
		b.key = find(c.spec.Key)
	}
	for _, f := range c.t.fields {
		b.columns = append(b.columns, find(f.Name))
	}
	if mistakes != nil {
		return nil, fmt.Errorf("%w: table %s: %w", keystore.ErrInvalid, c.t.name, errors.Join(mistakes...))
	}
	return b, nil
}
