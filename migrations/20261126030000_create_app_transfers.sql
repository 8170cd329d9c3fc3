-- Apps that are offered to somebody. Workers, budgets and bills follow the owner of an app, so nobody
-- becomes one without saying yes.

create table app_transfers (
    -- An app is offered to one person at a time.
    app_id     uuid        primary key references apps (id) on delete cascade,
    to_user    uuid        not null references users (id) on delete cascade,
    -- An offer is worth no more than its maker's rights, and ends with their account.
    offered_by uuid        not null references users (id) on delete cascade,
    expires_at timestamptz not null,
    created_at timestamptz not null default now()
);

create index app_transfers_to_user_idx on app_transfers (to_user);
create index app_transfers_offered_by_idx on app_transfers (offered_by);
