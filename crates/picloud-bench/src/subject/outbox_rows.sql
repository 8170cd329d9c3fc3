select count(*) from outbox;
