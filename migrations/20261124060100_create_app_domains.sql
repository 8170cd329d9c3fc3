-- Hosts of their own that apps have claimed, besides the one below the base domain. A claim takes
-- effect when its ownership is proven, and only then keeps others from it: claiming a stranger's
-- domain takes nothing from its owner.

create table app_domains (
    app_id      uuid        not null references apps (id) on delete cascade,
    id          uuid        not null constraint app_domains_id_key unique,
    -- shop.example.com, *.example.com or {tenant}.example.com.
    pattern     text        not null check (char_length(pattern) between 1 and 330),
    -- The pattern with a star for its parameter: equal shapes claim the same hosts.
    shape       text        not null,
    -- What the DNS record must say. Another for each claim, so that no old record proves a new one.
    token       text        not null check (char_length(token) between 32 and 64),
    verified_at timestamptz,
    verified_by text        check (verified_by in ('dns', 'waiver')),
    created_at  timestamptz not null default now(),
    primary key (app_id, id),
    constraint app_domains_shape_key unique (app_id, shape),
    check ((verified_at is null) = (verified_by is null))
);

create unique index app_domains_verified_key on app_domains (shape) where verified_at is not null;
