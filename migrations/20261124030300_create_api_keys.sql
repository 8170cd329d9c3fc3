-- Credentials for programs. A key does what its person may do, within its scopes and on its app.

create table api_keys (
    id           uuid        primary key,
    user_id      uuid        not null references users (id) on delete cascade,
    name         text        not null check (char_length(name) between 1 and 100),
    -- The first characters, by which a person tells keys apart; the key itself is nowhere.
    hint         text        not null,
    -- SHA-256 of the key's 256 random bits: too many to guess, so a slow hash would gain nothing.
    secret_hash  bytea       not null unique check (octet_length(secret_hash) = 32),
    scopes       text[]      not null check (
                     cardinality(scopes) > 0
                     and scopes <@ array['app:read', 'app:write', 'script:invoke', 'data:read',
                                         'data:write', 'app:admin', 'instance:admin']),
    -- The only app the key is good for; null for all of its person's.
    app_id       uuid        references apps (id) on delete cascade,
    expires_at   timestamptz,
    -- Written at most every few minutes, so that reading stays reading.
    last_used_at timestamptz,
    created_at   timestamptz not null default now()
);

create index api_keys_user_id_idx on api_keys (user_id, id);
create index api_keys_app_id_idx on api_keys (app_id) where app_id is not null;
