-- What stands on personal columns and has to be there again after an undo. More of it is in
-- fights-back.sql.

CREATE ROLE oubli_reader;
CREATE ROLE oubli_owner;
CREATE SCHEMA s;
GRANT CREATE, USAGE ON SCHEMA s TO oubli_owner, oubli_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT INSERT ON TABLES TO oubli_reader;
CREATE COLLATION s.german (provider = icu, locale = 'de-DE');
CREATE DOMAIN s.mail AS varchar(80) COLLATE "C" CHECK (VALUE LIKE '%@%');
CREATE DOMAIN s.blob AS bytea CHECK (octet_length(VALUE) < 1000000);
CREATE SEQUENCE s.members;

CREATE TABLE s.person
(
    id       integer PRIMARY KEY,
    name     varchar(30) COLLATE s.german NOT NULL DEFAULT 'nobody' CHECK (length(name) > 1),
    mail     s.mail UNIQUE DEFERRABLE INITIALLY DEFERRED,
    letters  char(3) DEFAULT 'abc',
    born     date DEFAULT current_date,
    member   integer DEFAULT nextval('s.members'),
    notes    text COMPRESSION pglz,
    doc      json,
    photo    s.blob,
    raw      bytea DEFAULT '\x00',
    nick     name,
    city     text,
    CONSTRAINT born_once UNIQUE NULLS NOT DISTINCT (city, born) WITH (fillfactor = 70),
    CONSTRAINT later CHECK (born > date '1800-01-01') NOT VALID
);
ALTER SEQUENCE s.members OWNED BY s.person.member;
ALTER TABLE s.person ALTER COLUMN notes SET STORAGE EXTERNAL, ALTER COLUMN doc SET STORAGE MAIN, ALTER COLUMN name SET (n_distinct = -0.5), ALTER COLUMN born SET STATISTICS 55;
CREATE INDEX by_name ON s.person (lower(name), city) WITH (fillfactor = 80) WHERE name <> 'nobody';
ALTER INDEX s.by_name ALTER COLUMN 1 SET STATISTICS 77;
CREATE INDEX by_year ON s.person (extract(year FROM born)) INCLUDE (city);
CREATE INDEX by_born ON s.person USING brin (born);
CREATE INDEX by_letters ON s.person (letters DESC NULLS LAST);
ALTER TABLE s.person CLUSTER ON by_letters;
COMMENT ON INDEX s.by_year IS 'how old';
COMMENT ON CONSTRAINT born_once ON s.person IS 'not twice';
COMMENT ON CONSTRAINT later ON s.person IS 'not long ago';
CREATE STATISTICS s.name_city ON name, city FROM s.person;
ALTER STATISTICS s.name_city SET STATISTICS 99;
CREATE STATISTICS s.years (mcv) ON (extract(year FROM born)), city FROM s.person;
COMMENT ON STATISTICS s.years IS 'go together';
GRANT SELECT (name), UPDATE (name) ON s.person TO oubli_reader;

CREATE VIEW s.names WITH (security_barrier, check_option = cascaded) AS SELECT id, name AS "The Name", lower(name) AS low, born, raw FROM s.person WHERE name <> 'x';
ALTER VIEW s.names OWNER TO oubli_owner;
GRANT SELECT ON s.person TO oubli_owner;
GRANT SELECT ON s.names TO oubli_reader WITH GRANT OPTION;
GRANT UPDATE ("The Name", low) ON s.names TO PUBLIC;
REVOKE INSERT ON s.names FROM oubli_reader;
CREATE VIEW s.on_names AS SELECT n."The Name", p.mail, p.born AS morning FROM s.names n JOIN s.person p USING (id) ORDER BY low;
CREATE VIEW s.on_both AS SELECT * FROM s.on_names UNION ALL SELECT "The Name", NULL, born FROM s.names;
COMMENT ON VIEW s.on_both IS 'it''s both';
COMMENT ON COLUMN s.on_both.mail IS 'mail';
ALTER VIEW s.on_both ALTER COLUMN mail SET DEFAULT 'a@b';
CREATE FUNCTION s.instead() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER instead INSTEAD OF INSERT ON s.on_both FOR EACH ROW EXECUTE FUNCTION s.instead();
COMMENT ON TRIGGER instead ON s.on_both IS 'of it';
CREATE RULE away AS ON DELETE TO s.on_both DO INSTEAD NOTHING;

CREATE TABLE s.visit
(
    id    integer,
    at    date NOT NULL,
    ip    inet DEFAULT '127.0.0.1',
    agent varchar(90) DEFAULT 'none' CHECK (agent <> ''),
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE TABLE s.visit_old PARTITION OF s.visit FOR VALUES FROM ('2000-01-01') TO ('2020-01-01') PARTITION BY RANGE (id);
CREATE TABLE s.visit_old_a PARTITION OF s.visit_old FOR VALUES FROM (0) TO (1000);
CREATE TABLE s.visit_new (agent varchar(90) DEFAULT 'other', gone integer, ip inet, at date NOT NULL, id integer NOT NULL, CONSTRAINT own CHECK (agent <> 'own'));
ALTER TABLE s.visit_new DROP COLUMN gone;
CREATE INDEX named_otherwise ON s.visit_new (agent) WITH (fillfactor = 60);
COMMENT ON INDEX s.named_otherwise IS 'otherwise';
CREATE INDEX only_here ON s.visit_new (ip, agent);
ALTER TABLE s.visit_new ADD CONSTRAINT visit_agent_check CHECK (agent <> '');
ALTER TABLE s.visit_new ALTER COLUMN agent SET STORAGE MAIN;
ALTER TABLE s.visit ATTACH PARTITION s.visit_new DEFAULT;
CREATE INDEX visit_agent ON s.visit (agent);
CREATE UNIQUE INDEX visit_ip ON s.visit (at, id, ip);
ALTER TABLE s.visit ADD CONSTRAINT visit_once UNIQUE (at, agent, id);
CREATE VIEW s.visits AS SELECT agent, ip AS host FROM s.visit;
