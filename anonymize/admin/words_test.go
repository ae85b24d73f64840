package admin

import (
	"html"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

// sources are the files of the package that use texts.
func sources(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, pattern := range []string{"templates/*.html", "*.go"} {
		names, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") || name == "texts.go" {
				continue
			}
			b, err := os.ReadFile(name)
			require.NoError(t, err)
			all.Write(b)
		}
	}
	return all.String()
}

// base is the key that a page names for a form of a plural.
func base(key string) string {
	for _, form := range pluralForms {
		if cut, ok := strings.CutSuffix(key, "."+form); ok {
			return cut
		}
	}
	return key
}

// Every text that a page asks for exists, and every text that exists is asked for. Some
// keys are put together: a string that ends with a dot stands for all of its family.
func TestTextsAreThoseThatAreUsed(t *testing.T) {
	texts, src := English(), sources(t)
	used := map[string]bool{}
	var prefixes []string
	for _, m := range regexp.MustCompile(`"([a-z]+(?:\.[a-z%]+)*\.?)"`).FindAllStringSubmatch(src, -1) {
		if family, ok := strings.CutSuffix(m[1], "%s"); ok {
			prefixes = append(prefixes, family)
		} else if strings.HasSuffix(m[1], ".") {
			prefixes = append(prefixes, m[1])
		}
		used[m[1]] = true
	}
	inFamily := func(key string) bool {
		return slices.ContainsFunc(prefixes, func(f string) bool { return strings.HasPrefix(key, f) && !strings.Contains(key[len(f):], ".") })
	}
	for key := range texts {
		require.True(t, used[key] || used[base(key)] || inFamily(key) || inFamily(base(key)), "no page uses %q", key)
	}
	for _, m := range regexp.MustCompile(`(?:\{\{|\()(?:t|tr) "([^"]+)"|(?:words|w)\.(?:get|text)\("([^"]+)"[,)]`).FindAllStringSubmatch(src, -1) {
		require.Contains(t, texts, m[1]+m[2])
	}
	for _, m := range regexp.MustCompile(`(?:\{\{|\()n "([^"]+)"`).FindAllStringSubmatch(src, -1) {
		require.Contains(t, texts, m[1]+".one")
		require.Contains(t, texts, m[1]+".other")
	}
	first := regexp.MustCompile(`^(` + strings.Join(slices.Sorted(families()), "|") + `)\.`)
	for _, family := range prefixes {
		if !first.MatchString(family) { // of something else
			continue
		}
		require.True(t, slices.ContainsFunc(slices.Collect(maps.Keys(texts)), func(key string) bool { return strings.HasPrefix(key, family) }), "no text begins with %q", family)
	}
}

func TestNoPageShowsAKey(t *testing.T) {
	r := newTestRenderer(t, nil)
	key := regexp.MustCompile(`^(` + strings.Join(slices.Sorted(families()), "|") + `)\.[a-z.]+$`)
	for name, v := range gallery() {
		_, texts, err := parsePage(draw(t, r, v))
		require.NoError(t, err)
		for _, text := range texts {
			require.NotRegexp(t, key, strings.TrimSpace(text), name)
		}
	}
}

// families are the first parts of the keys.
func families() func(func(string) bool) {
	all := map[string]bool{}
	for key := range English() {
		first, _, _ := strings.Cut(key, ".")
		all[first] = true
	}
	return maps.Keys(all)
}

// A made-up language wraps each text, so that a word outside of the brackets is one that
// no translation reaches. What comes from elsewhere is Greek in it.
func TestEveryWordComesFromTheTexts(t *testing.T) {
	made := English()
	for key, s := range made {
		if !strings.HasPrefix(key, "html.") && key != "number.group" {
			made[key] = "⟦" + s + "⟧"
		}
	}
	r := newTestRenderer(t, &made)
	for name, v := range gallery() {
		page := draw(t, r, greek(reflect.ValueOf(v)).Interface())
		elements, texts, err := parsePage(page)
		require.NoError(t, err)
		require.Empty(t, latin(bare(strings.Join(texts, ""))), "%s: words that no text has", name)
		for _, e := range elements {
			for _, attr := range []string{"title", "aria-label", "alt", "placeholder", "data-label", "data-some"} {
				require.Empty(t, latin(bare(e.attrs[attr])), "%s: <%s %s>", name, e.name, attr)
			}
		}
	}
}

