package datamap

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/oubli/oubli/keystore"
)

// Proposal is a table that may belong into a data map, for a person to correct.
type Proposal struct {
	Table   string   // logical name
	DB      []string // schema and table
	Kind    string   // of the subjects
	Subject string   // column of their ids
	Key     string   // column that binds values to the row; empty: none
	Why     []string // a comment, line by line
	Fields  []ProposedField
	Show    []string // logical names of fields that are decided, for lists of people

	// Undecided tables are written as a comment, such as those that do not say whose their
	// rows are.
	Undecided bool
}

// ProposedField is a column that may be personal.
type ProposedField struct {
	Name    string // logical name
	DB      string // of the column
	Type    string // in the database, if it is not text; empty otherwise
	Replace string
	Blank   string
	Why     string // a comment: one line, and never a value

	// Undecided fields are written as a comment.
	Undecided bool
}

// Write writes proposals as a data map that Parse takes as it is, with comments that say
// why. It fails with keystore.ErrInvalid if nothing is left when comments are taken away,
// for there is no empty data map.
func Write(w io.Writer, proposals []Proposal) error {
	if !slices.ContainsFunc(proposals, Proposal.decided) {
		return fmt.Errorf("%w: nothing in the database looks personal and says whose it is: write the data map by hand", keystore.ErrInvalid)
	}
	out := &writer{w: bufio.NewWriter(w)}
	out.line(0, false, `# Proposed from the schema and a sample of the values. Read every line before it is used:`)
	out.line(0, false, `# what is missing stays readable, and what looks personal may be harmless. A line behind`)
	out.line(0, false, `# a # is for you to decide: take the # away, or the line. blank: and replace: are what stays`)
	out.line(0, false, `# of an erased person. Names, key: and purposes must be those of your structs. show: is what`)
	out.line(0, false, `# the list of the admin page has, masked for those who may not see it.`)
	out.line(0, false, "tables:")
	for _, p := range proposals {
		out.table(p)
	}
	return errors.Join(out.err, out.w.Flush())
}

// decided tells whether anything of the table stands outside of comments.
func (p Proposal) decided() bool {
	return !p.Undecided && slices.ContainsFunc(p.Fields, func(f ProposedField) bool { return !f.Undecided })
}

type writer struct {
	w   *bufio.Writer
	err error
}

// line writes one line; off puts it behind a comment sign.
func (o *writer) line(depth int, off bool, text string) {
	indent := strings.Repeat("  ", depth)
	if off {
		indent = "  # " + strings.Repeat("  ", max(depth-1, 0))
	}
	if _, err := fmt.Fprintf(o.w, "%s%s\n", indent, text); err != nil && o.err == nil {
		o.err = err
	}
}

func (o *writer) table(p Proposal) {
	off := !p.decided()
	if off {
		o.line(0, false, "")
	}
	for _, why := range p.Why {
		o.line(1, false, "# "+oneLine(why))
	}
	o.line(1, off, scalar(p.Table)+":")
	o.line(2, off, "db: "+scalar(tableText(p.DB)))
	if p.Subject == "" {
		o.line(2, off, "subject: person=which_column")
	} else {
		o.line(2, off, "subject: "+scalar(p.Kind+"="+p.Subject))
	}
	if p.Key != "" {
		o.line(2, off, "key: "+scalar(p.Key))
	}
	o.line(2, off, "personal:")
	for _, f := range p.Fields {
		o.field(f, off)
	}
	if p.Show != nil {
		names := make([]string, len(p.Show))
		for i, name := range p.Show {
			names[i] = scalar(name)
		}
		o.line(2, off, "show: ["+strings.Join(names, ", ")+"]")
	}
}

func (o *writer) field(f ProposedField, off bool) {
	var options []string
	add := func(name, value string) {
		if value != "" {
			options = append(options, name+": "+scalar(value))
		}
	}
	if f.DB != f.Name {
		add("db", f.DB)
	}
	add("type", f.Type)
	add("blank", f.Blank)
	add("replace", f.Replace)
	text := "- " + scalar(f.Name)
	if options != nil {
		text += ": {" + strings.Join(options, ", ") + "}"
	}
	if f.Undecided && !off {
		text = "# " + text
	}
	if f.Why != "" {
		text = fmt.Sprintf("%-44s # %s", text, oneLine(f.Why))
	}
	o.line(3, off, text)
}

// oneLine keeps a comment from ending before its end.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

var (
	plain = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.=-]*$`)
	words = regexp.MustCompile(`^(?i:y|n|yes|no|on|off|true|false|null)$`) // what YAML takes for something else
)

// scalar writes a text so that YAML reads it again. What Go escapes YAML escapes alike.
func scalar(s string) string {
	if plain.MatchString(s) && !words.MatchString(s) {
		return s
	}
	return strconv.Quote(s)
}

// tableText is what Parse reads the names of a schema and a table from.
func tableText(names []string) string {
	parts := make([]string, len(names))
	for i, name := range names {
		if parts[i] = name; strings.ContainsAny(name, `."`) {
			parts[i] = `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
		}
	}
	return strings.Join(parts, ".")
}
