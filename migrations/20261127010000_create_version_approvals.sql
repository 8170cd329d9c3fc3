-- An app can require that somebody looks at a version that asks for more than the live one before it
-- goes live.
alter table apps
    add column requires_approval boolean not null default false;

-- What a bundle asks for, as far as its source says: it follows from the source, so it is no part of the
-- hash. Null for those from before.
alter table bundles
    add column capabilities jsonb check (jsonb_typeof(capabilities) = 'object');

-- Versions that were not made live when they were deployed, and whether somebody has approved them.
create table version_approvals (
    app_id      uuid        not null,
    script_id   uuid        not null,
    number      integer     not null,
    -- What it asks for that the live version of then did not, in words.
    wants       text[]      not null check (cardinality(wants) > 0),
    -- Null as long as it waits.
    approved_at timestamptz,
    -- The account may be gone; what it approved stays approved.
    approved_by uuid        references users (id) on delete set null,
    primary key (app_id, script_id, number),
    foreign key (app_id, script_id, number)
        references script_versions (app_id, script_id, number) on delete cascade
);

create index version_approvals_approved_by_idx on version_approvals (approved_by) where approved_by is not null;
