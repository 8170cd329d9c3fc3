-- What an app may send in a day and keep in the database, and what it sent.

-- As with the others, null means: no limit; for data, the one that all apps have.
alter table app_budgets
    add column requests_per_day bigint check (requests_per_day > 0),
    add column mails_per_day    bigint check (mails_per_day > 0),
    -- Of values and documents together.
    add column data_bytes       bigint check (data_bytes > 0);

alter table app_usage
    add column requests bigint not null default 0 check (requests >= 0),
    add column mails    bigint not null default 0 check (mails >= 0);
