-- Topics that an app has registered: whether somebody outside may listen to them, and what they need for
-- it. Every other topic is internal and needs no row.

create table topics (
    app_id      uuid        not null references apps (id) on delete cascade,
    name        text        not null check (length(name) <= 200 and name ~ '^[a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)*$'),
    is_external boolean     not null,
    -- What a listener outside needs: nothing, or a token that a script of the app made.
    auth_mode   text        not null check (auth_mode in ('public', 'token')),
    description text        not null check (length(description) <= 2000),
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    constraint topics_pkey primary key (app_id, name)
);
