-- Slugs that apps had before they were renamed. Each still leads to its app, until an app takes it:
-- links and bookmarks of the old name go on working. An app's own text, besides, for people.

create table app_former_slugs (
    app_id     uuid        not null references apps (id) on delete cascade,
    slug       text        not null constraint app_former_slugs_key unique
                           check (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    retired_at timestamptz not null default now(),
    primary key (app_id, slug)
);

alter table apps
    add column description text not null default '' check (char_length(description) <= 2000);
