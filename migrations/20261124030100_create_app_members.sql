-- Who may do what on an app. People without a row here, who are no admins of the instance either,
-- are not told that the app exists.

create table app_members (
    app_id     uuid        not null references apps (id) on delete cascade,
    user_id    uuid        not null references users (id) on delete cascade,
    role       text        not null check (role in ('viewer', 'editor', 'app_admin')),
    -- The account may be gone; whom it let in stays.
    added_by   uuid        references users (id) on delete set null,
    created_at timestamptz not null default now(),
    constraint app_members_pkey primary key (app_id, user_id)
);

create index app_members_user_id_idx on app_members (user_id);

insert into app_members (app_id, user_id, role)
select id, owner_id, 'app_admin'
from apps;

-- The owner is always a member, so an app always has somebody who may administer it. An app is made
-- together with its first member, so this is looked at when they commit.
alter table apps
    add constraint apps_owner_fkey
    foreign key (id, owner_id) references app_members (app_id, user_id)
        deferrable initially deferred;
