-- Workers that misbehaved, by the scripts that ran in them at that time.

create table incidents (
    app_id       uuid        not null references apps (id) on delete cascade,
    -- Made in the order of time, so the primary key is also the order of the list.
    id           uuid        not null,
    script_id    uuid        not null,
    script_name  text        not null,
    version      integer     not null check (version > 0),
    execution_id uuid        not null,
    misconduct   text        not null check (misconduct in ('protocol', 'forbidden_call', 'crash', 'unresponsive')),
    detail       text        not null,
    happened_at  timestamptz not null default now(),
    primary key (app_id, id)
);

-- For counting those of the last hour.
create index incidents_script_idx on incidents (app_id, script_id, happened_at);

-- Scripts that may not run until somebody releases them.
create table quarantines (
    app_id    uuid        not null,
    script_id uuid        not null,
    since     timestamptz not null default now(),
    primary key (app_id, script_id),
    foreign key (app_id, script_id) references scripts (app_id, id) on delete cascade
);

-- Incidents before a release are forgiven: they do not count towards the next quarantine.
alter table scripts add column released_at timestamptz;
