create table if not exists bare_inserts (
    id         bigint      generated always as identity primary key,
    due_at     timestamptz not null default clock_timestamp(),
    payload    bytea       not null
);
truncate bare_inserts;
