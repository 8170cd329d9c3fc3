-- Why an execution ran: its chain of events, and the delivery that it was an attempt of. A chain that
-- an execution began has that execution as its root, which need not be said.

alter table executions
    add column root_id     uuid,
    add column parent_id   uuid,
    add column depth       integer not null default 0 check (depth >= 0),
    add column delivery_id uuid,
    add column attempt     integer check (attempt > 0);

create index executions_root_idx on executions (app_id, root_id, id) where root_id is not null;
create index executions_delivery_idx on executions (app_id, delivery_id, id) where delivery_id is not null;
