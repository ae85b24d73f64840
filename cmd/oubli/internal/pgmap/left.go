package pgmap

import (
	"context"
	"slices"
	"strings"

	"github.com/oubli/oubli/keystore"
)

// Left counts the rows of somebody who was erased in which plaintext stands all the same,
// by the logical names of the tables that have some: programs that know no codecs may
// have written it since. Fields of the purposes in keep do not count, nor do empty texts.
func (ts *Tables) Left(ctx context.Context, s keystore.Subject, keep []string) (map[string]int, error) {
	tables, err := ts.of(ctx, s)
	counts := map[string]int{}
	for _, t := range tables {
		var any []string
		for i, f := range t.Fields {
			if slices.Contains(keep, t.Map.Fields[i].Purpose) {
				continue
			}
			one := *t.Table
			one.Fields = []Field{f}
			value := "t." + f.Quoted
			if !f.Binary {
				value += "::pg_catalog.text"
			}
			any = append(any, "("+one.having(Plain)+") AND pg_catalog.octet_length("+value+") OPERATOR(pg_catalog.>) 0")
		}
		if any == nil {
			continue
		}
		where, args := t.ofSubject(s)
		var n int
		if err = ts.pool.QueryRow(ctx, "SELECT pg_catalog.count(*) FROM "+t.Quoted+" AS t WHERE "+where+" AND ("+strings.Join(any, " OR ")+")", args...).Scan(&n); err != nil {
			err = Fail("look for plaintext in "+t.Quoted, err)
			break
		}
		if n > 0 {
			counts[t.Map.Table] = n
		}
	}
	return counts, ts.failed("look for plaintext", s, err)
}
