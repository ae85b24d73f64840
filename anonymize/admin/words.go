package admin

import (
	"errors"
	"fmt"
	"html"
	"html/template"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// words puts the texts of one language into pages.
type words struct {
	texts Texts
	form  func(n int) string // the plural form of a number
	group string             // between groups of three digits
}

// newWords checks texts and fills up with English what they lack.
func newWords(texts *Texts) (words, error) {
	all := English()
	if texts != nil {
		if err := texts.check(); err != nil {
			return words{}, err
		}
		maps.Copy(all, *texts)
	}
	lang, _, _ := strings.Cut(strings.ToLower(all["html.lang"]), "-")
	return words{texts: all, form: pluralOf(lang), group: all["number.group"]}, nil
}

// check finds what can't be meant: keys that no page uses, and arguments that a page does
// not give.
func (t Texts) check() error {
	english := English()
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(t)) {
		of, ok := english[key]
		if i := strings.LastIndexByte(key, '.'); !ok && slices.Contains(pluralForms, key[i+1:]) {
			of, ok = english[key[:i]+".other"]
		}
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("no page uses the text %q", key))
		case lastArg(t[key]) > lastArg(of):
			errs = append(errs, fmt.Errorf("text %q wants argument %d, and there are %d", key, lastArg(t[key]), lastArg(of)))
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("admin: texts: %w", errors.Join(errs...))
	}
	return nil
}

// get returns the text of a key; the key itself if there is none.
func (w words) get(key string) string {
	if s, ok := w.texts[key]; ok {
		return s
	}
	return key
}

// text fills arguments into a text. Strings become isolated from the writing direction
// around them, so that a name in another script disorders nothing.
func (w words) text(key string, args ...any) template.HTML {
	return fill(w.get(key), w.asHTML(args))
}

// plural is text for a number, which is also its first argument.
func (w words) plural(key string, n int, args ...any) template.HTML {
	format, ok := w.texts[key+"."+w.form(n)]
	if !ok {
		format = w.get(key + ".other")
	}
	return fill(format, append([]template.HTML{template.HTML(w.number(n))}, w.asHTML(args)...))
}

func (w words) asHTML(args []any) []template.HTML {
	list := make([]template.HTML, len(args))
	for i, a := range args {
		switch a := a.(type) {
		case template.HTML:
			list[i] = a
		case string:
			list[i] = bdi(a)
		case int:
			list[i] = template.HTML(w.number(a))
		case time.Duration:
			list[i] = w.duration(a)
		case time.Time:
			list[i] = w.time(a)
		default:
			list[i] = bdi(fmt.Sprint(a))
		}
	}
	return list
}

// An argument of a text: %s, the next one, or %[2]s, the second.
var verb = regexp.MustCompile(`%(?:\[([1-9])\])?s|%%`)

// fill puts args where a format wants them. All of it is safe in a page: the format is
// escaped, and args are HTML already.
func fill(format string, args []template.HTML) template.HTML {
	var m markup
	next := 0
	for {
		text, rest, ok := strings.Cut(format, "%")
		if m.text(text); !ok {
			return m.done()
		}
		i := next
		switch {
		case strings.HasPrefix(rest, "%"):
			m.raw("%")
			format = rest[1:]
			continue
		case strings.HasPrefix(rest, "s"):
			format = rest[1:]
		case len(rest) > 3 && rest[0] == '[' && '1' <= rest[1] && rest[1] <= '9' && rest[2:4] == "]s":
			i, format = int(rest[1]-'1'), rest[4:]
		default: // a lone percent sign
			m.raw("%")
			format = rest
			continue
		}
		if next = i + 1; i < len(args) {
			m.html(args[i])
		}
	}
}

// lastArg returns the number of the last argument that a format wants.
func lastArg(format string) (last int) {
	next := 0
	for _, m := range verb.FindAllStringSubmatch(format, -1) {
		if m[0] == "%%" {
			continue
		}
		if next++; m[1] != "" {
			next, _ = strconv.Atoi(m[1])
		}
		last = max(last, next)
	}
	return last
}

// number writes n with its digits in groups.
func (w words) number(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + html.EscapeString(w.group) + s[i:]
	}
	return s
}

// time writes a moment in UTC.
func (w words) time(at time.Time) template.HTML {
	at = at.UTC()
	return template.HTML(`<time datetime="`+at.Format(time.RFC3339)+`">`) + fill(w.get("time.utc"), []template.HTML{template.HTML(at.Format("2006-01-02 15:04"))}) + "</time>"
}

// when is time with how long ago that is, or how long until.
func (w words) when(at, now time.Time) template.HTML {
	return w.time(at) + ` <span class="hint">` + w.text("time.hint", w.relative(at, now)) + "</span>"
}

// relative writes how far at is from now, in one unit.
func (w words) relative(at, now time.Time) template.HTML {
	d := at.Sub(now)
	key := "time.in"
	if d < 0 {
		d, key = -d, "time.ago"
	}
	if d < 10*time.Second {
		return w.text("time.now")
	}
	for i := len(units) - 1; ; i-- {
		if u := units[i]; d+u.size/2 >= u.size*3/2 || i == 0 { // at least one of it, rounded
			n := int((d + u.size/2) / u.size)
			return w.text(key, w.plural(u.key, n))
		}
	}
}

var units = []struct {
	size time.Duration
	key  string
}{
	{time.Second, "unit.second"},
	{time.Minute, "unit.minute"},
	{time.Hour, "unit.hour"},
	{24 * time.Hour, "unit.day"},
	{365 * 24 * time.Hour, "unit.year"},
}

// duration writes a length of time in at most two units, exactly where two are enough.
func (w words) duration(d time.Duration) template.HTML {
	if d < time.Second {
		return w.plural(units[0].key, 0)
	}
	var parts []template.HTML
	for i := len(units) - 2; i >= 0 && len(parts) < 2; i-- { // years are no exact unit
		u := units[i]
		if n := int(d / u.size); n > 0 {
			parts = append(parts, w.plural(u.key, n))
			d -= time.Duration(n) * u.size
		} else if len(parts) > 0 {
			break
		}
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return w.text("time.and", parts[0], parts[1])
}
