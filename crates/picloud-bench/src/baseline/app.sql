select id from apps order by created_at limit 1
