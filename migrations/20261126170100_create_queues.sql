-- Messages that wait in queues. The consumer's share of them, as many as it may handle at once, moves to
-- the outbox, which delivers them: so a backlog is in nobody's way, and can be looked at, held and
-- thrown away.

create table queue_messages (
    app_id      uuid        not null references apps (id) on delete cascade,
    queue       text        not null check (queue ~ '^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$'),
    id          bigint      generated always as identity,
    -- What the script sees as ctx.delivery.id, the same before and after the move.
    delivery_id uuid        not null,
    -- JSON, as it was sent.
    message     text        not null,
    -- Messages with the same key are handled one after the other.
    key         text        check (octet_length(key) between 1 and 512),
    due_at      timestamptz not null,
    enqueued_at timestamptz not null default clock_timestamp(),
    -- The chain of events that it is part of.
    root_id     uuid        not null,
    parent_id   uuid,
    depth       integer     not null check (depth >= 0),
    primary key (app_id, queue, id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_insert_threshold = 20000, autovacuum_vacuum_cost_delay = 0);

create index queue_messages_due_idx on queue_messages (app_id, queue, due_at, id);

-- Queues that somebody stopped. Others need no row.
create table paused_queues (
    app_id    uuid        not null references apps (id) on delete cascade,
    queue     text        not null,
    paused_at timestamptz not null default now(),
    primary key (app_id, queue)
);
