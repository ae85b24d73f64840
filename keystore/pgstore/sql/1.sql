-- Values are ciphertext: they do not compress. Rows are rewritten in place when a shard
-- is re-keyed, for which a tenth of every heap page is left free.
create table {schema}.records (
	rev   bigint   not null,
	page  smallint not null,
	key   bytea    not null,
	value bytea    not null,
	primary key (page, key)
) with (fillfactor = 90);
alter table {schema}.records alter column value set storage external;
comment on table {schema}.records is 'oubli keystore: every record is needed to read the data of those it names';
