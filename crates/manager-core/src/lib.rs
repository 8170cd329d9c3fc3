//! The manager: everything that is kept, and the API to manage it.
//!
//! `store` holds all SQL, `auth` decides who may do what, `audit` keeps who did what, `admin` is the
//! HTTP API, `app_users` has the rules for apps' own users, `assets` hands out static files, `callers` answers the ingress who calls a route, `events` delivers what happens to scripts, `domains` says which hosts apps may claim,
//! `oidc` asks identity providers who somebody is, `plan` says what a manifest changes, `snapshot` is the routing table in memory, `recorder` the execution log, `budgets` what
//! apps may use over time, `incidents` what is done about scripts that hurt their workers, `services` answers what scripts ask for, `outbound` asks the world for them and `mail` writes to it, `data` is what they keep. Nothing
//! here knows workers, frames
//! or Rhai: scripts are compiled and run through the port `Invoke`.

#![forbid(unsafe_code)]

mod admin;
mod app_users;
mod assets;
mod audit;
mod auth;
mod bootstrap;
mod buckets;
mod budgets;
mod bundles;
mod callers;
mod catch_up;
mod data;
mod deploy;
mod diff;
mod domains;
mod events;
mod incidents;
mod mail;
mod manager;
mod modules;
mod oidc;
mod outbound;
mod permits;
mod places;
mod plan;
mod realtime;
mod recorder;
mod recovery;
mod secrets;
mod services;
mod shares;
mod snapshot;
mod store;
mod tally;
mod vault;

pub use crate::admin::{Beside, Permission, openapi, permissions, permissions_beside};
pub use crate::auth::HashError;
pub use crate::bootstrap::{BootstrapError, FirstOwner};
pub use crate::data::files::blobs::{FileStorage, S3Bucket, StorageError};
pub use crate::data::files::orphans::OrphanSweep;
pub use crate::events::{EventCounters, EventRetention};
pub use crate::mail::{MailServer, MailSettings, MailTls, NoMailServer, Unreachable};
pub use crate::manager::{Manager, ManagerConfig, OpenDeadLetters, PasswordError};
pub use crate::oidc::{NewRole, OidcSettings};
pub use crate::outbound::Addresses;
pub use crate::recorder::{RecorderCounters, Retention};
pub use crate::recovery::{PasswordReset, ResetError, reset_password};
pub use crate::store::DatabaseCounters;
pub use crate::store::migrations::{OpenError, migrate};
pub use crate::store::row_security::{ROW_SECURITY_ROLE, RowSecurity, row_security};
pub use crate::tally::ExecutionCounters;
pub use crate::vault::{InvalidKey, KeyKeeper, MasterKey, MasterKeys, WrongMasterKey};
