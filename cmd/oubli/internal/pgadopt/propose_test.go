package pgadopt_test

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/cmd/oubli/internal/datamap"
	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/internal/pgtest"
)

// proposed is the data map that is proposed, as it is written.
func (w *planWorld) proposed() string {
	w.t.Helper()
	proposals, err := pgadopt.Propose(context.Background(), w.pool)
	require.NoError(w.t, err)
	var b bytes.Buffer
	require.NoError(w.t, datamap.Write(&b, proposals))
	return b.String()
}

// loadChinook makes the tables of Chinook with its customers, employees and invoices.
func (w *planWorld) loadChinook() {
	w.t.Helper()
	w.exec(readTestdata(w.t, "chinook.sql"))
	ctx := context.Background()
	conn, err := w.pool.Acquire(ctx)
	require.NoError(w.t, err)
	defer conn.Release()
	for _, table := range []string{"employee", "customer", "invoice"} {
		f, err := os.Open("../demo/chinook/" + table + "s.csv")
		require.NoError(w.t, err)
		defer f.Close()
		_, err = conn.Conn().PgConn().CopyFrom(ctx, f, "COPY "+table+" FROM STDIN (FORMAT csv, HEADER)")
		require.NoError(w.t, err)
	}
}

func TestChinookIsProposedAsAPersonWould(t *testing.T) {
	w := newPlanWorld(t, pgtest.Shared(t))
	w.loadChinook()
	text := w.proposed()
	require.Equal(t, readTestdata(t, "chinook-proposed.yaml"), text)
	require.Equal(t, text, w.proposed(), "it is the same each time")

	// It can be adopted as it is proposed.
	p := w.plan(text)
	require.Empty(t, p.Blocked())
	require.EqualValues(t, 59, p.Tables[0].Rows)
	require.ElementsMatch(t, []string{"customer.company", "customer.state", "employee.state", "invoice.billing_state"}, brief(p, pgadopt.Unmapped), "what was left to decide")
}

func TestWhoseRowsAre(t *testing.T) {
	cases := []struct {
		name, sql string
		want      string // kind=column of table t, "" if none
		why       string
	}{
		{"people by name", `CREATE TABLE t_users (uid int PRIMARY KEY, email text)`, "user=uid", "by the table's name"},
		{"people by columns", `CREATE TABLE signups (no int PRIMARY KEY, email text)`, "signup=no", "by its columns"},
		{"a foreign key", `CREATE TABLE kunden (nr int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, wer int REFERENCES kunden, email text)`, "kunde=wer", "by a foreign key"},
		{"two foreign keys", `CREATE TABLE employees (id int PRIMARY KEY); CREATE TABLE customers (id int PRIMARY KEY);
			CREATE TABLE t (id int PRIMARY KEY, by_whom int REFERENCES employees, whose int REFERENCES customers, email text)`, "customer=whose", "employee=by_whom"},
		{"a foreign key that is needed comes first", `CREATE TABLE employees (id int PRIMARY KEY); CREATE TABLE customers (id int PRIMARY KEY);
			CREATE TABLE t (id int PRIMARY KEY, by_whom int REFERENCES customers, whose int NOT NULL REFERENCES employees, email text)`, "employee=whose", "customer=by_whom"},
		{"a column's name", `CREATE TABLE "Patients" (id uuid PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, "patientId" uuid, email text)`, "patient=patientId", "by the name of the column"},
		{"a column's name of another type", `CREATE TABLE patients (id uuid PRIMARY KEY); CREATE TABLE t (id int, patient_id text, email text)`, "", "No column says whose"},
		{"nothing", `CREATE TABLE t (email text)`, "", "No column says whose"},
		{"a foreign key to no people", `CREATE TABLE shops (id int PRIMARY KEY); CREATE TABLE t (id int, shop int REFERENCES shops, email text)`, "", "No column says whose"},
	}
	w := newPlanWorld(t, pgtest.Shared(t))
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w.exec("DROP SCHEMA public CASCADE; CREATE SCHEMA public", c.sql)
			proposals, err := pgadopt.Propose(context.Background(), w.pool)
			require.NoError(t, err)
			require.Len(t, proposals, 1)
			p := proposals[0]
			if c.want == "" {
				require.True(t, p.Undecided)
				require.Empty(t, p.Subject)
			} else {
				require.False(t, p.Undecided)
				require.Equal(t, c.want, p.Kind+"="+p.Subject)
			}
			require.Contains(t, strings.Join(p.Why, "\n"), c.why)
		})
	}
}

