-- Up to when the times of a cron trigger are dealt with. It only moves on, in the transaction that
-- writes the events for the times before it, so no time is ever run twice, whatever clocks do.

create table cron_marks (
    app_id        uuid        not null,
    trigger_id    uuid        not null,
    handled_until timestamptz not null,
    primary key (app_id, trigger_id),
    foreign key (app_id, trigger_id) references triggers (app_id, id) on delete cascade
) with (fillfactor = 50);

-- Triggers that were made before anything kept their times: these begin now.
insert into cron_marks (app_id, trigger_id, handled_until)
select app_id, id, clock_timestamp() from triggers where kind = 'cron';
