-- Files that scripts keep. What is in them is in a directory or a bucket, in chunks; a file is there
-- from the moment its row is.

create table files (
    app_id       uuid        not null references apps (id) on delete cascade,
    collection   text        collate "C" not null check (octet_length(collection) between 1 and 128),
    -- Of version 7: in the order in which they are made.
    id           uuid        not null,
    name         text        not null check (octet_length(name) between 1 and 255),
    content_type text        not null check (octet_length(content_type) between 1 and 127),
    size         bigint      not null check (size >= 0),
    -- SHA-256 of the whole content.
    checksum     bytea       not null check (octet_length(checksum) = 32),
    -- Where the chunks are. A new content has a new one: nobody reads half of the old and half of the new.
    blob         uuid        not null,
    -- Every chunk but the last is so long.
    chunk_bytes  integer     not null check (chunk_bytes > 0),
    -- SHA-256 of each chunk, one after the other: a part is checked without reading the whole.
    chunks       bytea       not null check (octet_length(chunks) % 32 = 0),
    version      bigint      not null default kv_version(),
    created_at   timestamptz not null default statement_timestamp(),
    updated_at   timestamptz not null default statement_timestamp(),
    primary key (app_id, collection, id)
);

-- Which blobs are somebody's: asked by the sweep of those that are nobody's.
create unique index files_blob on files (blob);

-- What the files of each app are together, kept by those who change them.
create table files_usage (
    app_id uuid   primary key references apps (id) on delete cascade,
    size   bigint not null default 0 check (size >= 0),
    files  bigint not null default 0 check (files >= 0)
);
