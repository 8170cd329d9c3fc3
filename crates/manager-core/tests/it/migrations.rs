//! Migrations that are cut off anywhere are begun again.

use manager_core::{Manager, OpenError, migrate};
use sqlx::Row;

use crate::database::TestDatabase;
use crate::harness::config;

/// Ends the connection at the statement whose number is in `killer_plan`, counted from the start of an
/// attempt. A sequence counts on when a transaction is rolled back.
const KILLER: &str = "
    create sequence killer_seen;
    create table killer_plan (at bigint not null);
    insert into killer_plan values (0);
    create function kill_now() returns void language plpgsql as $$
    begin
        if nextval('public.killer_seen') = (select at from public.killer_plan) then
            perform pg_terminate_backend(pg_backend_pid());
            perform pg_sleep(10);
        end if;
    end $$;
    create function kill_at_command() returns event_trigger language plpgsql as
        $$ begin perform public.kill_now(); end $$;
    create function kill_at_row() returns trigger language plpgsql as
        $$ begin perform public.kill_now(); return new; end $$;
    create event trigger killer on ddl_command_start execute function kill_at_command();
";
const NO_KILLER: &str = "
    drop event trigger killer;
    drop trigger if exists killer on _sqlx_migrations;
    drop function kill_at_row, kill_at_command, kill_now;
    drop table killer_plan;
    drop sequence killer_seen;
";

async fn applied(database: &TestDatabase) -> i64 {
    let is_begun = database.scalar::<bool>("select to_regclass('_sqlx_migrations') is not null").await;
    if is_begun { database.scalar("select count(*) from _sqlx_migrations").await } else { 0 }
}

/// Columns, indexes, constraints and triggers as texts.
async fn schema(database: &TestDatabase) -> Vec<String> {
    let mut conn = database.connect().await;
    let rows = sqlx::query(
        "select format('%s.%s %s %s %s', table_name, column_name, data_type, is_nullable, column_default)
         from information_schema.columns where table_schema = 'public'
         union all select indexdef from pg_indexes where schemaname = 'public'
         union all select format('%s %s', conrelid::regclass, pg_get_constraintdef(oid))
         from pg_constraint where connamespace = 'public'::regnamespace
         union all select pg_get_triggerdef(oid) from pg_trigger where not tgisinternal
         order by 1",
    );
    rows.fetch_all(&mut conn).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn migrations_that_are_killed_at_any_statement_are_begun_again_and_lead_to_the_same_schema() {
    let database = TestDatabase::create().await;
    database.execute(KILLER).await;
    let (mut at, mut done, mut kills) = (1, 0, 0);
    loop {
        database
            .execute(&format!("update killer_plan set at = {at}; select setval('killer_seen', 1, false)"))
            .await;
        match migrate(database.options()).await {
            Ok(_) => break,
            Err(OpenError::Migrate(error)) => {
                let text = format!("{error:?}");
                assert!(text.contains("57P01"), "it failed by itself: {text}");
            }
            Err(other) => panic!("{other:?}"),
        }
        kills += 1;
        let now = applied(&database).await;
        // Each migration from its first statement on: the next attempt finds those before it done.
        at = if now > done || kills == 2 { 1 } else { at + 1 };
        done = now;
        if kills == 2 {
            let last = "create trigger killer before insert on _sqlx_migrations
                        for each row execute function kill_at_row()";
            database.execute(last).await;
        }
    }
    assert!(kills > 60, "only {kills} statements were cut off");
    database.execute(NO_KILLER).await;

    let whole = TestDatabase::create().await;
    Manager::open(whole.options(), config()).await.unwrap().close().await;
    assert_eq!(applied(&database).await, applied(&whole).await);
    assert_eq!(schema(&database).await, schema(&whole).await);
}
