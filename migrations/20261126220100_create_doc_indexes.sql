-- Indexes of documents that people declared. Each is an index of PostgreSQL on `docs`, of one collection of
-- one app, named `docs_by_` and the id; it is built and dropped beside everything else.

create table doc_indexes (
    id         uuid        primary key,
    app_id     uuid        not null references apps (id) on delete cascade,
    collection text        collate "C" not null check (octet_length(collection) between 1 and 128),
    -- Members by the names that lead to them, with dots between.
    members    text[]      not null check (cardinality(members) between 1 and 4),
    state      text        not null default 'building' check (state in ('building', 'ready', 'failed')),
    -- Why it could not be built.
    error      text        check ((error is not null) = (state = 'failed')),
    created_at timestamptz not null default statement_timestamp(),
    constraint doc_indexes_once unique (app_id, collection, members)
);
