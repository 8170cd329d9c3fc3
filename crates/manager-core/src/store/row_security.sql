-- Makes the role under which scripts' calls are carried out, and lets it do what they need. At each start, so
-- that a release which adds a table lets it use that, too.
do $$
declare
    name text;
    entering text := case when current_setting('server_version_num')::int >= 160000 then 'set' else 'member' end;
begin
    -- Another node may be at it.
    perform pg_advisory_xact_lock(hashtextextended('picloud row security', 0));
    if not exists (select from pg_roles where rolname = 'picloud_scripts') then
        begin
            create role picloud_scripts nologin;
        exception when duplicate_object or unique_violation then
            -- A PiCloud in another database of this server was faster.
            null;
        end;
    end if;
    if not pg_has_role(session_user, 'picloud_scripts', entering) then
        execute format('grant picloud_scripts to %I', session_user);
    end if;
    execute format('grant usage on schema %I to picloud_scripts', current_schema);
    -- What has a policy; of that, whose app it is stays as it is.
    for name in
        select relname
        from pg_class
        where relnamespace = current_schema::regnamespace
          and relkind = 'r'
          and relrowsecurity
          and relname <> 'apps'
    loop
        execute format('grant select, insert, update, delete on %I to picloud_scripts', name);
    end loop;
    grant select on apps, app_docs, app_key_masters, outbox_waiting to picloud_scripts;
    -- Who a script runs for, and what it did for them.
    grant select (id, username, role, disabled_at, created_at) on users to picloud_scripts;
    grant select, insert on audit_log to picloud_scripts;
end $$;
