-- A script can be switched off by its people: its routes stay, and nothing runs.

alter table scripts add column disabled_at timestamptz;
