-- Routes for some of an app's hosts only, and what a route asks of a request besides its address.

alter table routes
    -- The host with a star for its parameter; empty for any host. Equal shapes answer equal requests.
    add column host_shape text  not null default '',
    -- {auth, cors, rate_limit, cache_control}; what is absent asks for nothing.
    add column policy     jsonb not null default '{}' check (jsonb_typeof(policy) = 'object');

alter table routes
    drop constraint routes_shape_key,
    add constraint routes_shape_key unique (app_id, method, host_shape, shape);
