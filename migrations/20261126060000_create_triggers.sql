-- What makes scripts run besides requests. What a kind is set to is in `config`, which the manager has
-- checked; what it promises about its script the database checks too: it is of the same app.

create table triggers (
    app_id        uuid        not null references apps (id) on delete cascade,
    id            uuid        not null constraint triggers_id_key unique,
    -- For people, and for manifests to know it again by.
    name          text        check (name ~ '^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$'),
    kind          text        not null
                              check (kind in ('cron', 'kv', 'docs', 'files', 'pubsub', 'queue',
                                              'dead_letter', 'webhook')),
    script_id     uuid        not null,
    config        jsonb       not null check (jsonb_typeof(config) = 'object'),
    -- Every setting, resolved when it was made: a later change of a default does not change it.
    retry         jsonb       not null check (jsonb_typeof(retry) = 'object'),
    is_enabled    boolean     not null default true,
    -- Whose rights it runs with. Without them, and without the account, its events wait for somebody
    -- who takes it over: that it is paused is found each time and stored nowhere.
    registered_by uuid        references users (id) on delete set null,
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),
    primary key (app_id, id),
    constraint triggers_name_key unique (app_id, name),
    foreign key (app_id, script_id) references scripts (app_id, id) on delete cascade
);

create index triggers_script_idx on triggers (app_id, script_id);
create index triggers_registered_by_idx on triggers (registered_by) where registered_by is not null;

-- A queue has one consumer: what runs several at once is its `concurrency`.
create unique index triggers_one_consumer_idx on triggers (app_id, (config ->> 'queue'))
    where kind = 'queue';
