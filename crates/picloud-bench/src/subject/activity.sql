-- What happened in PiCloud's database. Asked for as the superuser from another database, so that
-- asking does not count. `:since` is seconds since 1970.
select
    extract(epoch from clock_timestamp()) as now,
    s.xact_commit + s.xact_rollback as transactions,
    s.sessions,
    s.tup_inserted,
    (
        select count(*)
        from pg_stat_activity a
        where a.datname = s.datname
          and a.backend_type = 'client backend'
          and a.query_start > to_timestamp(:since)
    ) as busy
from pg_stat_database s
where s.datname = 'picloud';
