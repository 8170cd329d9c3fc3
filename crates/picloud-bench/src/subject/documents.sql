insert into docs (app_id, collection, id, data)
select (select id from apps order by created_at limit 1), 'bench', gen_random_uuid(),
       jsonb_build_object('group', n % (:documents / 20), 'n', n, 'title', 'Document ' || n)
from generate_series(1, :documents) n;
analyze docs;
