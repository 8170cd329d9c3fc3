-- Values that scripts keep by key. Small rows, read one at a time by their primary key.

create table kv (
    app_id     uuid        not null references apps (id) on delete cascade,
    -- Compared byte by byte: a prefix is then a range of the index, in every locale.
    collection text        collate "C" not null check (octet_length(collection) between 1 and 128),
    key        text        collate "C" not null check (octet_length(key) between 1 and 512),
    -- JSON text as the script wrote it. Nothing looks into it, so it is not taken apart.
    value      text        not null check (octet_length(value) <= 65536),
    version    bigint      not null,
    -- From then on there is no value here; it is removed a little later.
    expires_at timestamptz,
    updated_at timestamptz not null default statement_timestamp(),
    primary key (app_id, collection, key)
);

create index kv_expiring on kv (expires_at) where expires_at is not null;

-- The version of a value that is written now: microseconds since 1970, which grow also when the
-- value was away in between, so that no version comes twice. A script's number holds 53 bits of it.
create function kv_version() returns bigint
    language sql volatile
    return (extract(epoch from clock_timestamp()) * 1000000)::bigint;
