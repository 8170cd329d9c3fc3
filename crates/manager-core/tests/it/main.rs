//! The manager against a real PostgreSQL. What crosses a process boundary, the pool of workers, is
//! a small double; the real one is in the end-to-end tests of the crate `picloud`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod allowances;
mod api_keys;
mod app_users;
mod apps;
mod assets;
mod atomic;
mod audit;
mod auth;
mod bootstrap;
mod budgets;
mod calls;
mod cookies;
mod database;
mod doc_indexes;
mod doc_schemas;
mod docs;
mod domains;
mod executions;
mod files;
mod foreign;
mod forged;
mod harness;
mod idempotency;
mod incidents;
mod invoke;
mod isolation;
mod kv;
mod logins;
mod members;
mod migrations;
mod openapi;
mod outbox;
mod permissions;
mod plan;
mod pool;
mod preconditions;
mod rates;
mod recorder;
mod routes;
mod row_security;
mod scripts;
mod secrets;
mod snapshot;
mod system;
mod tail;
mod topics;
mod totp;
mod transfers;
mod triggers;
mod users;
mod webhooks;
