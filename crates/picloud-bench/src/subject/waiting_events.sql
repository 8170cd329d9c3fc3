-- So many events of the bench's script that are due, as if its app had made them; and their dispatcher is
-- told. Written here because the API takes no hundred thousand at once.
insert into outbox (shard, app_id, delivery_id, kind, script_id, due_at, max_attempts, base_ms, cap_ms, root_id,
                    depth, payload)
select get_byte(uuid_send(s.app_id), 15) % 16, s.app_id, gen_random_uuid(), 'function', s.id, clock_timestamp(),
       5, 2000, 3600000, gen_random_uuid(), 1,
       convert_to('{"kind":"function","id":"0","time":"2026-01-01T00:00:00Z","function":{"args":null,"caller":"bench"}}',
                  'UTF8')
from scripts s
join apps a on a.id = s.app_id
cross join generate_series(1, :events) i
where a.slug = 'bench-events' and s.name = 'event';

notify picloud_outbox;
