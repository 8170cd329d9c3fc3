-- When the executions of the bench's script began, in microseconds since 1970, with their deliveries.
-- `:since` is seconds since 1970.
select e.delivery_id, (extract(epoch from e.started_at) * 1000000)::bigint
from executions e
join apps a on a.id = e.app_id
where a.slug = 'bench-starts' and e.delivery_id is not null and e.started_at > to_timestamp(:since);
