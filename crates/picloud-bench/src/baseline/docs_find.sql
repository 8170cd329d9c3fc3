select id, data::text from docs
where app_id = $1 and collection = 'bench' and coalesce(data #> '{group}', 'null'::jsonb) = '77'::jsonb
order by coalesce(data #> '{n}', 'null'::jsonb)
limit 20
