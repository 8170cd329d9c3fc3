//! The real binary with real workers and a real PostgreSQL, seen from outside: by HTTP, by signals
//! and through `/proc`.
//!
//! Run by `make test`, which starts the database server.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails, and says why")]

mod apps;
mod assets;
mod attacks;
mod bad_input;
mod budgets;
mod calls;
mod capabilities;
mod caps;
mod changes;
mod changes_and_crashes;
mod context;
mod crashes;
mod cron_overlap;
mod deliveries;
mod docs;
mod domains;
mod dry_run;
mod email;
mod examples;
mod executions;
mod failpoints;
mod files;
mod harness;
mod hello;
mod http;
mod isolation;
mod jail;
mod key_changes;
mod kv;
mod lifecycle;
mod modules;
mod oidc;
mod operation;
mod pic;
mod quarantine;
mod queues;
mod realtime;
mod response;
mod routes;
mod sdk;
mod secrets;
mod starters;
mod tour;
mod tracing;
mod triggers;
mod users;
mod versions;
mod webhooks;
mod worker_loss;
