-- What was published on topics that somebody outside may listen to, so that a listener who was away for a moment
-- misses nothing. A topic's messages are numbered without holes: its row is locked until the commit.

alter table topics
    add column last_message_id bigint not null default 0,
    -- Bytes of all its messages so far.
    add column message_bytes bigint not null default 0,
    drop constraint topics_auth_mode_check,
    -- What a listener outside needs: nothing, a token that a script of the app made, or to be logged in as a user of
    -- the app.
    add constraint topics_auth_mode_check check (auth_mode in ('public', 'token', 'user'));

create table topic_messages (
    app_id       uuid        not null,
    topic        text        not null,
    id           bigint      not null,
    -- The topic's message_bytes behind this one: how much is newer is a subtraction.
    bytes_until  bigint      not null,
    -- JSON, as it was published.
    message      text        not null,
    published_at timestamptz not null,
    primary key (app_id, topic, id),
    foreign key (app_id, topic) references topics (app_id, name) on delete cascade
);

create index topic_messages_published_at on topic_messages (published_at);

alter table topic_messages enable row level security;
create policy of_app on topic_messages using (app_id = current_app());
