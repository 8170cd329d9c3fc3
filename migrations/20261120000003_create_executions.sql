-- What ran and what came of it. Rows outlive the script they are of, so they carry its name.

create table executions (
    app_id            uuid        not null references apps (id) on delete cascade,
    -- Ids are made in the order of time, so the primary key is also the order of the list.
    id                uuid        not null,
    script_id         uuid        not null,
    script_name       text        not null,
    version           integer     not null check (version > 0),
    bundle_hash       bytea       not null check (octet_length(bundle_hash) = 32),
    request_id        text        not null,
    invocation_type   text        not null check (invocation_type in ('http', 'event', 'function', 'schedule')),
    status            text        not null check (status in ('ok', 'script_error', 'fuel_exhausted',
                                      'memory_exceeded', 'timeout', 'worker_lost', 'invalid_response',
                                      'cancelled', 'depth_exceeded')),
    http_status       smallint    check (http_status between 100 and 599),
    started_at        timestamptz not null,
    duration_us       bigint      not null check (duration_us >= 0),
    queued_us         bigint      not null check (queued_us >= 0),
    fuel              bigint      not null check (fuel >= 0),
    peak_memory_bytes bigint      not null check (peak_memory_bytes >= 0),
    host_calls        integer     not null check (host_calls >= 0),
    -- {message, script, line, column} and [{level, message, data}]. The type is json, not jsonb,
    -- because scripts may log what jsonb refuses, such as U+0000, and nothing searches inside.
    error             json,
    logs              json        not null,
    primary key (app_id, id)
);

create index executions_script_idx on executions (app_id, script_name, id desc);
-- Failures are few and are what people look for.
create index executions_failed_idx on executions (app_id, status, id desc) where status <> 'ok';
