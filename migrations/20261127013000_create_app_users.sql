-- The accounts of apps' own users, whom the platform lets in for the app. They are nobody on the instance.

create table app_users (
    app_id        uuid        not null references apps (id) on delete cascade,
    id            uuid        not null,
    -- A name or an address, as the user wrote it.
    login         text        not null check (octet_length(login) between 1 and 254),
    -- The same without regard to case, in every alphabet: what the database itself folds depends on its locale.
    login_key     text        not null check (octet_length(login_key) between 1 and 1024),
    -- PHC string of an Argon2id hash: parameters, salt and hash in one.
    password_hash text        not null,
    roles         text[]      not null default '{}' check (cardinality(roles) <= 32),
    -- What the app keeps of its user: JSON text of an object.
    profile       text        not null default '{}' check (octet_length(profile) <= 8192),
    verified_at   timestamptz,
    -- A disabled user keeps everything, but no session of theirs is good.
    disabled_at   timestamptz,
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),
    primary key (app_id, id),
    constraint app_users_login_key unique (app_id, login_key)
);

create table app_user_sessions (
    app_id       uuid        not null,
    id           uuid        not null,
    user_id      uuid        not null,
    -- SHA-256 of the token, which itself is nowhere.
    token_hash   bytea       not null check (octet_length(token_hash) = 32),
    created_at   timestamptz not null default now(),
    -- Written at most every few minutes, so that reading stays reading.
    last_seen_at timestamptz not null default now(),
    -- The absolute end, however busy the session is.
    expires_at   timestamptz not null check (expires_at > created_at),
    primary key (app_id, id),
    unique (app_id, token_hash),
    foreign key (app_id, user_id) references app_users (app_id, id) on delete cascade
);

create index app_user_sessions_user_idx on app_user_sessions (app_id, user_id, id);
create index app_user_sessions_expires_at_idx on app_user_sessions (app_id, expires_at);

-- What proves once that somebody got a message: one of each purpose at a time.
create table app_user_tokens (
    app_id     uuid        not null,
    user_id    uuid        not null,
    purpose    text        not null check (purpose in ('verify', 'reset')),
    token_hash bytea       not null check (octet_length(token_hash) = 32),
    expires_at timestamptz not null,
    primary key (app_id, user_id, purpose),
    unique (app_id, token_hash),
    foreign key (app_id, user_id) references app_users (app_id, id) on delete cascade
);
