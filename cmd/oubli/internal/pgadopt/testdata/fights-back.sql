-- A schema that fights back: what real databases hold that a simple adoption trips over.
-- The tables of fights-back.yaml can be adopted; those of refused.yaml cannot, and the plan
-- says of each why, and what to do. Everything stands in the schema "Shop", but for the
-- extension citext. The people are invented.

CREATE EXTENSION IF NOT EXISTS citext;
CREATE SCHEMA "Shop";
SET search_path = "Shop", public;

CREATE TYPE "Gender" AS ENUM ('female', 'male', 'diverse');
CREATE DOMAIN "Phone" AS varchar(24) CHECK (VALUE ~ '^[-+0-9 ()]*$');

-- ----------------------------------------------------------------------------------------
-- What can be adopted
-- ----------------------------------------------------------------------------------------

-- Quoted and mixed-case names; short varchars, char(n), citext, a domain, an enum, dates,
-- jsonb, bytea; NULL against empty; defaults, checks, collation, storage, statistics; a
-- unique index and an expression index on the e-mail; views on views; comments.
CREATE TABLE "Customer"
(
    "Id"         bigint GENERATED ALWAYS AS IDENTITY (START WITH 101) PRIMARY KEY,
    "FirstName"  varchar(20)  NOT NULL DEFAULT 'unknown',
    "Last Name"  varchar(20)  COLLATE "C" NOT NULL,
    "E-Mail"     varchar(60)  CONSTRAINT "E-Mail has an @" CHECK ("E-Mail" LIKE '%@%'),
    "Nick""name" text         DEFAULT '',
    login        citext       NOT NULL,
    pin          char(8),
    phone        "Phone",
    gender       "Gender",
    born         date         CHECK (born > date '1900-01-01'),
    "lastSeen"   timestamptz  DEFAULT '2020-02-02 02:02:02+00',
    profile      jsonb        NOT NULL DEFAULT '{}',
    photo        bytea,
    score        numeric(8,3),
    country      varchar(40),
    spent        numeric(10,2) NOT NULL DEFAULT 0,
    CONSTRAINT "name or nick" CHECK ("FirstName" <> '' OR "Nick""name" <> '')
);
ALTER TABLE "Customer" ALTER COLUMN profile SET STORAGE EXTERNAL;
ALTER TABLE "Customer" ALTER COLUMN "E-Mail" SET STATISTICS 17;
ALTER TABLE "Customer" ALTER COLUMN country SET STATISTICS 400;
CREATE UNIQUE INDEX "Customer E-Mail" ON "Customer" ("E-Mail");
CREATE INDEX "Customer by lower e-mail" ON "Customer" (lower("E-Mail"));
CREATE INDEX "Customer born" ON "Customer" (born) WHERE born IS NOT NULL;
CREATE INDEX "Customer by country" ON "Customer" (country);
COMMENT ON TABLE "Customer" IS 'Who buys; it''s "the" table';
COMMENT ON COLUMN "Customer"."E-Mail" IS 'where the newsletter goes';
COMMENT ON INDEX "Customer born" IS 'birthday mails';
COMMENT ON CONSTRAINT "E-Mail has an @" ON "Customer" IS 'only just';

INSERT INTO "Customer" ("FirstName", "Last Name", "E-Mail", "Nick""name", login, pin, phone, gender, born, "lastSeen", profile, photo, score, country, spent) VALUES
    ('Quendolin', 'Zwicklbauer', 'quendolin.zwicklbauer@example.org', 'Quendi', 'QuendiZ', 'AB12', '+49 30 5550101', 'female', '1971-03-04', '2024-05-06 07:08:09.123456+02', '{"hobby": "Bogenschießen", "email": "quendi.private@example.net"}', '\xdeadbeef00', 12.500, 'DE', 10.50),
    ('Ødegård', 'Brânză', 'odegard.branza@example.org', '', 'odegard', 'ÄÖ', '+47 5550102', 'male', '2004-02-29', '1999-12-31 23:59:59+00', '{"b": 1, "a": [true, null, 1.0, "Ülüfer"]}', '\x', -0.001, 'NO', 20),
    ('unknown', 'O''Hara-\Smythe"', NULL, NULL, 'ohara', NULL, NULL, NULL, NULL, NULL, '{}', NULL, NULL, 'IE', 30),
    ('', '李小龍', 'oubli1.not an envelope@example.org', 'oubli1.', 'xiaolong', '12345678', '', 'diverse', '1940-11-27', '2024-01-01 00:00:00+00', '{"note": "oubli1~x"}', '\xb1', 0, 'HK', 40.75),
    ('Twentycharactersname', E'tab\tand space ', 'a@b', E'line\nbreak', 'LOGIN5', '  7', '(0)', 'female', '1901-01-01', '2038-01-19 03:14:07+00', '{"k": "\u00e9", "phone": "+1 5550199"}', '\x6f75626c6931', 99999.999, 'CA', 50);

