-- Nobody can log in as these: the hash is of no password.
insert into users (id, username, password_hash, role)
select gen_random_uuid(), 'owner-of-' || slug, 'none', 'member'
from apps
where not is_default;

-- The owner is always a member.
insert into app_members (app_id, user_id, role)
select apps.id, users.id, 'app_admin'
from apps
join users on users.username = 'owner-of-' || apps.slug;

update apps
set owner_id = users.id
from users
where users.username = 'owner-of-' || apps.slug;
