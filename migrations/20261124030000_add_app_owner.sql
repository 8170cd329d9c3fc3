-- Every app has an owner: the account that pays for what the app uses, and that may give it away.
-- Apps made before this belong to the first owner of the instance; where that account is gone, to
-- whoever was there first.

alter table apps add column owner_id uuid references users (id) on delete restrict;

update apps
set owner_id = (
    select id
    from users
    order by role = 'owner' desc, created_at, id
    limit 1
);

alter table apps alter column owner_id set not null;

create index apps_owner_id_idx on apps (owner_id);
