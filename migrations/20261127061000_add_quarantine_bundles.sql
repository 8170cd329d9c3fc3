-- Which bundle a script was quarantined with: the same under another name of the app may not run either.
alter table quarantines add column bundle_hash bytea check (octet_length(bundle_hash) = 32);

-- Of those before it is not known; that they run now is the nearest there is.
update quarantines q
set bundle_hash = v.bundle_hash
from scripts s
join script_versions v on v.app_id = s.app_id and v.script_id = s.id and v.number = s.live_version
where s.app_id = q.app_id and s.id = q.script_id;

alter table quarantines alter column bundle_hash set not null;
