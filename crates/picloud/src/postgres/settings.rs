//! How the private server is tuned: small, durable, and asleep when nothing is to do.
//!
//! The settings go on the command line of every start, so that an upgrade of PiCloud takes effect,
//! and no file that PostgreSQL's user could replace has to be written by root.

use std::ffi::OsString;
use std::path::Path;

/// The number in the socket's name; nothing listens on a TCP port.
pub(super) const PORT: u16 = 5432;

const SETTINGS: &[(&str, &str)] = &[
    // Who can connect: the Unix socket's owner and root, with a password.
    ("listen_addresses", ""),
    ("unix_socket_permissions", "0700"),
    ("password_encryption", "scram-sha-256"),
    // 16 for calls of scripts and for everything else, one for each channel that is listened to, and room for
    // those of the people who look after it: `psql`, `pg_dump` with several jobs.
    ("max_connections", "32"),
    ("superuser_reserved_connections", "2"),
    // Nothing acknowledged is lost.
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    // Memory of a small board.
    ("shared_buffers", "32MB"),
    ("work_mem", "2MB"),
    ("maintenance_work_mem", "16MB"),
    ("effective_cache_size", "128MB"),
    ("huge_pages", "off"),
    ("jit", "off"),
    ("max_worker_processes", "1"),
    ("max_parallel_workers_per_gather", "0"),
    // One node, no replica: the least that has to be written.
    ("wal_level", "minimal"),
    ("max_wal_senders", "0"),
    ("max_logical_replication_workers", "0"),
    ("min_wal_size", "32MB"),
    ("max_wal_size", "256MB"),
    ("wal_compression", "on"),
    ("checkpoint_timeout", "15min"),
    // Idle, the background writer sleeps 50 and the WAL writer 25 of these. A commit does not
    // wait for either; but one with synchronous_commit off is only safe after up to three delays
    // of the WAL writer, which is why that one stays short.
    ("bgwriter_delay", "5s"),
    ("wal_writer_delay", "1s"),
    ("autovacuum", "on"),
    ("autovacuum_naptime", "5min"),
    ("autovacuum_max_workers", "1"),
    ("track_counts", "on"),
    // A forgotten transaction would hold back vacuum for ever.
    ("idle_in_transaction_session_timeout", "10s"),
    // The log goes to standard error, a file that PiCloud opened. It holds no values.
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("log_line_prefix", "%m [%p] "),
    ("log_checkpoints", "off"),
    ("log_parameter_max_length", "0"),
    ("log_parameter_max_length_on_error", "0"),
    ("log_timezone", "UTC"),
    ("timezone", "UTC"),
    ("cluster_name", "picloud"),
];

/// The server's arguments.
pub(super) fn arguments(cluster: &Path, socket_dir: &Path) -> Vec<OsString> {
    let mut arguments = vec![OsString::from("-D"), cluster.into()];
    let mut set = |name: &str, value: &str| {
        arguments.push("-c".into());
        arguments.push(format!("{name}={value}").into());
    };
    set("port", &PORT.to_string());
    // A list of directories, in which quotes keep a comma or a space in a name together.
    let quoted = socket_dir.to_string_lossy().replace('"', "\"\"");
    set("unix_socket_directories", &format!("\"{quoted}\""));
    for (name, value) in SETTINGS {
        set(name, value);
    }
    arguments
}
