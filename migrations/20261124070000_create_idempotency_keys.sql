-- POSTs that were done or are being worked on, by the key that their senders gave them, so that one
-- that is sent again is not done again.

create table idempotency_keys (
    user_id      uuid        not null references users (id) on delete cascade,
    key          text        not null check (length(key) between 1 and 255),
    -- SHA-256 of method, address and body: another request with the same key is refused.
    fingerprint  bytea       not null check (length(fingerprint) = 32),
    begun_at     timestamptz not null default now(),
    -- Absent while the request is being worked on.
    status       smallint    check (status between 200 and 299),
    content_type text,
    etag         text,
    -- Absent also for answers that show a secret.
    body         bytea,
    primary key (user_id, key)
);

-- For forgetting those that are over.
create index idempotency_keys_begun_at_idx on idempotency_keys (begun_at);
