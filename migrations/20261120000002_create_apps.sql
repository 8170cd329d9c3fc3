-- Apps with their scripts, versions and routes. An app is the wall between tenants: every table of
-- app data begins with app_id, and rows refer to each other only together with it, so that no row
-- of one app can ever point at a row of another.

create table apps (
    id         uuid        primary key,
    slug       text        not null constraint apps_slug_key unique
                           check (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    name       text        not null check (char_length(name) between 1 and 200),
    -- The app that answers on localhost and on bare addresses.
    is_default boolean     not null default false,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create unique index apps_one_default_idx on apps (is_default) where is_default;

-- What a worker gets to run a script: its source and its modules', named by the hash of the content.
create table bundles (
    app_id     uuid        not null references apps (id) on delete cascade,
    hash       bytea       not null check (octet_length(hash) = 32),
    kind       text        not null check (kind in ('endpoint', 'module')),
    name       text        not null,
    source     text        not null,
    -- [{name, source}] in the order in which they must be compiled.
    modules    jsonb       not null check (jsonb_typeof(modules) = 'array'),
    created_at timestamptz not null default now(),
    primary key (app_id, hash)
);

-- The pool asks by hash alone: equal hashes are equal content, whosever it is.
create index bundles_hash_idx on bundles (hash);

create table scripts (
    app_id       uuid        not null references apps (id) on delete cascade,
    id           uuid        not null constraint scripts_id_key unique,
    name         text        not null check (char_length(name) between 1 and 128),
    kind         text        not null check (kind in ('endpoint', 'module')),
    description  text        not null default '' check (char_length(description) <= 2000),
    -- The version that answers. Rollback is moving this pointer.
    live_version integer     not null check (live_version > 0),
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now(),
    primary key (app_id, id),
    constraint scripts_name_key unique (app_id, name)
);

-- Rows here are never changed: a version is what was deployed.
create table script_versions (
    app_id      uuid        not null,
    script_id   uuid        not null,
    number      integer     not null check (number > 0),
    bundle_hash bytea       not null,
    -- Every limit, resolved when deployed: a later change of a default does not change old versions.
    limits      jsonb       not null check (jsonb_typeof(limits) = 'object'),
    -- The account may be gone; what it deployed stays.
    created_by  uuid        references users (id) on delete set null,
    created_at  timestamptz not null default now(),
    primary key (app_id, script_id, number),
    foreign key (app_id, script_id) references scripts (app_id, id) on delete cascade,
    foreign key (app_id, bundle_hash) references bundles (app_id, hash)
        deferrable initially deferred
);

create index script_versions_bundle_idx on script_versions (app_id, bundle_hash);
create index script_versions_created_by_idx on script_versions (created_by) where created_by is not null;

-- A script and its first version are made together, so this is looked at when they commit.
alter table scripts
    add constraint scripts_live_version_fkey
    foreign key (app_id, id, live_version) references script_versions (app_id, script_id, number)
        deferrable initially deferred;

create table routes (
    app_id         uuid        not null references apps (id) on delete cascade,
    id             uuid        not null constraint routes_id_key unique,
    -- Empty for any method.
    method         text        not null default '' check (method ~ '^[A-Z]{0,32}$'),
    -- Empty for any host of the app.
    host           text        not null default '',
    path           text        not null,
    -- The path without parameter names: equal shapes answer equal requests.
    shape          text        not null,
    dispatch_mode  text        not null default 'sync' check (dispatch_mode in ('sync')),
    script_id      uuid        not null,
    body_bytes_max integer     not null check (body_bytes_max between 0 and 33554432),
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),
    primary key (app_id, id),
    foreign key (app_id, script_id) references scripts (app_id, id) on delete cascade,
    constraint routes_shape_key unique (app_id, method, host, shape)
);

create index routes_script_idx on routes (app_id, script_id);
