// Package datamap reads the data map: a YAML file that tags personal data where there
// is no Go struct.
//
//	tables:
//	  invoices:                             # the logical name, as given to NewCodec
//	    db: sales.Invoice                   # the table in the database; default: the logical name
//	    subject: customer=customer_id       # kind=column
//	    key: invoice_id                     # binds each value to its row
//	    allow_at: true                      # ids may hold an @
//	    triggers: [audit_invoice]           # triggers on it that somebody has looked at
//	    show: [billing_city, total]         # what the admin page shows of a person
//	    personal:                           # a name, or a name with options
//	      - billing_address: {purpose: tax}
//	      - billing_city: {replace: Erased}
//	      - billing_postal_code: {blank: "first:2"}
//	      - paid_on: {db: paidOn, type: date, blank: year}
//
// Names in db are those of the database's catalog, to the letter; a name that holds a dot
// stands in double quotes. A field's type is what the column was before it was adopted.
// Names in show are fields of personal, or else columns of the database; one table of each
// kind can have it.
//
// Nothing is guessed: a key that is not known, or stands twice, is a mistake. All
// mistakes of a file are reported together, each with its line.
package datamap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// maxSize is how many bytes a data map may have.
const maxSize = 1 << 20

// Map is a data map.
type Map struct {
	file   string
	tables []Table // in the order of the file
}

// Table is what a data map says about a table.
type Table struct {
	fieldcrypt.Spec
	DB       []string // in the database: schema and table, or the table alone
	Columns  []Column // of Fields, in their order
	Triggers []string // that somebody has looked at
	Show     []string // fields, or other columns, for lists of people; of one table of a kind
}

// Column is a personal column in the database.
type Column struct {
	DB   string // its name
	Type string // before it was adopted; empty: what the database says
}

// Load reads the data map in a file. Its error names every mistake.
func Load(file string) (*Map, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("data map: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("data map: %w", err)
	}
	return Parse(file, text)
}

// Parse reads a data map. file is its name for messages.
func Parse(file string, text []byte) (*Map, error) {
	p := &parser{file: file}
	m := &Map{file: file}
	if len(text) > maxSize {
		return nil, fmt.Errorf("data map %s has more than %d bytes", file, maxSize)
	}
	var doc, more yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(text))
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("data map %s is empty", file)
	case err != nil:
		return nil, fmt.Errorf("data map %s: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))
	case !errors.Is(d.Decode(&more), io.EOF):
		return nil, fmt.Errorf("data map %s holds more than one YAML document", file)
	}
	p.mapping(doc.Content[0], "the data map", keys{
		"tables": func(n *yaml.Node) {
			shown := map[string]string{}
			p.each(n, "tables", func(name, value *yaml.Node) {
				t := p.table(name, value)
				m.tables = append(m.tables, t)
				if other := shown[t.Kind]; t.Show != nil && other != "" {
					p.bad(name, "table %q: show: table %q has it for %s, and one table of a kind can", t.Table, other, t.Kind)
				} else if t.Show != nil {
					shown[t.Kind] = t.Table
				}
			})
		},
	}, "tables")
	if err := errors.Join(p.wrong...); err != nil {
		return nil, err
	}
	return m, nil
}

// Table returns what the map says about a table.
func (m *Map) Table(name string) (Table, error) {
	i := slices.IndexFunc(m.tables, func(t Table) bool { return t.Table == name })
	if i < 0 {
		return Table{}, fmt.Errorf("table %q is not in the data map %s, which has: %s", name, m.file, strings.Join(m.Names(), ", "))
	}
	return m.tables[i], nil
}

// Tables returns all tables in the order of the file.
func (m *Map) Tables() []Table { return slices.Clone(m.tables) }

// AllowAt makes all tables accept ids with an @.
func (m *Map) AllowAt() {
	for i := range m.tables {
		m.tables[i].AllowAt = true
	}
}

// File is the map's name for messages.
func (m *Map) File() string { return m.file }

// Names returns the names of the tables in the order of the file.
func (m *Map) Names() []string {
	names := make([]string, len(m.tables))
	for i, t := range m.tables {
		names[i] = t.Table
	}
	return names
}

