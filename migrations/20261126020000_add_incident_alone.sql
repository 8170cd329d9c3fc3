-- Whether nobody else can have been the reason: the worker had served this script and no other. Only
-- such incidents count towards quarantine. What was kept before this is in doubt, and does not count.
alter table incidents add column is_alone boolean not null default false;
