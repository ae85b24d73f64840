package pgadopt

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
)

// setting of the server, as this session has it.
type setting struct{ Name, Value string }

const (
	settingQuery = `SELECT name, setting FROM pg_settings WHERE name = ANY (string_to_array($1::text, ','))`

	roleQuery = `SELECT current_user::text, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) OR pg_has_role(datdba, 'USAGE'), has_database_privilege(current_database(), 'CREATE'),
       to_regnamespace('oubli_adopt') IS NOT NULL, to_regnamespace('oubli_adopt') IS NULL OR pg_has_role((SELECT nspowner FROM pg_namespace WHERE nspname = 'oubli_adopt'), 'USAGE'),
       pg_encoding_to_char(encoding), EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_stat_statements')
FROM pg_database WHERE datname = current_database()`

	eventTriggerQuery = `SELECT quote_ident(evtname), evtevent::text FROM pg_event_trigger WHERE evtenabled IN ('O', 'A') AND evtevent <> 'login' ORDER BY 1`

	// Transactions that are old enough to make the short exclusive locks of DDL fail.
	transactionQuery = `SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start < clock_timestamp() - $1::text::interval AND backend_type = 'client backend'`

	preparedQuery = `SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()`

	standbyQuery = `SELECT (SELECT count(*) FROM pg_stat_replication), (SELECT count(*) FROM pg_replication_slots), (SELECT count(*) FROM pg_replication_slots WHERE slot_type = 'logical' AND database = current_database())`

	functionQuery = `SELECT p.oid::regprocedure::text, p.prosrc FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'oubli_adopt') AND l.lanname NOT IN ('c', 'internal') AND p.prosrc <> ''
  AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e') ORDER BY 1`
)

var settings = []string{
	"log_statement", "log_min_duration_statement", "log_min_duration_sample", "log_transaction_sample_rate", "log_min_error_statement",
	"log_parameter_max_length", "log_parameter_max_length_on_error", "auto_explain.log_min_duration", "pgaudit.log", "shared_preload_libraries",
	"default_transaction_read_only", "synchronous_standby_names", "wal_level", "archive_mode", "session_replication_role", "max_prepared_transactions",
}

// planDatabase finds out about the database as a whole.
func (p *planner) planDatabase(ctx context.Context, tx pgx.Tx) error {
	d := &findings{}
	values := map[string]string{}
	var all []setting
	if err := collect(ctx, tx, &all, settingQuery, strings.Join(settings, ",")); err != nil {
		return pgmap.Fail("plan: read the settings", err)
	}
	for _, s := range all {
		values[s.Name] = s.Value
	}
	for _, look := range []func() error{
		func() error { return d.role(ctx, tx, values) },
		func() error { d.logs(values); return nil },
		func() error { return d.activity(ctx, tx, values, "1 minute") },
		func() error { return p.functions(ctx, tx, d) },
	} {
		if err := look(); err != nil {
			return pgmap.Fail("plan: look at the database", err)
		}
	}
	d.add(Note, "", "", "statements that programs have prepared fail once with \"cached plan must not change result type\" when a column's type changes, and conditions on sealed columns find nothing",
		"let drivers prepare again (pgx does), and look for WHERE, ORDER BY, JOIN and ON CONFLICT on these columns in the programs")
	p.plan.Findings = append(p.plan.Findings, d.all...)
	return nil
}

// role is about what this user may do in this database.
func (d *findings) role(ctx context.Context, tx pgx.Tx, values map[string]string) error {
	var user, encoding string
	var super, create, made, owner, statements bool
	if err := tx.QueryRow(ctx, roleQuery).Scan(&user, &super, &create, &made, &owner, &encoding, &statements); err != nil {
		return err
	}
	if !create && !made {
		d.add(Blocks, "", "", "the user "+user+" may not create the schema oubli_adopt, which keeps how far the adoption is, and the old definitions", "GRANT CREATE ON DATABASE … TO "+user)
	}
	if !super {
		d.add(Note, "", "", "the user "+user+" is neither a superuser nor the owner of the database: enforce cannot write PostgreSQL's own statistics anew, in whose file pages keep values until they are used again", "let one of them run enforce, or afterwards: VACUUM (FULL) pg_catalog.pg_statistic")
	}
	if !owner {
		d.add(Blocks, "", "schema oubli_adopt", "belongs to another user", "run as its owner")
	}
	if values["default_transaction_read_only"] == "on" {
		d.add(Blocks, "", "default_transaction_read_only", "is on for this user, so that nothing can be written", "ALTER ROLE … SET default_transaction_read_only = off, or another user for --db")
	}
	if values["session_replication_role"] == "replica" {
		d.add(Note, "", "session_replication_role", "is replica for this user: triggers do not fire", "nothing, if that is meant")
	}
	if encoding == "SQL_ASCII" {
		d.add(Note, "", "", "has the encoding SQL_ASCII: texts that are not UTF-8 are sealed byte by byte, and leave no part of themselves for statistics", "nothing, if programs know their encoding")
	}
	if statements || strings.Contains(values["shared_preload_libraries"], "pg_stat_statements") {
		d.add(Note, "", "pg_stat_statements", "keeps the text of statements; utility statements and comments with values in them stay readable", "SELECT pg_stat_statements_reset() after enforce")
	}
	return nil
}

