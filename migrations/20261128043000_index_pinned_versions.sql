-- Versions that events wait for stay when older ones than the last hundred go. Hardly any event names one.
create index outbox_version_idx on outbox (app_id, script_id, version) where version is not null;
