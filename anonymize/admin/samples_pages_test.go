package admin

import (
	"fmt"
	"strings"
	"time"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

func personSample(state keystore.State, reveal bool) *personPage {
	p := &personPage{frame: around("people"), Person: someone(2, state), Reveal: reveal, May: actions{Erase: true, Restrict: true, Export: true}}
	p.URL = "person?s=customer/2"
	p.Keys = []keystore.KeyInfo{
		{ID: 0x80211, Purpose: "", Created: now.Add(-400 * 24 * time.Hour)},
		{ID: 0x10024501, Purpose: "", Created: now.Add(-3 * time.Hour), Primary: true},
		{ID: 0x71, Purpose: "tax", Created: now.Add(-400 * 24 * time.Hour), Primary: true},
	}
	p.History = []keystore.Change{
		{At: now.Add(-60 * 24 * time.Hour), Kind: keystore.ChangeExported, Actor: "officer-3"},
		{At: now.Add(-31 * 24 * time.Hour), Kind: keystore.ChangeRestricted, Actor: "officer-3"},
		{At: now.Add(-30 * 24 * time.Hour), Kind: keystore.ChangeReleased},
	}
	text := func(name, value string, personal bool) field {
		f := field{Name: name, Personal: personal, Text: value, State: fieldcrypt.StatusOpen}
		switch {
		case !personal:
			f.State = ""
		case state == keystore.StateErased:
			f.Text, f.State = "", fieldcrypt.StatusErased
		case !reveal:
			f.Text, f.State, f.Masked = "", "", true
		case state != keystore.StateActive:
			f.Text, f.State = "", fieldcrypt.StatusWithheld
		}
		return f
	}
	one := []field{text("first_name", "Leonie", true), text("last_name", "Köhler", true), text("email", "leonekohler@surfeu.de", true),
		text("address", "Theodor-Heuss-Straße 34", true), {Name: "fax", Personal: true, Null: true}, text("country", "Germany", false)}
	invoice := func(id string) []field {
		return []field{text("billing_address", "Theodor-Heuss-Straße 34", true), text("billing_city", "Stuttgart", true), text("total", id, false)}
	}
	p.Tables = []personTable{{Name: "customers", Count: 1, Rows: [][]field{one}}, {Name: "invoices", Count: 2, Rows: [][]field{invoice("1.98"), invoice("13.86")}}, {Name: "reviews"}}
	if !reveal {
		p.Tables[0].Rows, p.Tables[0].Fields = nil, one
		p.Tables[1].Rows, p.Tables[1].Fields = nil, invoice("")
	}
	return p
}

func personSamples() map[string]any {
	list := map[string]any{}
	for _, state := range []keystore.State{keystore.StateUnknown, keystore.StateActive, keystore.StateRestricted, keystore.StateErasing, keystore.StateErased} {
		for word, reveal := range map[string]bool{"masked": false, "revealed": true} {
			p := personSample(state, reveal)
			switch state {
			case keystore.StateUnknown:
				p.Keys, p.History, p.Tables, p.May, p.Refused = nil, nil, nil, actions{}, "unknown"
			case keystore.StateRestricted:
				p.Purposes, p.Person.Hold, p.May = []string{"tax", "dispute"}, "dispute 2026-118, until the court has decided", actions{Release: true, Export: true}
				p.Refused = "held"
			case keystore.StateErasing:
				p.Busy, p.Idle, p.May, p.Retry, p.Cancel = true, true, actions{}, true, true
				p.Journal = &keystore.Journal{Requested: now.Add(-20 * time.Minute), Actor: "officer-7", Receivers: []string{"newsletter", "crm", "billing"}, Acked: []string{"newsletter"}, Keep: []string{"tax"}}
				p.Trouble = &trouble{Where: "crm", Failures: 3, Next: now.Add(40 * time.Second), Hidden: !reveal}
				if reveal {
					p.Trouble.Why = "receiver of crm: POST /contacts/2: 503 Service Unavailable"
				}
			case keystore.StateErased:
				p.May, p.Refused, p.Keys, p.Dropped, p.Gone = actions{Export: true}, "erased", nil, []uint32{0x80211, 0x10024501, 0x71}, []string{"", "tax"}
				p.Person.FinalAt = now.Add(6*24*time.Hour + 22*time.Hour)
				p.Journal = &keystore.Journal{Requested: now.Add(-3 * time.Hour), Actor: "officer-7", Receivers: []string{"newsletter", "crm"}, Acked: []string{"newsletter", "crm"}, Blanking: true, Destroyed: now.Add(-2 * time.Hour)}
				p.History = append(p.History, keystore.Change{At: now.Add(-3 * time.Hour), Kind: keystore.ChangeRequested, Actor: "officer-7"}, keystore.Change{At: now.Add(-2 * time.Hour), Kind: keystore.ChangeErased})
			}
			list["person-"+state.String()+"-"+word] = p
		}
	}
	kept := personSample(keystore.StateRestricted, true)
	kept.Person.Kept, kept.Person.Final, kept.Purposes, kept.Keys, kept.May, kept.Dropped = true, true, []string{"tax"}, kept.Keys[2:], actions{Erase: true}, []uint32{0x80211}
	kept.History = nil
	for k := keystore.ChangeRequested; k <= keystore.ChangeRetried; k++ {
		kept.History = append(kept.History, keystore.Change{At: now.Add(-time.Duration(20-k) * time.Hour), Kind: k, Actor: "officer-7"})
	}
	list["person-kept"] = kept
	strange := personSample(keystore.StateErasing, true)
	strange.Person.Subject, strange.Notice, strange.Refused, strange.Busy = odd[3], "retried", "own", true
	strange.Journal = &keystore.Journal{Requested: now, Actor: odd[4], Receivers: odd, Blanking: true}
	strange.Trouble = &trouble{Why: strings.Repeat("pq: no_such_column ", 40) + "<b>", Worker: odd[3], Until: now.Add(time.Minute)}
	strange.Tables = []personTable{{Name: odd[3], Count: 12345, Rows: [][]field{{{Name: odd[0], Text: odd[3], Personal: true}, {Name: odd[5], Text: odd[4]}}}}}
	list["person-odd"] = strange
	hostile := personSample(keystore.StateActive, true)
	hostile.Person.Subject, hostile.Unreadable, hostile.Refused, hostile.Tables = odd[0], true, "protected", nil
	list["person-hostile"] = hostile
	return list
}

func confirmSample(action string, n int) *confirmPage {
	p := &confirmPage{frame: around("people"), Action: action, Batch: "0f0e0d0c0b0a09080706050403020100", Digest: "3ac9", Possible: n, One: n == 1, Columns: threeColumns,
		Asks: fmt.Sprint(n), FinalAt: now.Add(7 * 24 * time.Hour), Class: keystore.ClassBestEffort, Back: "./", After: "abc"}
	for i := range n {
		one := confirmPerson{person: someone(i+2, keystore.StateActive), Rows: 1 + 3*i}
		one.Values = valuesOf(i+1, keystore.StateActive, false)
		p.People = append(p.People, one)
	}
	if n == 1 {
		p.Asks = p.People[0].Subject
	}
	switch action {
	case "erase":
		p.Calls = []string{"newsletter", "crm", "search-index"}
		p.Tables = []confirmTable{
			{Kind: "customer", Table: "customers", Rows: n, Fields: []string{"first_name", "last_name", "email", "phone", "address"}},
			{Kind: "customer", Table: "invoices", Rows: 7 * n, Fields: []string{"billing_address", "billing_city"}},
		}
	case "release":
		for i := range p.People {
			p.People[i].State = keystore.StateRestricted
		}
		p.Asks = ""
	default:
		p.Asks = ""
	}
	return p
}

func refuse(p *confirmPage, why ...string) *confirmPage {
	for i, w := range why {
		one := confirmPerson{person: someone(100+i, keystore.StateActive), Refused: w, Rows: -1}
		switch w {
		case "held":
			one.State, one.Hold, one.Detail = keystore.StateRestricted, "dispute 2026-118", "dispute 2026-118"
		case "own":
			one.Own = true
		case "unknown":
			one.State = keystore.StateUnknown
		case "erased":
			one.State, one.Final = keystore.StateErased, true
		case "erasing":
			one.State = keystore.StateErasing
		}
		p.People = append(p.People, one)
	}
	p.One = p.One && len(why) == 0
	return p
}

func confirmSamples() map[string]any {
	keep := confirmSample("erase", 3)
	keep.Keep = []keepChoice{{"tax", true}, {"warranty", false}}
	keep.Tables[1].Kept, keep.Tables[1].Fields = []string{"billing_address", "billing_city"}, nil
	keep.Tables[1].ByPurpose = []purposeFields{{"tax", []string{"billing_address", "billing_city"}, true}}
	keep.Tables[0].ByPurpose = []purposeFields{{"", []string{"first_name", "last_name", "email", "phone"}, false}, {"warranty", []string{"address"}, false}}
	refused := refuse(confirmSample("erase", 2), "own", "protected", "held", "unknown", "erased", "erasing")
	refused.Missing, refused.Class = []string{"billing"}, keystore.ClassEffaceable
	nobody := refuse(confirmSample("erase", 0), "held")
	nobody.Tables, nobody.Calls = nil, nil
	stale := confirmSample("erase", 3)
	stale.Stale, stale.Class, stale.FinalAt, stale.Missing = true, keystore.ClassScheduled, time.Time{}, []string{"billing", "crm"}
	wrong, wrongOne := confirmSample("erase", 3), confirmSample("erase", 1)
	wrong.Wrong, wrongOne.Wrong = true, true
	wrongOne.Tables, wrongOne.Calls = nil, nil
	release := refuse(confirmSample("release", 2), "kept", "active")
	restrict := confirmSample("restrict", 2)
	restrict.Hold, restrict.Purpose = `dispute "118" <b>`, "tax, dispute"
	strange := confirmSample("erase", 1)
	strange.People[0].Subject, strange.Asks = odd[3], odd[3]
	strange.Tables[0].Fields, strange.Calls = odd, odd
	hostile := refuse(confirmSample("erase", 1), "held")
	hostile.People[0].Subject, hostile.Asks, hostile.People[1].Detail = odd[0], odd[0], odd[0]
	many := confirmSample("erase", 150)
	many.Columns = nil
	return map[string]any{
		"confirm-one": confirmSample("erase", 1), "confirm-keep": keep, "confirm-refused": refused, "confirm-nobody": nobody, "confirm-stale": stale,
		"confirm-wrong": wrong, "confirm-wrong-one": wrongOne, "confirm-restrict": restrict, "confirm-restrict-one": confirmSample("restrict", 1),
		"confirm-release": release, "confirm-release-one": confirmSample("release", 1), "confirm-odd": strange, "confirm-hostile": hostile, "confirm-many": many,
	}
}

func batchSample(steps ...string) *batchPage {
	p := &batchPage{frame: around("batches"), ID: "0f0e0d0c0b0a09080706050403020100", Action: "erase", By: "officer-7", At: now.Add(-90 * time.Second)}
	p.URL = "batch?id=" + p.ID
	for i, step := range steps {
		one := batchPerson{person: someone(i+2, keystore.StateErasing), Step: step}
		switch step {
		case "done":
			one.State, one.FinalAt = keystore.StateErased, now.Add(7*24*time.Hour)
			p.Done++
		case "working":
			one.Calls = []call{{"newsletter", "done"}, {"crm", "working"}, {"search-index", "open"}}
			one.Cancel = true
			p.Running++
		case "waiting":
			one.Calls = []call{{"newsletter", "done"}, {"billing", "missing"}}
			one.Cancel = true
			p.Failed++
		case "failed":
			one.Calls = []call{{"newsletter", "done"}, {"crm", "failed"}, {"search-index", "open"}}
			one.Trouble = &trouble{Where: "crm", Why: "receiver of crm: POST /contacts/3: 503 Service Unavailable", Failures: 3, Next: now.Add(40 * time.Second)}
			one.Retry, one.Cancel = true, true
			p.Failed++
		case "refused":
			one.State, one.Refused, one.Hold = keystore.StateRestricted, "held", "dispute 2026-118"
			p.Failed++
		default:
			one.State = keystore.StateActive
		}
		p.Retry, p.Cancel = p.Retry || one.Retry, p.Cancel || one.Cancel
		p.People = append(p.People, one)
	}
	p.Over = p.Running == 0 && p.Failed == 0
	p.Busy = !p.Over
	return p
}

func batchSamples() map[string]any {
	running := batchSample("done", "working", "working", "waiting")
	running.Idle = true
	failed := batchSample("done", "failed", "done")
	hidden := batchSample("failed", "refused")
	hidden.People[0].Trouble.Why, hidden.People[0].Trouble.Hidden, hidden.Over, hidden.Busy, hidden.Hidden, hidden.Notice = "", true, true, false, 2, "toolate"
	hidden.Keep = []string{"tax"}
	elsewhere := batchSample("working")
	elsewhere.People[0].Trouble = &trouble{Worker: "host-2:4711", Until: now.Add(30 * time.Second)}
	over, cancelled := batchSample("done", "done", "done"), batchSample("cancelled", "cancelled", "notasked")
	cancelled.Notice, cancelled.Over, cancelled.Busy = "cancelled", true, false
	why := batchSample("refused")
	why.People[0].Refused, why.People[0].Why, why.By = "", "keystore: customer/2: the record does not authenticate", ""
	restrict, release := batchSample("done", "refused"), batchSample("done")
	restrict.Action, release.Action = "restrict", "release"
	restrict.People[0].State, release.People[0].State = keystore.StateRestricted, keystore.StateActive
	strange := batchSample("failed", "done", "working", "failed")
	for i := range strange.People {
		strange.People[i].Subject = odd[i]
	}
	strange.Action, strange.By, strange.People[0].Trouble.Where = "νέο", odd[3], odd[3]
	strange.People[0].Trouble.Why, strange.People[3].Trouble.Why = strings.Repeat("x", 900), "<script>alert(1)</script>"
	many := make([]string, 40)
	for i := range many {
		many[i] = []string{"done", "done", "working", "notasked"}[i%4]
	}
	return map[string]any{
		"batch-running": running, "batch-failed": failed, "batch-hidden": hidden, "batch-elsewhere": elsewhere, "batch-over": over, "batch-cancelled": cancelled,
		"batch-refused": why, "batch-restrict": restrict, "batch-release": release, "batch-odd": strange, "batch-many": batchSample(many...),
	}
}

func otherSamples() map[string]any {
	lines := &batchesPage{frame: around("batches"), Next: "batches?after=1", First: "batches"}
	for i := range 8 {
		lines.Batches = append(lines.Batches, batchLine{URL: "batch?id=1", Action: []string{"erase", "restrict", "release"}[i%3], By: []string{"officer-7", "", odd[i]}[i%3], At: now.Add(-time.Duration(i*i*i) * time.Hour), People: 1 + i*i*i})
	}
	roots := []keystore.RootStatus{{ID: keystore.RootID{0x11, 0x22, 0x33, 0x44}, Epoch: 118, Role: "current"}}
	well := &healthPage{frame: around("health"), Name: "keys.oubli", Grace: 7 * 24 * time.Hour,
		Place:  keystore.Place{URL: "file:/etc/oubli.root,file:/mnt/b/oubli.root", Host: "shop-1", Class: keystore.ClassBestEffort},
		Health: keystore.Health{Epoch: 118, Roots: roots}}
	ill := &healthPage{frame: around("health"), Name: "postgres://oubli@db.internal:5432/privacy?search_path=oubli", Grace: 36*time.Hour + 30*time.Minute, NotFinal: 1204,
		Place:  keystore.Place{URL: "transit+https://vault.internal/transit/oubli", Class: keystore.ClassScheduled},
		Lease:  keystore.LeaseStatus{Length: 2 * time.Second, Polled: now.Add(-75 * time.Second)},
		Oldest: now.Add(-49 * time.Hour), OldestURL: "person?s=customer/2", NextFinal: now.Add(5 * time.Hour), LastFinal: now.Add(6 * 24 * time.Hour)}
	ill.Idle = true
	ill.Health = keystore.Health{Epoch: 117, Advancing: true, Pending: 1234567, Restricted: 12, Roots: []keystore.RootStatus{
		{ID: keystore.RootID{0x11, 0x22, 0x33, 0x44}, Epoch: 118, Role: "successor"},
		{ID: keystore.RootID{0x22, 0x22, 0x33, 0x44}, Epoch: 117, Role: "current"},
		{ID: keystore.RootID{0x33, 0x22, 0x33, 0x44}, Epoch: 116, Role: "superseded", Superseded: now.Add(-80 * time.Hour), Dies: now.Add(-44 * time.Hour), Overdue: true},
		{ID: keystore.RootID{0x44, 0x22, 0x33, 0x44}, Role: "dying", Superseded: now.Add(-30 * time.Hour), Dies: now.Add(6 * time.Hour)},
	}}
	ill.Pending = []person{someone(2, keystore.StateErasing), someone(31, keystore.StateErasing)}
	ill.Problems = []problem{{"advancing", nil}, {"overdue", []any{1}}, {"away", []any{"/mnt/b/oubli.root"}}, {"moving", []any{"file:/etc/oubli.root"}}, {"unnamed", []any{2}},
		{"unadvanced", []any{3}}, {"lease", []any{now.Add(-75 * time.Second)}}, {"stuck", []any{1234567, now.Add(-49 * time.Hour)}}, {"idle", nil}}
	unsure := *well
	unsure.NotFinal, unsure.Lease, unsure.Place.Class = 1, keystore.LeaseStatus{Length: 2 * time.Second, Serves: true, Polled: now.Add(-time.Second)}, keystore.ClassEffaceable
	unsure.Grace, unsure.Problems = 0, []problem{{"overdue", []any{1}}}
	list := map[string]any{"batches": lines, "batches-none": &batchesPage{frame: around("batches")}, "health-well": well, "health-ill": ill, "health-unsure": &unsure}
	for _, text := range []string{"forbidden", "nobody", "undecided", "crossorigin", "method", "notfound", "toolarge", "toomany", "badrequest", "tables", "unavailable", "broken"} {
		list["error-"+text] = &errorPage{frame: frame{Actor: "officer-7"}, Code: 503, Text: text}
	}
	detailed := list["error-badrequest"].(*errorPage)
	detailed.Detail, detailed.Back = "the subject has no slash: write kind/id, as customer/42 "+odd[0], "./"
	return list
}
