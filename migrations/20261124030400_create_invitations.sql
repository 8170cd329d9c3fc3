-- Links by which people who have no account yet make one, and what a person needs to know of their
-- sessions to tell which of them is not theirs.

create table invitations (
    id         uuid        primary key,
    -- SHA-256 of the link's token, which is shown once.
    token_hash bytea       not null unique check (octet_length(token_hash) = 32),
    -- What the new person may do on the instance.
    role       text        not null check (role in ('owner', 'admin', 'member')),
    -- Whom the link is for, as its maker calls them.
    note       text        not null default '' check (char_length(note) <= 200),
    -- An invitation is worth no more than its maker's rights, and ends with their account.
    invited_by uuid        not null references users (id) on delete cascade,
    expires_at timestamptz not null,
    created_at timestamptz not null default now()
);

create index invitations_invited_by_idx on invitations (invited_by);
create index invitations_expires_at_idx on invitations (expires_at);

alter table sessions
    add column remote_address text not null default '',
    add column user_agent     text not null default '' check (char_length(user_agent) <= 200);
