package admin

import (
	"fmt"
	"strings"
	"time"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

var now = time.Date(2026, 11, 22, 14, 30, 0, 0, time.UTC)

// Names that a page must bear: hostile ones, very long ones, and such as write from right
// to left or stack marks.
var odd = []string{
	"customer/<script>alert(1)</script>",
	`customer/" onmouseover="alert(1)`,
	"customer/{{.Actor}}",
	"customer/" + strings.Repeat("0123456789abcdef", 15),
	"customer/" + strings.Repeat("Ⅷ", 80),
	"מבקר/\u202eעברית הפוך",
	"عميل/٤٢",
	"customer/Z̵̡̢̛̗̘a̸̢l̷̡g̶̨o̴",
	"customer/👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈",
	"kunde/ﷺ\u200bzero\u200bwidth",
}

func around(here string) frame {
	return frame{Here: here, Actor: "officer-7", URL: here}
}

func someone(i int, state keystore.State) person {
	s := fmt.Sprintf("customer/%d", i)
	return person{Subject: s, URL: "person?s=customer%2F" + fmt.Sprint(i), State: state}
}

var customers = [][3]string{
	{"Luís Gonçalves", "luisg@embraer.com.br", "Brazil"},
	{"Leonie Köhler", "leonekohler@surfeu.de", "Germany"},
	{"François Tremblay", "ftremblay@gmail.com", "Canada"},
	{"Bjørn Hansen", "bjorn.hansen@yahoo.no", "Norway"},
	{"František Wichterlová", "frantisekw@jetbrains.com", "Czech Republic"},
	{"Helena Holý", "hholy@gmail.com", "Czech Republic"},
}

var threeColumns = []Column{{"name", true}, {"email", true}, {"country", false}}

func valuesOf(i int, state keystore.State, masked bool) []Value {
	c := customers[i%len(customers)]
	list := []Value{{Text: c[0]}, {Text: c[1]}, {Text: c[2]}}
	for j := range 2 {
		switch {
		case state == keystore.StateErased:
			list[j] = Value{State: fieldcrypt.StatusErased}
		case masked:
			list[j] = Value{Masked: true}
		case state == keystore.StateErasing || state == keystore.StateRestricted:
			list[j] = Value{State: fieldcrypt.StatusWithheld}
		default:
			list[j].State = fieldcrypt.StatusOpen
		}
	}
	return list
}

var allActions = actions{Erase: true, Restrict: true, Release: true, Export: true}

// manyPeople is a page of n people in all states.
func manyPeople(n int, masked bool) *peoplePage {
	p := &peoplePage{frame: around("people"), Columns: threeColumns, May: allActions, MaxBatch: MaxPeople, Next: "./?after=abc",
		Filters: []filter{{keystore.StateUnknown, "./", true}, {keystore.StateErasing, "./?state=erasing", false},
			{keystore.StateRestricted, "./?state=restricted", false}, {keystore.StateErased, "./?state=erased", false}}}
	for i := range n {
		one := someone(i+1, keystore.StateActive)
		switch i % 12 {
		case 2:
			one.State = keystore.StateRestricted
		case 3:
			one.State, one.Hold = keystore.StateRestricted, "dispute 2026-118"
		case 5:
			one.State = keystore.StateErasing
		case 7:
			one.State, one.Final = keystore.StateErased, true
		case 8:
			one.State, one.FinalAt = keystore.StateErased, now.Add(6*24*time.Hour)
		case 9:
			one.State = keystore.StateErased
		case 10:
			one.State, one.Kept, one.FinalAt = keystore.StateRestricted, true, now.Add(50*time.Hour)
		case 11:
			one.Own = true
		}
		if i%12 != 4 {
			one.Values = valuesOf(i, one.State, masked)
		}
		p.People = append(p.People, one)
	}
	return p
}

// MaxPeople is what the samples say how many people can be acted on at once.
const MaxPeople = 1000

func peopleSamples() map[string]any {
	empty := &peoplePage{frame: around("people"), Filters: manyPeople(0, false).Filters, May: allActions, MaxBatch: MaxPeople}
	filtered := func(state keystore.State) *peoplePage {
		p := *empty
		p.State = state
		return &p
	}
	masked := manyPeople(6, true)
	masked.May, masked.Hidden, masked.First, masked.Next = actions{}, 44, "./", ""
	search := manyPeople(2, false)
	search.Query, search.Missing, search.Filters, search.First, search.Next = "customer/1, customer/2 customer/991 "+odd[0], []string{"customer/991", odd[0]}, nil, "./", ""
	found := *empty
	found.Query, found.Missing, found.First = "customer/991", []string{"customer/991"}, "./"
	hidden := *empty
	hidden.Hidden, hidden.Next = 50, "./?after=abc"
	ticked := manyPeople(14, false)
	ticked.Problem, ticked.Notice = "many", "nothing"
	ticked.People[1].Selected, ticked.People[5].Selected, ticked.People[11].Selected = true, true, true
	none := manyPeople(3, false)
	none.Problem = "none"
	strange := manyPeople(len(odd), false)
	for i, s := range odd {
		strange.People[i].Subject = s
		strange.People[i].Values = []Value{{Text: s, State: fieldcrypt.StatusOpen}, {Text: strings.Repeat("unbroken", 30)}, {Text: "<b>bold</b>"}}
	}
	strange.Missing, strange.Query, strange.Actor = odd, odd[1], odd[3]
	wide := manyPeople(12, false)
	for i := range 9 {
		wide.Columns = append(wide.Columns[:len(wide.Columns):len(wide.Columns)], Column{fmt.Sprintf("%s_%d", []string{"address", "invoice_total", "last_order"}[i%3], i), i%2 == 0})
	}
	for i := range wide.People {
		for j := range 9 {
			if wide.People[i].Values != nil {
				wide.People[i].Values = append(wide.People[i].Values, Value{Text: []string{"Av. Brigadeiro Faria Lima, 2170", "39.62", "2026-08-13"}[j%3]})
			}
		}
	}
	damaged, novalues := manyPeople(2, false), manyPeople(2, false)
	damaged.Problem, novalues.Problem, novalues.Columns = "damaged", "novalues", nil
	return map[string]any{
		"people-empty": empty, "people-50": manyPeople(50, false), "people-masked": masked, "people-search": search, "people-notfound": &found,
		"people-hidden": &hidden, "people-ticked": ticked, "people-nobody": none, "people-odd": strange, "people-wide": wide,
		"people-erasing-none": filtered(keystore.StateErasing), "people-restricted-none": filtered(keystore.StateRestricted), "people-erased-none": filtered(keystore.StateErased),
		"people-damaged": damaged, "people-novalues": novalues,
	}
}

// gallery is every page in every state that matters.
func gallery() map[string]any {
	all := map[string]any{}
	for _, samples := range []map[string]any{peopleSamples(), personSamples(), confirmSamples(), batchSamples(), otherSamples()} {
		for name, v := range samples {
			all[name] = v
		}
	}
	return all
}
