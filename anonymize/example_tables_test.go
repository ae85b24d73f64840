package anonymize_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// ledger is a table without a struct: each row belongs to a person, and the remark in it
// is sealed.
type ledger struct {
	rows  *fieldcrypt.BoundRows
	cells map[int][]fieldcrypt.Cell // member_id, remark
}

func (l *ledger) Tables() []anonymize.TableInfo {
	return []anonymize.TableInfo{{Name: "ledger", Kind: "member", Fields: []fieldcrypt.Field{{Name: "remark"}}}}
}

func (l *ledger) of(s keystore.Subject) (ids []int) {
	for id, row := range l.cells { // SELECT … WHERE member_id = s.ID() FOR UPDATE
		if row[0].Text == s.ID() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (l *ledger) Blank(ctx context.Context, s keystore.Subject, keep []string) error {
	for _, id := range l.of(s) { // UPDATE …, all in one transaction
		l.cells[id][1] = fieldcrypt.Cell{Null: true}
	}
	return nil
}

func (l *ledger) Count(ctx context.Context, s keystore.Subject) (map[string]int, error) {
	return map[string]int{"ledger": len(l.of(s))}, nil
}

func (l *ledger) Export(ctx context.Context, s keystore.Subject) ([]anonymize.TableData, error) {
	data := anonymize.TableData{Table: "ledger"}
	for _, id := range l.of(s) {
		row := slices.Clone(l.cells[id])
		if _, err := l.rows.Open(ctx, [][]fieldcrypt.Cell{row}); err != nil {
			return nil, err
		}
		data.Rows = append(data.Rows, []fieldcrypt.NamedValue{
			{Name: "id", Value: strconv.Itoa(id), State: fieldcrypt.StatusOpen},
			{Name: "remark", Value: row[1].Text, Personal: true, State: fieldcrypt.StatusOpen},
		})
	}
	return []anonymize.TableData{data}, nil
}

// A tool that knows tables only by a data map blanks all of them in one transaction.
func ExampleEraser_RegisterTables() {
	ctx := context.Background()
	keys, _, _ := library()
	codec, err := fieldcrypt.NewRowCodec(keys, fieldcrypt.Spec{Table: "ledger", Kind: "member", SubjectColumn: "member_id",
		Fields: []fieldcrypt.FieldSpec{{Name: "remark"}}}, nil)
	if err != nil {
		panic(err)
	}
	rows, err := codec.Bind([]string{"member_id", "remark"})
	if err != nil {
		panic(err)
	}
	l := &ledger{rows: rows, cells: map[int][]fieldcrypt.Cell{
		1: {{Text: "7"}, {Text: "paid in cash"}},
		2: {{Text: "8"}, {Text: "moved abroad"}},
	}}
	if err := rows.Seal(ctx, [][]fieldcrypt.Cell{l.cells[1], l.cells[2]}); err != nil {
		panic(err)
	}

	eraser, err := anonymize.New(keys, nil)
	if err != nil {
		panic(err)
	}
	eraser.RegisterTables(l)
	member, err := keystore.NewSubject("member", 7)
	if err != nil {
		panic(err)
	}
	results, err := eraser.Anonymize(ctx, member)
	fmt.Println(results[0].Subject, results[0].State, err)
	fmt.Println(l.cells[1][1].Null, l.cells[2][1].Null)
	// Output:
	// member/7 erased <nil>
	// true false
}