CREATE VIEW "Customer names" WITH (security_barrier) AS
    SELECT "Id", "FirstName" || ' ' || "Last Name" AS name, born FROM "Customer" WHERE country <> 'XX';
CREATE VIEW name_counts AS SELECT name, count(*) AS n FROM "Customer names" GROUP BY name;
COMMENT ON VIEW "Customer names" IS 'for the letters';
COMMENT ON COLUMN "Customer names".name IS 'first, then last';
ALTER VIEW "Customer names" ALTER COLUMN name SET DEFAULT 'nobody';
GRANT SELECT ON "Customer names" TO PUBLIC;
CREATE VIEW countries AS SELECT country, sum(spent) AS turnover FROM "Customer" GROUP BY country;

-- A trigger copies the e-mail into an audit table: the map accepts it by name, so the
-- envelopes are copied, too. Another trigger is switched off.
CREATE TABLE member
(
    id      uuid PRIMARY KEY,
    email   text NOT NULL,
    visits  int  NOT NULL DEFAULT 0
);
CREATE TABLE member_audit (at timestamptz NOT NULL DEFAULT clock_timestamp(), member uuid, email text);
CREATE FUNCTION copy_email() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO "Shop".member_audit (member, email) VALUES (new.id, new.email);
    RETURN NULL;
END $$;
CREATE TRIGGER copy_email AFTER INSERT OR UPDATE ON member FOR EACH ROW EXECUTE FUNCTION copy_email();
CREATE TRIGGER switched_off BEFORE UPDATE ON member FOR EACH ROW EXECUTE FUNCTION copy_email();
ALTER TABLE member DISABLE TRIGGER switched_off;
INSERT INTO member VALUES
    ('0b1d6f0c-2f4e-4a7c-9d53-000000000001', 'audited.one@example.org', 1),
    ('0b1d6f0c-2f4e-4a7c-9d53-000000000002', 'audited.two@example.org', 2);

