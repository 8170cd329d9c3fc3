-- Since when an app is being removed. Nobody finds it any more; what is of it goes some rows at a time, and its own row
-- last.
alter table apps add column removing_at timestamptz;
