insert into bare_inserts (payload) values (decode(repeat('ab', 256), 'hex'));
