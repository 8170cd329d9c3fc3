-- Routes may also answer by way of the outbox.

alter table routes drop constraint routes_dispatch_mode_check;
alter table routes add constraint routes_dispatch_mode_check
    check (dispatch_mode in ('sync', 'durable', 'async'));