// TestWhatIsProposed is about columns.
func TestWhatIsProposed(t *testing.T) {
	w := newPlanWorld(t, pgtest.Shared(t), `
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE DOMAIN contact_mail AS text;
CREATE TABLE members (
	id int PRIMARY KEY,
	name text NOT NULL,
	geburtsdatum date NOT NULL,
	plz int,
	"Straße" text,
	code_postal text,
	"fechaNacimiento" timestamptz,
	prenom varchar(10),
	tel bigint,
	a text, b text, c text, d text,       -- by their values
	m contact_mail,
	ip inet,
	emails text[],
	notes text,
	gender mood,
	full_name text GENERATED ALWAYS AS (name || '!') STORED,
	email_count int, phone_verified boolean, login_attempts int, last_login timestamptz, address_id int, username_id int,
	country text, status text, product_name text, ort text, "sortOrder" int, created_on date, plan text, version text
);
INSERT INTO members (id, name, geburtsdatum, a, b, c, d, m, version) SELECT i, 'n', '2000-01-01', 'a' || i || '@example.org', 'DE89 3704 0044 0532 0130 00', '10.1.2.' || i, '+49 (30) 5550' || i, 'x@example.org', '1.2.3'
FROM generate_series(10, 40) i;
CREATE SCHEMA other; CREATE TABLE other.members (id int PRIMARY KEY, email text);
CREATE TEMP TABLE users (id int PRIMARY KEY, email text)`)
	text := w.proposed()
	_, text, _ = strings.Cut(text, "other_members:")
	require.Equal(t, `
    db: other.members
    subject: member=id
    personal:
      - email                                      # e-mail addresses, by name
    show: [email]
  # Each row is a person, by the table's name.
  public_members:
    db: public.members
    subject: member=id
    personal:
      - name: {replace: Erased}                    # names of people, by name
      - geburtsdatum: {type: date, blank: year}    # birth dates, by name
      - plz: {type: integer, blank: "first:2"}     # postal codes, by name
      - "Straße"                                   # addresses, by name
      - code_postal: {blank: "first:2"}            # postal codes, by name
      - fechaNacimiento: {type: "timestamp with time zone", blank: year} # birth dates, by name
      - prenom                                     # names of people, by name
      - tel: {type: bigint}                        # telephone numbers, by name
      - a                                          # e-mail addresses, by their values
      - b                                          # bank accounts, by their values
      - c                                          # IP addresses, by their values
      - d                                          # telephone numbers, by their values
      - m                                          # e-mail addresses, by their values
      - ip: {type: inet}                           # IP addresses, by name and values
      # - emails: {type: "text[]"}                 # e-mail addresses, by name
      # - notes                                    # free text, in which people write anything, by name
      # - gender: {type: public.mood}              # what is sensitive about people, by name
      - ort                                        # places, by name
`, text)
	require.Equal(t, []string{"public_members.name generated column full_name"}, brief(w.plan(w.proposed()), blocks))
}

// TestASampleIsFromAllOverATable: of a large table a few pages are read, the same each time.
func TestASampleIsFromAllOverATable(t *testing.T) {
	w := newPlanWorld(t, pgtest.Shared(t), `
CREATE TABLE events (id int PRIMARY KEY, who text, half text, pad text);
INSERT INTO events SELECT i, CASE WHEN i > 1000 THEN 'u' || i || '@example.org' ELSE '-' END, CASE WHEN random() < 0.5 THEN 'u@example.org' ELSE '-' END, repeat('x', 200)
FROM generate_series(1, 60000) i; ANALYZE events`)
	text := w.proposed()
	require.Contains(t, text, "- who ", "not only the first rows are looked at")
	for range 6 {
		require.Equal(t, text, w.proposed(), "half of a column are addresses of e-mail: another sample would say something else")
	}
}
