-- What each message takes, with its key. Beside the others in the index by which messages are counted, so that counting
-- reads none of them. Nodes of the release before write none.
alter table queue_messages add column bytes integer not null default 0 check (bytes >= 0);
drop index queue_messages_due_idx;
update queue_messages set bytes = octet_length(message) + coalesce(octet_length(key), 0);
create index queue_messages_due_idx on queue_messages (app_id, queue, due_at, id) include (bytes);