// bare leaves out what stands in brackets.
func bare(s string) string {
	var b strings.Builder
	depth := 0
	for _, r := range s {
		switch {
		case r == '⟦':
			depth++
		case r == '⟧':
			depth--
		case depth == 0:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func latin(s string) string {
	return strings.TrimFunc(s, func(r rune) bool { return !unicode.Is(unicode.Latin, r) })
}

// Fields of views that hold keys of texts, or URLs.
var keyFields = strings.Fields("Here Notice Problem Refused Action Step Text Class Role URL Next First Back OldestURL")

// greek returns a copy of a view in which what comes from elsewhere is in Greek letters.
func greek(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		out.Set(v)
	case v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface:
		if !v.IsNil() {
			in := greek(v.Elem())
			if v.Kind() == reflect.Interface {
				out.Set(in)
			} else {
				out.Set(reflect.New(in.Type()))
				out.Elem().Set(in)
			}
		}
	case v.Kind() == reflect.Struct:
		out.Set(v)
		for i := range v.NumField() {
			f := v.Type().Field(i)
			to := out.Field(i)
			if !f.IsExported() { // an embedded frame or person
				if !f.Anonymous {
					continue
				}
				to = reflect.NewAt(f.Type, to.Addr().UnsafePointer()).Elem()
				to.Set(greek(to))
				continue
			}
			shown := []reflect.Type{reflect.TypeFor[Value](), reflect.TypeFor[field](), reflect.TypeFor[keystore.Place]()}
			if !slices.Contains(keyFields, f.Name) || slices.Contains(shown, v.Type()) && f.Name != "Class" {
				to.Set(greek(v.Field(i)))
			}
		}
	case v.Kind() == reflect.Slice:
		if !v.IsNil() {
			out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
			for i := range v.Len() {
				out.Index(i).Set(greek(v.Index(i)))
			}
		}
	case v.Kind() == reflect.String && v.Type() == reflect.TypeFor[string]():
		out.SetString(strings.Map(func(r rune) rune {
			if unicode.Is(unicode.Latin, r) {
				return 'λ'
			}
			return r
		}, v.String()))
	default:
		out.Set(v)
	}
	return out
}

func TestTextsAreChecked(t *testing.T) {
	for name, c := range map[string]struct {
		texts Texts
		want  string
	}{
		"unknown key":         {Texts{"people.titel": "Leute"}, `no page uses the text "people.titel"`},
		"too many arguments":  {Texts{"frame.actor": "%s handelt als %s"}, `text "frame.actor" wants argument 2, and there are 1`},
		"argument by number":  {Texts{"batch.asked.by": "%[3]s"}, "wants argument 3, and there are 2"},
		"a plural's argument": {Texts{"rows.few": "%s %s"}, "wants argument 2"},
		"a form of no plural": {Texts{"people.title.few": "x"}, "no page uses"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newRenderer(&c.texts, time.Now)
			require.ErrorContains(t, err, c.want)
		})
	}
	r := newTestRenderer(t, &Texts{"html.lang": "de", "people.title": "Leute <&> {{.Actor}} 100 %"})
	page := draw(t, r, manyPeople(1, false))
	require.Contains(t, page, `<html lang="de"`)
	require.Contains(t, page, "<h1>"+html.EscapeString("Leute <&> ")+"&#123;&#123;.Actor}} 100 %</h1>")
	require.Contains(t, page, "Find people", "what a translation lacks stays English")
	changed := English()
	changed["people.title"] = "changed"
	require.Equal(t, "People", English()["people.title"], "the map is the caller's own")
}

func TestTextsFillIn(t *testing.T) {
	w, err := newWords(&Texts{"batch.asked.by": "%[2]s, <%[1]s> %%", "number.group": "’"})
	require.NoError(t, err)
	require.Equal(t, "<bdi>a&amp;b</bdi>, &lt;<bdi>x</bdi>&gt; %", string(w.text("batch.asked.by", "x", "a&b")))
	require.Equal(t, " , &lt;&gt; %", " "+string(w.text("batch.asked.by")), "missing ones are left out")
	require.Equal(t, "1’234’567", w.number(1234567))
	require.Equal(t, []string{"0", "999", "1’000", "-1’000", "-100"}, []string{w.number(0), w.number(999), w.number(1000), w.number(-1000), w.number(-100)})
	require.Equal(t, "no.such.key", string(w.text("no.such.key")))
}

func TestPluralForms(t *testing.T) {
	for lang, want := range map[string]string{ // of 0 1 2 3 5 11 21 22 101 111
		"en": "other one other other other other other other other other",
		"fr": "one one other other other other other other other other",
		"ja": "other other other other other other other other other other",
		"ru": "many one few few many many one few one many",
		"hr": "other one few few other other one few one other",
		"pl": "many one few few many many many few many many",
		"cs": "other one few few other other other other other other",
		"lt": "other one few few few other one few one other",
		"lv": "zero one other other other zero one other one zero",
		"sl": "other one two few other other other other one other",
		"ro": "few one few few few few other other few few",
		"ga": "other one two few few other other other other other",
		"mt": "few one two few few many other other other many",
		"he": "other one two other other other other other other other",
		"ar": "zero one two few few many many many other many",
	} {
		var got []string
		for _, n := range []int{0, 1, 2, 3, 5, 11, 21, 22, 101, 111} {
			got = append(got, pluralOf(lang)(n))
		}
		require.Equal(t, want, strings.Join(got, " "), lang)
	}
	w, err := newWords(&Texts{"html.lang": "cs-CZ", "rows.one": "%s řádek", "rows.few": "%s řádky", "rows.other": "%s řádků"})
	require.NoError(t, err)
	require.Equal(t, []string{"1 řádek", "3 řádky", "5 řádků"}, []string{string(w.plural("rows", 1)), string(w.plural("rows", 3)), string(w.plural("rows", 5))})
}

func TestTimes(t *testing.T) {
	w, err := newWords(nil)
	require.NoError(t, err)
	at := time.Date(2026, 3, 1, 1, 30, 0, 0, time.FixedZone("east", 7200))
	require.Equal(t, `<time datetime="2026-02-28T23:30:00Z">2026-02-28 23:30 UTC</time>`, string(w.time(at)))
	for d, want := range map[time.Duration]string{
		0: "just now", 9 * time.Second: "just now", -12 * time.Second: "12 seconds ago", 40 * time.Second: "in 40 seconds", 100 * time.Second: "in 2 minutes",
		-time.Minute: "1 minute ago", -59 * time.Minute: "59 minutes ago", time.Hour: "in 1 hour", -25 * time.Hour: "1 day ago", 47 * time.Hour: "in 2 days",
		-400 * 24 * time.Hour: "1 year ago", 800 * 24 * time.Hour: "in 2 years",
	} {
		require.Equal(t, want, string(w.relative(at.Add(d), at)), d)
	}
	for d, want := range map[time.Duration]string{
		0: "0 seconds", 2 * time.Second: "2 seconds", 90 * time.Minute: "1 hour 30 minutes", 168 * time.Hour: "7 days", 36 * time.Hour: "1 day 12 hours",
		24*time.Hour + time.Second: "1 day", 400 * 24 * time.Hour: "400 days",
	} {
		require.Equal(t, want, string(w.duration(d)), d)
	}
}
