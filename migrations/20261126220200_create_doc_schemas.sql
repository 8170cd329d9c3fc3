-- What the documents of a collection must be like, where people say so: JSON Schema.

create table doc_schemas (
    app_id     uuid        not null references apps (id) on delete cascade,
    collection text        collate "C" not null check (octet_length(collection) between 1 and 128),
    schema     jsonb       not null check (octet_length(schema::text) <= 65536),
    -- No version comes twice, so that what was compiled from another is known by it.
    version    bigint      not null default kv_version(),
    updated_at timestamptz not null default statement_timestamp(),
    primary key (app_id, collection)
);
