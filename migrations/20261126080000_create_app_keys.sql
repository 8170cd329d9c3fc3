-- Data keys: what seals an app's secrets. Each is itself sealed with the master key, which is not in
-- the database.
create table app_keys (
    app_id     uuid        not null references apps on delete cascade,
    -- Counts up with each change of the key; one that nothing is sealed with any more is removed.
    version    integer     not null check (version > 0),
    -- Tells which master key wraps it, so that a wrong one is noticed at the start.
    master_id  bytea       not null check (octet_length(master_id) = 8),
    wrapped    bytea       not null,
    created_at timestamptz not null default now(),
    primary key (app_id, version)
);
