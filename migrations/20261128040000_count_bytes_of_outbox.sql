-- How much waits of each app: a few large events take as much of the disk as very many small ones.
create or replace view outbox_waiting as
    select app_id, count(*) as events, sum(octet_length(payload)) as bytes
    from outbox
    group by app_id;
