-- The second wall between apps. Every statement about an app's rows names the app; the policies are for one that
-- forgets it. They hold for the role under which scripts' calls are carried out, and not for the tables' owner, who
-- does what is done for all apps. The role and what it may do are not made here, because not everybody may make
-- roles: see crates/manager-core/src/store/row_security.sql.

-- The app for which a connection works; none until it is told.
create function current_app() returns uuid
    language sql stable
    return nullif(current_setting('picloud.app', true), '')::uuid;

-- Every table of which an app has rows, but for the audit log, which is one chain of all apps, and the keys of
-- people, which the role may not touch at all.
do $$
declare
    name text;
begin
    foreach name in array array[
        'abandoned_executions', 'app_assets', 'app_budgets', 'app_domains', 'app_former_slugs', 'app_keys',
        'app_members', 'app_transfers', 'app_usage', 'app_user_sessions', 'app_user_tokens', 'app_users',
        'bundles', 'cron_marks', 'dead_letters', 'doc_indexes', 'doc_schemas', 'docs', 'egress_destinations',
        'egress_rules', 'executions', 'files', 'files_usage', 'incidents', 'kv', 'outbox', 'outbox_dedup',
        'paused_queues', 'quarantines', 'queue_messages', 'routes', 'script_versions', 'scripts', 'secrets',
        'topics', 'triggers', 'version_approvals']
    loop
        execute format('alter table %I enable row level security', name);
        execute format('create policy of_app on %I using (app_id = current_app())', name);
    end loop;
end $$;

alter table apps enable row level security;
create policy of_app on apps using (id = current_app());

-- The documents of the connection's app, for searches. Under a policy the planner compares in no index of JSON,
-- because it does not know that comparing tells nothing; in a view of the owner's it does.
create view app_docs as
    select app_id, collection, id, data, version, created_at, updated_at
    from docs
    where app_id = current_app();

-- How many events of each app wait: what whoever accepts one must know of all apps, and nothing else of them.
create view outbox_waiting as
    select app_id, count(*) as events
    from outbox
    group by app_id;