var blanks = regexp.MustCompile(`^(null|year|first:[1-9][0-9]?)$`)

type parser struct {
	file  string
	wrong []error
}

// keys tells what a mapping may hold, and who reads each value.
type keys map[string]func(value *yaml.Node)

func (p *parser) bad(n *yaml.Node, format string, args ...any) {
	p.wrong = append(p.wrong, fmt.Errorf("%s:%d: %s", p.file, n.Line, fmt.Sprintf(format, args...)))
}

// each calls f for each pair of the mapping n, and refuses keys that stand twice.
func (p *parser) each(n *yaml.Node, what string, f func(name, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		p.bad(n, "%s: a mapping is needed, as in the documentation", what)
		return
	}
	seen := map[string]int{}
	for i := 0; i < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		if name.Kind != yaml.ScalarNode {
			p.bad(name, "%s: a name must be plain text", what)
			continue
		}
		if line, twice := seen[name.Value]; twice {
			p.bad(name, "%s: %q stands here twice, first in line %d", what, name.Value, line)
			continue
		}
		seen[name.Value] = name.Line
		f(name, value)
	}
}

// mapping reads a mapping whose keys are known; those in needed must be there.
func (p *parser) mapping(n *yaml.Node, what string, known keys, needed ...string) {
	p.each(n, what, func(name, value *yaml.Node) {
		read, ok := known[name.Value]
		if !ok {
			names := make([]string, 0, len(known))
			for k := range known {
				names = append(names, k)
			}
			slices.Sort(names)
			p.bad(name, "%s: %q is not known here; known: %s", what, name.Value, strings.Join(names, ", "))
			return
		}
		read(value)
		needed = slices.DeleteFunc(slices.Clone(needed), func(s string) bool { return s == name.Value })
	})
	if n.Kind == yaml.MappingNode && len(needed) > 0 && len(n.Content) > 0 {
		p.bad(n, "%s: missing: %s", what, strings.Join(needed, ", "))
	}
}

// text reads a scalar that is not empty.
func (p *parser) text(n *yaml.Node, what string) string {
	if n.Kind != yaml.ScalarNode || n.Value == "" || n.Tag == "!!null" && n.Value != "null" {
		p.bad(n, "%s: a text is needed", what)
		return ""
	}
	return n.Value
}

func (p *parser) table(name, value *yaml.Node) Table {
	what := fmt.Sprintf("table %q", name.Value)
	t := Table{Spec: fieldcrypt.Spec{Table: name.Value}, DB: []string{name.Value}}
	if name.Value == "" {
		p.bad(name, "a table needs a name")
	}
	p.mapping(value, what, keys{
		"db":      func(n *yaml.Node) { t.DB = p.tableName(n, what+": db") },
		"subject": func(n *yaml.Node) { t.Kind, t.SubjectColumn = p.subject(n, what) },
		"key":     func(n *yaml.Node) { t.Key = p.text(n, what+": key") },
		"allow_at": func(n *yaml.Node) {
			if err := n.Decode(&t.AllowAt); err != nil {
				p.bad(n, "%s: allow_at: true or false is needed", what)
			}
		},
		"triggers": func(n *yaml.Node) { t.Triggers = p.texts(n, what+": triggers") },
		"show":     func(n *yaml.Node) { t.Show = p.shown(n, what+": show") },
		"personal": func(n *yaml.Node) { t.Fields, t.Columns = p.personal(n, what) },
	}, "subject", "personal")
	columns := map[string]string{}
	for i, f := range t.Fields {
		column := t.Columns[i].DB
		switch other := columns[column]; {
		case f.Name == "" || column == "":
		case f.Name == t.SubjectColumn || f.Name == t.Key || column == t.SubjectColumn || column == t.Key:
			p.bad(name, "%s: %q identifies the row, so it cannot be sealed as well", what, f.Name)
		case other != "":
			p.bad(name, "%s: fields %q and %q are both column %q", what, other, f.Name, column)
		default:
			columns[column] = f.Name
		}
	}
	return t
}

