-- Destinations of an app's scripts that its list has no room for: who fills it with made-up names does not do so
-- unseen.
create table egress_passed_over (
    app_id           uuid        primary key references apps on delete cascade,
    count            bigint      not null check (count > 0),
    first_at         timestamptz not null default now(),
    last_at          timestamptz not null default now(),
    -- Host and port.
    last_destination text        not null,
    last_script      text        not null
);

alter table egress_passed_over enable row level security;
create policy of_app on egress_passed_over using (app_id = current_app());
