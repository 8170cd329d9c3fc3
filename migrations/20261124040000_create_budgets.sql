-- What apps may use over time, and what they used.

-- No row and a column that is null both mean: no limit.
create table app_budgets (
    app_id             uuid        primary key references apps (id) on delete cascade,
    fuel_per_minute    bigint      check (fuel_per_minute > 0),
    fuel_per_day       bigint      check (fuel_per_day > 0),
    executions_per_day bigint      check (executions_per_day > 0),
    -- What happens when the day's budget is used up: requests are refused until midnight (UTC), or
    -- until somebody who runs the instance says otherwise.
    on_exhausted       text        not null default 'throttle' check (on_exhausted in ('throttle', 'freeze')),
    frozen             boolean     not null default false,
    updated_at         timestamptz not null default now()
);

-- One row for each app and day on which something of it ran. Days are of UTC.
create table app_usage (
    app_id     uuid   not null references apps (id) on delete cascade,
    day        date   not null,
    executions bigint not null check (executions >= 0),
    fuel       bigint not null check (fuel >= 0),
    primary key (app_id, day)
);
