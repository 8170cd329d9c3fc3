-- People who may use the admin API, and their logins.

create table users (
    id            uuid        primary key,
    username      text        not null,
    -- PHC string of an Argon2id hash: parameters, salt and hash in one.
    password_hash text        not null,
    role          text        not null check (role in ('owner', 'admin', 'member')),
    -- A disabled person keeps what they made, but every session of theirs ends at once.
    disabled_at   timestamptz,
    created_at    timestamptz not null default now()
);

-- Nobody can pass for "Ada" by registering "ada".
create unique index users_username_key on users (lower(username));

create table sessions (
    id           uuid        primary key,
    user_id      uuid        not null references users (id) on delete cascade,
    -- SHA-256 of the token. The token itself is nowhere: who reads this table cannot log in.
    token_hash   bytea       not null unique check (octet_length(token_hash) = 32),
    created_at   timestamptz not null default now(),
    -- Written at most every few minutes, so that reading stays reading.
    last_seen_at timestamptz not null default now(),
    -- The absolute end, however busy the session is.
    expires_at   timestamptz not null check (expires_at > created_at)
);

create index sessions_user_id_idx on sessions (user_id);
create index sessions_expires_at_idx on sessions (expires_at);
