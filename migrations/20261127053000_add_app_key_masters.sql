-- Which master keys wrap the data keys of all apps: what whoever makes an app's first one must know, and nothing else
-- of other apps. Their policy hides the rows themselves from scripts' calls.
create view app_key_masters as
    select distinct master_id
    from app_keys;