-- Partitioned, with a partition whose columns stand in another order, and a default one.
CREATE TABLE event
(
    id        bigint NOT NULL,
    at        timestamp NOT NULL,
    customer  bigint NOT NULL,
    ip        inet,
    agent     varchar(200),
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE TABLE event_2023 PARTITION OF event FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
CREATE TABLE event_2024 (agent varchar(200), gone int, ip inet, at timestamp NOT NULL, customer bigint NOT NULL, id bigint NOT NULL);
ALTER TABLE event_2024 DROP COLUMN gone;
ALTER TABLE event ATTACH PARTITION event_2024 FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE "event Rest" PARTITION OF event DEFAULT;
CREATE INDEX event_customer ON event (customer);
CREATE INDEX event_ip ON event (ip);
INSERT INTO event VALUES
    (1, '2023-06-01 10:00:00.5', 101, '203.0.113.77', 'Mozilla/5.0 (Quendolin)'),
    (2, '2024-06-01 10:00:00', 102, '2001:db8::dead:beef', 'lynx/ødegård'),
    (3, '2024-06-02 10:00:00', 101, '203.0.113.0/24', NULL),
    (4, '1980-01-01 00:00:00', 103, NULL, '');

-- A composite key; the subject is one of its columns.
CREATE TABLE order_line
(
    customer_id  bigint NOT NULL REFERENCES "Customer",
    "line No"    int NOT NULL,
    gift_note    varchar(500),
    price        numeric(10,2) NOT NULL,
    PRIMARY KEY (customer_id, "line No")
);
INSERT INTO order_line VALUES
    (101, 1, 'Alles Gute zum Geburtstag, liebe Quendolin', 3.50),
    (101, 2, NULL, 4.25),
    (102, 1, '', 1.00);

-- No primary key, but a unique index over columns that are NOT NULL.
CREATE TABLE device (owner bigint NOT NULL, token text NOT NULL, name text, UNIQUE (owner, token));
INSERT INTO device VALUES (101, 'k1', 'Quendolins Händi'), (101, 'k2', NULL), (103, 'k1', 'brick');

-- ----------------------------------------------------------------------------------------
-- What cannot, as it stands
-- ----------------------------------------------------------------------------------------

-- No key at all.
CREATE TABLE newsletter (customer_id bigint, email text);
INSERT INTO newsletter VALUES (101, 'news.quendolin@example.org'), (101, 'news.quendolin@example.org'), (NULL, 'nobody.knows@example.org');

-- A generated column of the e-mail, a materialized view, and a rule.
CREATE TABLE contact
(
    id      bigint PRIMARY KEY,
    email   text,
    domain  text GENERATED ALWAYS AS (split_part(email, '@', 2)) STORED,
    name    varchar(30),
    phone   text
);
INSERT INTO contact (id, email, name, phone) VALUES (1, 'generated@example.org', 'Contact One', '+44 5550103'), (2, NULL, NULL, NULL);
CREATE MATERIALIZED VIEW contact_names AS SELECT id, name FROM contact;
CREATE RULE no_lost_phone AS ON UPDATE TO contact WHERE old.phone IS NOT NULL AND new.phone IS NULL DO INSTEAD NOTHING;

-- The e-mail as the key, and as what others refer to.
CREATE TABLE account (id int UNIQUE NOT NULL, email text PRIMARY KEY, backup_email text UNIQUE);
CREATE TABLE login (id int PRIMARY KEY, account int NOT NULL, email text REFERENCES account (backup_email));
INSERT INTO account VALUES (7, 'primary.key@example.org', 'referred.to@example.org');
INSERT INTO login VALUES (1, 7, 'referred.to@example.org');

-- Partitioned by what is personal.
CREATE TABLE visitor (id bigint NOT NULL, city text NOT NULL, note text) PARTITION BY LIST (city);
CREATE TABLE visitor_rest PARTITION OF visitor DEFAULT;
CREATE UNIQUE INDEX ON visitor (id, city);

-- Triggers that nobody has looked at, one of them for a column that is retyped.
CREATE TABLE patient
(
    id      bigint PRIMARY KEY,
    name    text NOT NULL,
    born    date,
    email   varchar(40)
);
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
CREATE TRIGGER watch_name BEFORE UPDATE ON patient FOR EACH ROW EXECUTE FUNCTION watch();
CREATE TRIGGER watch_born BEFORE UPDATE OF born ON patient FOR EACH ROW EXECUTE FUNCTION watch();
INSERT INTO patient VALUES (1, 'Patient One', '1950-05-05', 'patient.one@example.org'), (2, 'Patient Two', 'infinity', NULL), (3, 'Patient Three', '0044-03-15 BC', NULL);

-- Arrays, ranges, composites; an exclusion constraint; row-level security; a long index.
CREATE TYPE postal AS (street text, city text);
CREATE TABLE guest
(
    id       bigint PRIMARY KEY,
    emails   text[],
    stay     tstzrange,
    home     postal,
    room     text,
    remarks  text,
    EXCLUDE USING hash (room WITH =)
);
CREATE INDEX guest_remarks ON guest (remarks);
ALTER TABLE guest ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_room ON guest USING (room <> 'attic');
INSERT INTO guest VALUES (1, '{a@example.org}', NULL, ROW('Street', 'City'), 'blue', repeat('Gast ', 500));

-- Subjects that nobody can be: NULL, zero, empty, an address.
CREATE TABLE lead (id bigint PRIMARY KEY, person text, email text);
INSERT INTO lead VALUES (1, NULL, 'lead.one@example.org'), (2, '0', 'lead.two@example.org'), (3, '', 'lead.three@example.org'),
    (4, 'lead.four@example.org', 'lead.four@example.org'), (5, ' 5 ', 'lead.five@example.org'), (6, '6', NULL), (7, NULL, NULL);

-- Inheritance.
CREATE TABLE person (id bigint PRIMARY KEY, name text);
CREATE TABLE student (school text) INHERITS (person);

-- Not in any map, and yet personal: by name, by value, and by the keys of a document.
CREATE TABLE ticket (id bigint PRIMARY KEY, customer_id bigint REFERENCES "Customer", payload jsonb, c1 text, iban text, opened timestamptz);
INSERT INTO ticket SELECT i, 101, jsonb_build_object('customer', jsonb_build_object('email', 'ticket' || i || '@example.org', 'lastName', 'Zwicklbauer')),
    'writer' || i || '@example.org', 'DE89370400440532013000', now() FROM generate_series(1, 20) i;

ANALYZE;
RESET search_path;
