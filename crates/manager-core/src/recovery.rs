//! Helping somebody back in who forgot their password, by who can reach the database: no login is
//! asked for, and the audit log says that the platform did it.

use secrecy::SecretString;
use shared::name::Username;
use sqlx::postgres::PgConnectOptions;

use crate::audit::{self, Actor, Entry};
use crate::auth::{Auth, HashError};
use crate::store::{self, Database};

/// Names that are shown to who misspelt one.
const NAMES_SHOWN: i64 = 10;

/// What is to be done.
#[derive(Debug)]
pub struct PasswordReset {
    pub username: Username,
    pub password: SecretString,
    /// Also do without the second factor, for who lost their phone too.
    pub removes_second_factor: bool,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    #[error("there is no user {asked}; there are {}", .known.join(", "))]
    NoUser { asked: Username, known: Vec<String> },
    #[error(transparent)]
    Password(#[from] HashError),
    #[error("the database cannot be used")]
    Database(#[from] sqlx::Error),
}

/// Sets the password and ends every session of its person. A server that runs meanwhile sees it at
/// once; their API keys go on working.
pub async fn reset_password(options: PgConnectOptions, reset: PasswordReset) -> Result<(), ResetError> {
    let database = Database::connect(options).await?;
    let done = reset_on(&database, reset).await;
    database.close().await;
    done
}

async fn reset_on(database: &Database, reset: PasswordReset) -> Result<(), ResetError> {
    let PasswordReset { username, password, removes_second_factor } = reset;
    let mut tx = database.begin().await?;
    let Some(person) = store::users::by_name(&mut tx, &username).await? else {
        let people = store::users::page(&mut tx, None, NAMES_SHOWN).await?;
        let known = people.iter().map(|person| person.user.username.to_string()).collect();
        return Err(ResetError::NoUser { asked: username, known });
    };
    let hash = Auth::new(database.clone()).hash_new_password(password, &person.user.username).await?;
    store::users::set_password_hash(&mut tx, person.user.id, &hash).await?;
    store::sessions::end_all(&mut tx, person.user.id, None).await?;
    if removes_second_factor {
        store::second_factors::remove(&mut tx, person.user.id).await?;
    }
    audit::append(&mut tx, Entry::new(Actor::platform(), "user.reset_password", &person.user.username))
        .await?;
    tx.commit().await?;
    Ok(())
}
