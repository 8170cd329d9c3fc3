-- Where an app's scripts may send requests; an app without a row may go wherever anybody may.
create table egress_rules (
    app_id uuid      primary key references apps on delete cascade,
    -- Hosts that may be reached; all, where there is no list.
    allow  text[]    check (cardinality(allow) <= 1000),
    deny   text[]    not null default '{}' check (cardinality(deny) <= 1000),
    -- Ports besides those of the web.
    ports  integer[] not null default '{}' check (cardinality(ports) <= 100)
);

-- Where they have been, each noted when it was seen first.
create table egress_destinations (
    app_id        uuid        not null references apps on delete cascade,
    -- Host and port.
    destination   text        not null,
    -- The script that went there first.
    script        text        not null,
    first_seen_at timestamptz not null default now(),
    primary key (app_id, destination)
);
