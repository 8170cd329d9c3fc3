-- Which modules a bundle's own source imports, as the compiler found them; all that it takes,
-- through whatever chain, is in modules. It follows from the source, so it is no part of the hash.
-- Scripts from before could not be run with imports: none of them has any.
alter table bundles
    add column imports text[] not null default '{}';