// logs is about what the server writes into its log. PostgreSQL logs parameters of a
// statement that it logs, and its text with the literals in it.
func (d *findings) logs(values map[string]string) {
	number := func(name string, fallback int) int {
		n, err := strconv.Atoi(values[name])
		if err != nil {
			return fallback
		}
		return n
	}
	log := func(name, when string) {
		d.add(Note, "", name+" = "+values[name], "the server log gets "+when+", with the values in them: plaintext, until the program seals, and whenever it searches or inserts without the codec",
			"ALTER SYSTEM SET log_parameter_max_length = 0 for parameters; literals in SQL are logged as long as "+name+" is set")
	}
	if s := values["log_statement"]; s == "mod" || s == "all" {
		log("log_statement", "statements")
	}
	if number("log_min_duration_statement", -1) >= 0 {
		log("log_min_duration_statement", "slow statements")
	}
	if number("log_min_duration_sample", -1) >= 0 {
		log("log_min_duration_sample", "some slow statements")
	}
	if rate := values["log_transaction_sample_rate"]; rate != "" && rate != "0" {
		log("log_transaction_sample_rate", "statements of some transactions")
	}
	if number("auto_explain.log_min_duration", -1) >= 0 {
		log("auto_explain.log_min_duration", "plans of slow statements")
	}
	if a := values["pgaudit.log"]; a != "" && a != "none" {
		log("pgaudit.log", "audited statements")
	}
	if number("log_parameter_max_length_on_error", 0) != 0 {
		d.add(Note, "", "log_parameter_max_length_on_error = "+values["log_parameter_max_length_on_error"], "the server log gets the parameters of statements that fail: a refused plaintext as well", "ALTER SYSTEM SET log_parameter_max_length_on_error = 0")
	}
	if s := values["log_min_error_statement"]; s != "fatal" && s != "panic" {
		d.add(Note, "", "log_min_error_statement = "+s, "the server log gets the text of statements that fail, and in it the literals of a plaintext that an enforced column refused; parameters are not logged",
			"let programs pass values as parameters, or: ALTER ROLE … SET log_min_error_statement = panic")
	}
}

// activity is about what goes on in the server now. A transaction is old after an interval.
func (d *findings) activity(ctx context.Context, tx pgx.Tx, values map[string]string, old string) error {
	var long, prepared, standbys, slots, logical int64
	if err := tx.QueryRow(ctx, transactionQuery, old).Scan(&long); err != nil {
		return err
	}
	if long > 0 {
		d.add(Note, "", "", fmt.Sprintf("transactions that have been open for more than %s: %d; one that has touched a table makes widening it wait, and give up", old, long), "look at them in pg_stat_activity, and end what was forgotten, before adopt run and adopt enforce")
	}
	if err := tx.QueryRow(ctx, preparedQuery).Scan(&prepared); err != nil {
		return err
	}
	if prepared > 0 {
		d.add(Note, "", "", fmt.Sprintf("prepared transactions that are open, and keep their locks: %d", prepared), "COMMIT PREPARED or ROLLBACK PREPARED what was forgotten: SELECT * FROM pg_prepared_xacts")
	}
	if err := tx.QueryRow(ctx, standbyQuery).Scan(&standbys, &slots, &logical); err != nil {
		return err
	}
	if standbys > 0 || slots > 0 {
		d.add(Note, "", "", fmt.Sprintf("standbys: %d, replication slots: %d; sealing writes every row anew, and they get it all as WAL; a slot that nobody reads keeps it, plaintext included", standbys, slots), "see that there is room for WAL, and drop slots that nobody reads")
	}
	if logical > 0 {
		d.add(Note, "", "", fmt.Sprintf("logical replication slots: %d; what decodes them sees each row's change while it is sealed", logical), "see what reads them: subscribers and change data capture get envelopes, and keep the plaintext that they have")
	}
	d.standbys(values)
	var triggers []setting
	if err := collect(ctx, tx, &triggers, eventTriggerQuery); err != nil {
		return err
	}
	for _, t := range triggers {
		d.add(Note, "", "event trigger "+t.Name, "fires ("+t.Value+") when tables are altered, and may refuse it or write it down", "look at it, or ALTER EVENT TRIGGER "+t.Name+" DISABLE meanwhile")
	}
	return nil
}

// standbys is about where else changes go.
func (d *findings) standbys(values map[string]string) {
	if values["synchronous_standby_names"] != "" {
		d.add(Note, "", "synchronous_standby_names", "is set: widening and enforcing wait until a standby has them", "nothing, as long as the standbys keep up")
	}
	if values["archive_mode"] != "off" {
		d.add(Note, "", "archive_mode", "WAL is archived: the archive and every base backup made before enforce hold plaintext", "let them expire; adopt enforce names the WAL position from which copies are clean")
	}
}

// functions names the functions whose text speaks of a mapped table and of personal
// columns: the database does not know what they depend on.
func (p *planner) functions(ctx context.Context, tx pgx.Tx, d *findings) error {
	var all []setting
	if err := collect(ctx, tx, &all, functionQuery); err != nil {
		return err
	}
	for _, f := range all {
		for _, t := range p.tables {
			if !names(f.Value, t.Name) {
				continue
			}
			s := &subject{Table: t}
			if columns := s.named(f.Value); len(columns) > 0 {
				n := Finding{Level: Note, Table: t.Map.Table, Column: list(columns), Object: "function " + f.Name, What: "its text names the table and the column", Do: "look whether it reads, compares or writes values, which are envelopes from then on"}
				if !slices.Contains(d.all, n) {
					d.all = append(d.all, n)
				}
			}
		}
	}
	return nil
}
