create schema if not exists {schema};
create table {schema}.oubli_version (version integer not null);
insert into {schema}.oubli_version values (0);
