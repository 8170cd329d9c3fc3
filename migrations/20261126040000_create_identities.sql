-- Accounts at identity providers (OpenID Connect) by which people log in.

create table identities (
    id           uuid        primary key,
    user_id      uuid        not null references users (id) on delete cascade,
    -- The provider's name for itself, and its name for the person: never given to somebody else, as an
    -- e-mail address may be.
    issuer       text        not null check (char_length(issuer) <= 2000),
    subject      text        not null check (char_length(subject) between 1 and 255),
    -- What the provider said at the last login; only shown, never looked up.
    email        text        check (char_length(email) <= 320),
    created_at   timestamptz not null default now(),
    last_used_at timestamptz,
    unique (issuer, subject)
);

create index identities_user_id_idx on identities (user_id);

-- People who are logged in and went to a provider to have its account linked to theirs. One each, so
-- the table is no larger than that of the people.
create table identity_links (
    user_id    uuid        primary key references users (id) on delete cascade,
    -- SHA-256 of the state with which the provider sends them back.
    state_hash bytea       not null unique check (octet_length(state_hash) = 32),
    expires_at timestamptz not null
);

-- Who has only ever come by a provider has no password, and nothing that is typed is it.
alter table users alter column password_hash drop not null;
