-- Static files that an app serves beside its routes. In the database, so that a backup has them and
-- every node serves the same; the sizes are kept small for that.

create table app_assets (
    app_id       uuid        not null references apps (id) on delete cascade,
    -- As in an address, decoded.
    path         text        not null check (path like '/%' and octet_length(path) <= 1024),
    content_type text        not null check (char_length(content_type) between 1 and 200),
    -- SHA-256 of the content: what clients ask by whether they have it already.
    hash         bytea       not null check (octet_length(hash) = 32),
    content      bytea       not null check (octet_length(content) <= 5242880),
    updated_at   timestamptz not null default now(),
    primary key (app_id, path)
);

-- Pictures and fonts are compressed already.
alter table app_assets alter column content set storage external;
