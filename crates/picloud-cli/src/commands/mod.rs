//! The commands of `pic`, one file each.

pub(crate) mod apply;
pub(crate) mod apps;
pub(crate) mod assets;
pub(crate) mod completions;
pub(crate) mod deploy;
pub(crate) mod docs;
pub(crate) mod domains;
pub(crate) mod executions;
pub(crate) mod invoke;
pub(crate) mod keys;
pub(crate) mod kv;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod logs;
pub(crate) mod members;
pub(crate) mod plan;
pub(crate) mod queues;
pub(crate) mod rollback;
pub(crate) mod routes;
pub(crate) mod scripts;
pub(crate) mod secrets;
pub(crate) mod sessions;
pub(crate) mod show;
pub(crate) mod transfers;
pub(crate) mod triggers;
pub(crate) mod whoami;