// tableName reads schema.table or table. Double quotes hold a name that has a dot, and
// stand in it as two.
func (p *parser) tableName(n *yaml.Node, what string) []string {
	names, ok := splitName(p.text(n, what))
	if !ok && n.Value != "" {
		p.bad(n, "%s: a table or schema.table is needed; a name with a dot stands in double quotes", what)
	}
	return names
}

func splitName(s string) (names []string, ok bool) {
	for {
		var name string
		if strings.HasPrefix(s, `"`) {
			s = s[1:]
			for {
				part, rest, closed := strings.Cut(s, `"`)
				if !closed {
					return nil, false
				}
				name, s = name+part, rest
				if !strings.HasPrefix(s, `"`) {
					break
				}
				name, s = name+`"`, s[1:]
			}
		} else {
			end := len(s)
			if i := strings.IndexAny(s, `."`); i >= 0 {
				end = i
			}
			name, s = s[:end], s[end:]
		}
		if name == "" || len(names) == 2 {
			return nil, false
		}
		names = append(names, name)
		if s == "" {
			return names, true
		}
		if s[0] != '.' {
			return nil, false
		}
		s = s[1:]
	}
}

func (p *parser) subject(n *yaml.Node, what string) (kind, column string) {
	kind, column, ok := strings.Cut(p.text(n, what+": subject"), "=")
	if n.Value != "" && (!ok || column == "") {
		p.bad(n, "%s: subject: kind=column is needed, as customer=customer_id", what)
		return "", ""
	}
	if err := keystore.CheckKind(kind); ok && err != nil {
		p.bad(n, "%s: subject: %v", what, err)
	}
	return kind, column
}

// texts reads a list of texts.
func (p *parser) texts(n *yaml.Node, what string) (list []string) {
	if n.Kind != yaml.SequenceNode {
		p.bad(n, "%s: a list is needed", what)
		return nil
	}
	for _, item := range n.Content {
		list = append(list, p.text(item, what))
	}
	return list
}

// shown reads names of fields and columns, each once.
func (p *parser) shown(n *yaml.Node, what string) []string {
	list := p.texts(n, what)
	if n.Kind == yaml.SequenceNode && len(list) == 0 {
		p.bad(n, "%s: a name is needed, or the line can go", what)
	}
	for i, name := range list {
		if name != "" && slices.Contains(list[:i], name) {
			p.bad(n.Content[i], "%s: %q stands here twice", what, name)
		}
	}
	return list
}

func (p *parser) personal(n *yaml.Node, what string) (fields []fieldcrypt.FieldSpec, columns []Column) {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		p.bad(n, "%s: personal: a list of fields is needed", what)
		return nil, nil
	}
	lines := map[string]int{}
	for _, item := range n.Content {
		f, c := fieldcrypt.FieldSpec{}, Column{}
		if item.Kind == yaml.MappingNode && len(item.Content) == 2 {
			f.Name = p.text(item.Content[0], what+": personal")
			p.options(item.Content[1], fmt.Sprintf("%s: field %q", what, f.Name), &f, &c)
		} else if f.Name = p.text(item, what+": personal: a field"); f.Name == "" {
			continue
		}
		if line, twice := lines[f.Name]; twice {
			p.bad(item, "%s: field %q stands here twice, first in line %d", what, f.Name, line)
			continue
		}
		lines[f.Name] = item.Line
		if c.DB == "" {
			c.DB = f.Name
		}
		fields, columns = append(fields, f), append(columns, c)
	}
	return fields, columns
}

func (p *parser) options(n *yaml.Node, what string, f *fieldcrypt.FieldSpec, c *Column) {
	p.mapping(n, what, keys{
		"db":      func(n *yaml.Node) { c.DB = p.text(n, what+": db") },
		"type":    func(n *yaml.Node) { c.Type = p.text(n, what+": type") },
		"purpose": func(n *yaml.Node) { f.Purpose = p.text(n, what+": purpose") },
		"replace": func(n *yaml.Node) { f.Replace = p.text(n, what+": replace") },
		"blank": func(n *yaml.Node) {
			if f.Blank = p.text(n, what+": blank"); f.Blank != "" && !blanks.MatchString(f.Blank) {
				p.bad(n, "%s: blank: %q is not known; known: null, year, first:N", what, f.Blank)
			}
		},
	})
}
