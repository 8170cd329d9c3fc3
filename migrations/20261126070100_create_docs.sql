-- Documents that scripts keep: JSON with members that can be asked for.

create table docs (
    app_id     uuid        not null references apps (id) on delete cascade,
    collection text        collate "C" not null check (octet_length(collection) between 1 and 128),
    -- Of version 7: in the order in which they are made.
    id         uuid        not null,
    data       jsonb       not null check (jsonb_typeof(data) = 'object'),
    -- As in kv: no version comes twice.
    version    bigint      not null default kv_version(),
    created_at timestamptz not null default statement_timestamp(),
    updated_at timestamptz not null default statement_timestamp(),
    primary key (app_id, collection, id),
    -- What is sent is half of that at most; merges make it longer, and so do spaces, which PostgreSQL
    -- writes.
    constraint docs_size check (octet_length(data::text) <= 524288)
);

-- RFC 7396: members of the patch are set, those that are null are removed.
create function doc_merge(target jsonb, patch jsonb) returns jsonb
    language plpgsql immutable as $$
declare
    name text;
    value jsonb;
begin
    if jsonb_typeof(patch) <> 'object' then
        return patch;
    end if;
    if target is null or jsonb_typeof(target) <> 'object' then
        target := '{}';
    end if;
    for name, value in select * from jsonb_each(patch) loop
        if value = 'null' then
            target := target - name;
        else
            target := target || jsonb_build_object(name, doc_merge(target -> name, value));
        end if;
    end loop;
    return target;
end;
$$;
