-- The second thing a login asks for, of those who want it: a code from an app on their phone, or one
-- of the codes that they wrote down for the day they lose it.

create table second_factors (
    user_id      uuid        primary key references users (id) on delete cascade,
    -- What the phone knows too. It must be readable to be compared, so it is no hash; without the
    -- password it lets nobody in.
    secret       bytea       not null check (octet_length(secret) = 20),
    -- Null until the person has shown a code: a login asks for no code that they may not have.
    confirmed_at timestamptz,
    -- The last time step of which a code was taken: none is taken twice.
    last_step    bigint      not null default 0,
    created_at   timestamptz not null default now()
);

create table recovery_codes (
    user_id   uuid  not null references users (id) on delete cascade,
    -- SHA-256 of a code of 80 random bits; the row goes when the code is used.
    code_hash bytea not null check (octet_length(code_hash) = 32),
    primary key (user_id, code_hash)
);
