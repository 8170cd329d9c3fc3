-- Values that an app's scripts use and nobody reads back.
create table secrets (
    app_id     uuid        not null references apps on delete cascade,
    name       text        not null check (octet_length(name) between 1 and 128),
    sealed     bytea       not null check (octet_length(sealed) between 29 and 65536),
    -- In each sealed value, behind a byte that says its form, is the version of its key. Spelt out, so
    -- that no key can be removed that something is sealed with.
    key_version integer    not null generated always as (
        get_byte(sealed, 1) * 16777216 + get_byte(sealed, 2) * 65536 + get_byte(sealed, 3) * 256 + get_byte(sealed, 4)
    ) stored,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (app_id, name),
    foreign key (app_id, key_version) references app_keys (app_id, version)
);
