//! The composition root as a library, so that integration tests can start its parts. The binary in
//! `main.rs` only parses arguments and calls in here.
#![forbid(unsafe_code)]

pub mod api;
pub mod config;
pub mod data_dir;
pub mod doctor;
pub mod health;
pub mod memory;
pub mod metrics;
pub mod migrate;
pub mod own_addresses;
pub mod owner;
pub mod postgres;
pub mod process_status;
pub mod reset;
pub mod secret_key;
pub mod serve;
pub mod settings;
mod smtp;
pub mod system;
pub mod telemetry;
pub mod tls_ask;
pub mod walls;
