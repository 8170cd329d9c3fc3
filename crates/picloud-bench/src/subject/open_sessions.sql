-- Sessions that PiCloud has open now. Asked for from another database, so that asking does not count.
select count(*) from pg_stat_activity where datname = 'picloud' and backend_type = 'client backend';
