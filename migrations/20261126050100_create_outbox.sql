-- Events on their way to scripts: written in the transaction of the change that caused them, removed
-- when they are done. docs/outbox.md says how a row lives.

-- Each shard has one dispatcher at a time. The owner is a new id at each acquisition: what a deposed
-- owner still writes finds another id there, and changes nothing.
create table outbox_shards (
    shard          smallint primary key check (shard between 0 and 15),
    owner          uuid,
    epoch          bigint   not null default 0,
    -- False from acquisition until an orderly release.
    is_clean       boolean  not null default true,
    -- Rows up to this one may have been running when an owner died.
    suspect_max_id bigint   not null default 0
) with (fillfactor = 10);

insert into outbox_shards (shard) select generate_series(0, 15);

create table outbox (
    id           bigint      generated always as identity primary key,
    shard        smallint    not null check (shard between 0 and 15),
    -- No foreign keys: each would cost a lock for every event. Rows of what is gone are removed when
    -- they are due.
    app_id       uuid        not null,
    delivery_id  uuid        not null,
    kind         text        not null check (kind in ('http', 'function', 'cron', 'kv', 'docs', 'files',
                                 'pubsub', 'queue', 'email', 'webhook', 'dead_letter')),
    trigger_id   uuid,
    script_id    uuid        not null,
    -- Null runs the live version.
    version      integer     check (version > 0),
    -- Infinity waits until it is released: its trigger is paused.
    due_at       timestamptz not null,
    enqueued_at  timestamptz not null default clock_timestamp(),
    attempts     smallint    not null default 0 check (attempts >= 0),
    -- Times it ended its worker, or may have ended the platform.
    strikes      smallint    not null default 0 check (strikes >= 0),
    max_attempts smallint    not null check (max_attempts between 1 and 25),
    base_ms      integer     not null check (base_ms >= 0),
    cap_ms       integer     not null check (cap_ms >= base_ms),
    root_id      uuid        not null,
    parent_id    uuid,
    depth        integer     not null check (depth >= 0),
    order_key    bytea       check (octet_length(order_key) = 16),
    -- The process in which a caller waits for the answer.
    reply_to     uuid,
    replay_of    uuid,
    -- The dead letter that this event is about.
    handles      uuid,
    payload      bytea       not null,
    -- What went wrong so far: [{attempt, at, message}].
    errors       jsonb       not null default '[]'
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_insert_threshold = 20000, autovacuum_vacuum_cost_delay = 0);

create index outbox_due_idx on outbox (shard, app_id, due_at, id);
-- Which rows of a key are before which; only rows that are to be in order are in it.
create index outbox_order_idx on outbox (script_id, order_key, id) where order_key is not null;
-- What is held or removed together with a trigger.
create index outbox_trigger_idx on outbox (trigger_id) where due_at = 'infinity';

-- What was accepted under a key, so that it is not accepted again.
create table outbox_dedup (
    app_id      uuid        not null references apps (id) on delete cascade,
    scope       text        not null check (length(scope) between 1 and 200),
    key         bytea       not null check (octet_length(key) = 32),
    body_hash   bytea       not null check (octet_length(body_hash) = 32),
    delivery_id uuid        not null,
    expires_at  timestamptz not null,
    primary key (app_id, scope, key)
);

create index outbox_dedup_expires_idx on outbox_dedup (expires_at);

create table dead_letters (
    app_id      uuid        not null references apps (id) on delete cascade,
    id          uuid        not null,
    delivery_id uuid        not null,
    kind        text        not null,
    trigger_id  uuid,
    script_id   uuid        not null,
    version     integer,
    reason      text        not null check (reason in ('exhausted', 'fatal', 'poison', 'script_missing',
                                'script_disabled', 'trigger_missing')),
    attempts    smallint    not null,
    errors      jsonb       not null,
    root_id     uuid        not null,
    parent_id   uuid,
    depth       integer     not null,
    order_key   bytea,
    max_attempts smallint   not null,
    base_ms     integer     not null,
    cap_ms      integer     not null,
    payload     bytea       not null,
    enqueued_at timestamptz not null,
    failed_at   timestamptz not null default clock_timestamp(),
    resolution  text        check (resolution in ('replayed', 'ignored', 'handled_by_script', 'handler_failed')),
    resolved_at timestamptz,
    -- Why it was resolved so, in the words of who did it.
    note        text        check (length(note) <= 2000),
    -- The delivery that tries it again.
    replayed_as uuid,
    primary key (app_id, id),
    check ((resolution is null) = (resolved_at is null))
);

create index dead_letters_unresolved_idx on dead_letters (app_id, id) where resolution is null;
create index dead_letters_failed_at_idx on dead_letters (failed_at);

-- Answers that nobody waited for any more.
create table abandoned_executions (
    app_id       uuid        not null references apps (id) on delete cascade,
    delivery_id  uuid        not null,
    execution_id uuid,
    script_id    uuid        not null,
    -- What came of it; null where that is not known, because the platform ended meanwhile.
    status       text,
    http_status  smallint,
    abandoned_at timestamptz not null default clock_timestamp(),
    primary key (app_id, delivery_id)
);

create index abandoned_executions_at_idx on abandoned_executions (abandoned_at);
