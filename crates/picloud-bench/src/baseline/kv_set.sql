insert into kv as old (app_id, collection, key, value, version)
values ($1, $2, $3, $4, kv_version())
on conflict (app_id, collection, key) do update
set value = excluded.value, version = greatest(old.version + 1, excluded.version),
    updated_at = excluded.updated_at
returning version
