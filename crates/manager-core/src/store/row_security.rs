//! Whether the database itself keeps apps apart: the policies of its tables hold for a role that owns nothing,
//! under which the connections of [`AppDatabase`](super::app_database::AppDatabase) work.

use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, FromRow};

use super::Database;

/// The role for which the policies hold. Roles are a whole server's: every PiCloud on it has this one.
pub const ROW_SECURITY_ROLE: &str = "picloud_scripts";

/// PostgreSQL's code for what a user may not do.
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// Whether row security holds, or what keeps it from that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowSecurity {
    Holds,
    /// There is no such role yet, and whether the database's user may make it.
    NoRole {
        can_be_made: bool,
    },
    /// The database's user may not work under the role, or has not let it use the tables.
    NotAllowed,
    /// The policies do not hold for the role: it is a superuser's, or the owner's of the tables.
    Bypassed,
}

/// What is known of the role without being it.
#[derive(FromRow)]
struct Role {
    is_there: bool,
    can_be_made: bool,
    /// A table with a policy; none where there are no policies yet.
    table_id: Option<Oid>,
}

/// What the role itself finds.
#[derive(FromRow)]
struct Seen {
    is_subject: bool,
    may_use: bool,
}

/// Asks a database how it stands.
pub async fn row_security(options: &PgConnectOptions) -> sqlx::Result<RowSecurity> {
    let mut conn = PgConnection::connect_with(options).await?;
    let found = look(&mut conn).await?;
    conn.close().await?;
    Ok(found)
}

/// Makes what the wall needs, as far as the database lets us.
pub(super) async fn raise(owner: &Database) -> sqlx::Result<RowSecurity> {
    let mut conn = owner.acquire().await?;
    match sqlx::raw_sql(include_str!("row_security.sql")).execute(&mut *conn).await {
        Err(error) if !is_refusal(&error) => Err(error),
        _ => look(&mut conn).await,
    }
}

/// The schema with the tables, as an option of a connection takes it: under another role it would be another one
/// where it has its user's name.
pub(super) async fn schema(owner: &Database) -> sqlx::Result<String> {
    let mut conn = owner.acquire().await?;
    sqlx::query_scalar("select quote_ident(current_schema)").fetch_one(&mut *conn).await
}

async fn look(conn: &mut PgConnection) -> sqlx::Result<RowSecurity> {
    let role: Role = sqlx::query_as(
        "select exists (select from pg_roles where rolname = $1) as is_there,
                rolsuper or rolcreaterole as can_be_made,
                case when to_regproc('current_app') is not null then to_regclass('kv')::oid end as table_id
         from pg_roles
         where rolname = session_user",
    )
    .bind(ROW_SECURITY_ROLE)
    .fetch_one(&mut *conn)
    .await?;
    if !role.is_there {
        return Ok(RowSecurity::NoRole { can_be_made: role.can_be_made });
    }
    let mut tx = conn.begin().await?;
    match sqlx::raw_sql("set local role picloud_scripts").execute(&mut *tx).await {
        Ok(_) => {}
        Err(error) if is_refusal(&error) => return Ok(RowSecurity::NotAllowed),
        Err(error) => return Err(error),
    }
    // Where there are no policies yet, what matters is who it is.
    let seen: Seen = sqlx::query_as(
        "select not (rolsuper or rolbypassrls) and coalesce(row_security_active($1), true) as is_subject,
                coalesce(has_table_privilege($1, 'insert'), true)
                    and coalesce(has_schema_privilege((select relnamespace from pg_class where oid = $1), 'usage'),
                                 true) as may_use
         from pg_roles
         where rolname = current_user",
    )
    .bind(role.table_id)
    .fetch_one(&mut *tx)
    .await?;
    tx.rollback().await?;
    Ok(match seen {
        Seen { is_subject: false, .. } => RowSecurity::Bypassed,
        Seen { may_use: false, .. } => RowSecurity::NotAllowed,
        _ => RowSecurity::Holds,
    })
}

fn is_refusal(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.code().is_some_and(|code| code == INSUFFICIENT_PRIVILEGE))
}
