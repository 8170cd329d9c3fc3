-- Who changed what, from where, and when. Rows are only ever added: triggers refuse everything else,
-- whoever asks, and each row's hash covers the row before it, so that a row that was changed or
-- taken out with the triggers switched off is found out.

create table audit_log (
    -- Without gaps, which a sequence would have: number n + 1 is written under the lock of number n.
    number         bigint      primary key check (number > 0),
    at             timestamptz not null,
    -- Null for the platform itself. No foreign key: the log outlives the people and apps it tells of.
    actor_id       uuid,
    actor_name     text        not null,
    -- What the actor showed: a session or an API key by its name.
    credential     text        not null,
    -- Null for what is of no app.
    app_id         uuid,
    action         text        not null check (action ~ '^[a-z_]+\.[a-z_]+$'),
    target         text        not null,
    remote_address text        not null,
    request_id     text        not null,
    -- SHA-256 of what was changed, as JSON, before and after; null where there was nothing.
    before_digest  bytea       check (octet_length(before_digest) = 32),
    after_digest   bytea       check (octet_length(after_digest) = 32),
    previous_hash  bytea       not null check (octet_length(previous_hash) = 32),
    hash           bytea       not null check (octet_length(hash) = 32)
);

create index audit_log_app_idx on audit_log (app_id, number desc) where app_id is not null;

create function refuse_audit_change() returns trigger
language plpgsql as $$
begin
    raise exception 'the audit log is append-only: % refused', lower(tg_op)
        using errcode = 'restrict_violation';
end
$$;

create trigger audit_log_append_only
    before update or delete or truncate on audit_log
    for each statement execute function refuse_audit_change();

-- Also for those who switch ordinary triggers off, as restoring tools do.
alter table audit_log enable always trigger audit_log_append_only;
