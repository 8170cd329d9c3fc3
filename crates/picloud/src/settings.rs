//! The keys of the configuration file: one table, from which the file is read, its mistakes are named,
//! and `docs/config.md` is written.

use std::path::PathBuf;

use anyhow::bail;
use manager_core::OidcSettings;
use secrecy::SecretString;
use serde::Deserialize;

/// A setting as the documentation shows it.
#[derive(Debug)]
pub struct Setting {
    pub key: &'static str,
    pub variable: &'static str,
    /// In words; the code that resolves it has the value.
    pub default: &'static str,
    pub meaning: &'static str,
}

macro_rules! settings {
    ($($key:ident: $type:ty, $variable:literal, $default:literal, $meaning:literal;)+) => {
        /// The file's form: every key is optional.
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct File {
            $(#[doc = $meaning] pub $key: Option<$type>,)+
        }

        /// Every key of the file.
        pub const SETTINGS: &[Setting] = &[
            $(Setting { key: stringify!($key), variable: $variable, default: $default, meaning: $meaning },)+
        ];
    };
}

settings! {
    data_dir: PathBuf, "PICLOUD_DATA_DIR", "`picloud-data`",
        "Directory of everything that is kept outside the database, and of the private PostgreSQL.";
    bind: String, "PICLOUD_BIND", "`127.0.0.1:8080`",
        "Address and port to listen on.";
    database_url: SecretString, "DATABASE_URL", "a private PostgreSQL",
        "A PostgreSQL server to use instead of a private one, such as `postgres://user:password@host/database`.";
    workers: usize, "PICLOUD_WORKERS", "one for each core, at least 2",
        "Worker processes that always run, 1 to 256.";
    slots_per_worker: u16, "PICLOUD_SLOTS_PER_WORKER", "16",
        "Executions of one worker at a time, 1 to 256; each takes 4 GiB of address space.";
    workers_max: usize, "PICLOUD_WORKERS_MAX", "what an eighth of the memory has room for",
        "Most workers at once while tenants are kept apart, `workers` to 256. The memory is the machine's, or what the \
         control groups around the server leave of it, such as a container's.";
    app_slots_max: usize, "PICLOUD_APP_SLOTS_MAX", "half of all slots; in `strict` isolation `workers`",
        "Executions of one app at a time, 1 to all slots (`workers` times `slots_per_worker`; in `strict` isolation `workers`, \
         as each has one slot); its others wait.";
    body_memory_mb: u32, "PICLOUD_BODY_MEMORY_MB", "an eighth of the memory, at least 64",
        "MiB that bodies of requests may take until they are answered, and answers until they are taken, 64 to 1,048,576; \
         those of one app, those of one client, and those of one person who asks the admin API, have half of it at most.";
    isolation: String, "PICLOUD_ISOLATION", "`pinned`",
        "What keeps tenants apart: `shared` (fresh memory), `pinned` (workers of their own for each owner), \
         `strict` (for each app), or `off`, which takes the walls around workers away.";
    base_domain: String, "PICLOUD_BASE_DOMAIN", "`localhost`",
        "The app `blog` answers on `blog.` and this.";
    public_url: String, "PICLOUD_PUBLIC_URL", "`http://`, `base_domain` and the port",
        "Where people reach this server.";
    trusted_proxies: Vec<String>, "PICLOUD_TRUSTED_PROXIES", "none",
        "Addresses or networks whose `X-Forwarded-For` and `X-Request-Id` are believed; between commas in the \
         environment, a list in the file.";
    api_requests_per_minute: u32, "PICLOUD_API_REQUESTS_PER_MINUTE", "600",
        "Requests to the admin API in a minute by one session or key, 10 to 1,000,000; five times as many from one \
         address.";
    dns_servers: Vec<String>, "PICLOUD_DNS_SERVERS", "the machine's own",
        "DNS servers, by address, with a port unless it is 53, to ask who owns a domain; between commas in the \
         environment, a list in the file.";
    files_dir: PathBuf, "PICLOUD_FILES_DIR", "`files` in `data_dir`",
        "Directory of what scripts keep with `files`, unless there is a bucket.";
    files_s3_bucket: String, "PICLOUD_FILES_S3_BUCKET", "none",
        "Bucket of a server that speaks S3, for what scripts keep with `files`.";
    files_s3_endpoint: String, "PICLOUD_FILES_S3_ENDPOINT", "Amazon's",
        "Address of that server, such as `http://minio:9000`.";
    files_s3_region: String, "PICLOUD_FILES_S3_REGION", "`us-east-1`",
        "Region of the bucket.";
    smtp_host: String, "PICLOUD_SMTP_HOST", "none: scripts cannot send mail",
        "Mail server that takes the mails of scripts, by name or address, such as `smtp.example.org`. See \
         [mail](email.md).";
    smtp_port: u16, "PICLOUD_SMTP_PORT", "what goes with `smtp_tls`: 587, 465 or 25",
        "Its port.";
    smtp_tls: String, "PICLOUD_SMTP_TLS", "`starttls`",
        "How the connection to it is encrypted: `starttls` (it must be, once it is there), `tls` (from the first byte), or \
         `none`, for a mail server on the same machine.";
    smtp_username: String, "PICLOUD_SMTP_USERNAME", "none",
        "Name by which this server logs in to it.";
    smtp_password: SecretString, "PICLOUD_SMTP_PASSWORD", "none",
        "The password that goes with it.";
    smtp_password_file: PathBuf, "PICLOUD_SMTP_PASSWORD_FILE", "none",
        "A file that has the password, instead of that.";
    smtp_from: String, "PICLOUD_SMTP_FROM", "none",
        "Address that all mails of scripts come from, such as `PiCloud <noreply@example.org>`; it must be set where \
         `smtp_host` is.";
    oidc: Vec<OidcSettings>, "PICLOUD_OIDC", "none",
        "Identity providers by which people log in: a list of tables, in the environment too, written as in TOML. \
         See [people](people.md#logging-in-with-an-identity-provider).";
    log_format: String, "PICLOUD_LOG_FORMAT", "`text`",
        "Lines of the server's log, on standard error: `text` to read, or `json`, an object a line.";
    otlp_endpoint: String, "PICLOUD_OTLP_ENDPOINT", "none",
        "A collector of traces that speaks OTLP over HTTP, such as `http://localhost:4318`.";
    otlp_headers: SecretString, "PICLOUD_OTLP_HEADERS", "none",
        "Headers for the collector, such as `authorization=Bearer …`, with commas between them.";
    otlp_sample_percent: u8, "PICLOUD_OTLP_SAMPLE_PERCENT", "100",
        "Of the traces that begin here, so many in a hundred are recorded; a caller's `traceparent` goes before it.";
    http_allow_private: Vec<String>, "PICLOUD_HTTP_ALLOW_PRIVATE", "none",
        "Networks that scripts may send requests to although they are not public, such as `192.168.1.0/24` for a \
         printer at home. Every script of every app may then.";
    http_deny: Vec<String>, "PICLOUD_HTTP_DENY", "none",
        "Networks that scripts may not send requests to although they are public.";
    retention_days: u32, "PICLOUD_RETENTION_DAYS", "30",
        "Execution records are kept for so many days, 1 to 3,650.";
    retention_executions: u32, "PICLOUD_RETENTION_EXECUTIONS", "100,000",
        "So many records are kept of one app, 1 to 100,000,000.";
    retention_dead_letters: u32, "PICLOUD_RETENTION_DEAD_LETTERS", "10,000",
        "So many dead letters are kept of one app, the newest, 1 to 1,000,000; none longer than 30 days.";
    retention_dead_letters_mb: u32, "PICLOUD_RETENTION_DEAD_LETTERS_MB", "256",
        "So many MiB of dead letters are kept of one app, 64 to 1,048,576: their events, and the errors of the \
         attempts.";
    retention_abandoned: u32, "PICLOUD_RETENTION_ABANDONED", "10,000",
        "So many executions for whose answers nobody waited are kept of one app, 1 to 1,000,000; none longer than \
         7 days.";
}

/// What only the environment says: secrets that need no file, and what is asked for once.
pub const ONLY_VARIABLES: &[Setting] = &[
    Setting {
        key: "",
        variable: "PICLOUD_ADMIN_USERNAME",
        default: "`admin`",
        meaning: "Name of the first owner; looked at while there is none.",
    },
    Setting {
        key: "",
        variable: "PICLOUD_ADMIN_PASSWORD",
        default: "made up and kept in `initial-admin-password` of the data directory",
        meaning: "Password of the first owner; looked at while there is none.",
    },
    Setting {
        key: "",
        variable: "PICLOUD_SECRET_KEY",
        default: "made up and kept in `secret-key` of the data directory",
        meaning: "What apps' secrets are sealed with: 32 bytes in base64, as `openssl rand -base64 32` prints. \
                  Without it, a database or a backup keeps its secrets to itself; so keep a copy elsewhere.",
    },
    Setting {
        key: "",
        variable: "PICLOUD_FILES_S3_ACCESS_KEY_ID",
        default: "none",
        meaning: "Credential for the bucket of `files_s3_bucket`.",
    },
    Setting {
        key: "",
        variable: "PICLOUD_FILES_S3_SECRET_ACCESS_KEY",
        default: "none",
        meaning: "The credential's secret.",
    },
    Setting {
        key: "",
        variable: "RUST_LOG",
        default: "`info`",
        meaning: "What is logged, such as `debug` or `warn,manager_core=debug`.",
    },
];

/// Reads a file. An unknown key is an error that names it, and the one that was probably meant.
pub fn read(text: &str) -> anyhow::Result<File> {
    let table: toml::Table = toml::from_str(text)?;
    for key in table.keys() {
        if !SETTINGS.iter().any(|setting| setting.key == key) {
            bail!("unknown key {key:?}{}", suggestion(key, SETTINGS.iter().map(|setting| setting.key)));
        }
    }
    Ok(toml::from_str(text)?)
}

/// Variables that look like settings and are none: misspelt ones would go unnoticed.
pub fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<String> {
    let known = || SETTINGS.iter().chain(ONLY_VARIABLES).map(|setting| setting.variable);
    names
        .filter(|name| name.starts_with("PICLOUD_") && !known().any(|variable| variable == name))
        // Those of the command line tool and of tests are not the server's.
        .filter(|name| !["PICLOUD_URL", "PICLOUD_TOKEN"].contains(&name.as_str()))
        .filter(|name| !name.starts_with("PICLOUD_TEST_") && !name.starts_with("PICLOUD_WRITE_"))
        .map(|name| format!("{name} is no setting{}", suggestion(&name, known())))
        .collect()
}

/// Names with at most this share of wrong letters are taken for misspelt.
const LIKENESS_MIN: f64 = 0.6;

fn suggestion(given: &str, known: impl Iterator<Item = &'static str>) -> String {
    let given = given.replace('-', "_");
    let likeness =
        |name: &str| strsim::normalized_damerau_levenshtein(&given.to_lowercase(), &name.to_lowercase());
    let nearest = known.map(|name| (likeness(name), name)).max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((likeness, name)) if likeness >= LIKENESS_MIN => format!("; did you mean {name}?"),
        _ => "; docs/config.md lists all of them".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    #[test]
    fn a_misspelt_key_is_named_with_the_one_that_was_meant() {
        let error = |text| format!("{:#}", read(text).unwrap_err());
        assert_eq!(error("worker = 3"), "unknown key \"worker\"; did you mean workers?");
        assert_eq!(
            error("slots-per-worker = 3"),
            "unknown key \"slots-per-worker\"; did you mean slots_per_worker?"
        );
        assert_eq!(error("colour = 1"), "unknown key \"colour\"; docs/config.md lists all of them");
        assert!(error("workers = \"many\"").contains("workers = \"many\""));
        assert!(read("").is_ok());
    }

    #[test]
    fn a_misspelt_variable_is_named_too() {
        let names = ["PICLOUD_WORKER", "PICLOUD_WORKERS", "PICLOUD_TEST_DATABASE_URL", "PICLOUD_URL", "HOME"];
        let found = unknown_variables(names.into_iter().map(str::to_owned));
        assert_eq!(found, ["PICLOUD_WORKER is no setting; did you mean PICLOUD_WORKERS?"]);
    }

    #[test]
    fn the_documented_settings_are_those_that_are_read() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/config.md");
        let written = written();
        if std::env::var_os("PICLOUD_WRITE_DOCS").is_some() {
            std::fs::write(page, &written).unwrap();
        }
        let kept = std::fs::read_to_string(page).unwrap_or_default();
        assert!(kept == written, "docs/config.md is stale: run this test with PICLOUD_WRITE_DOCS=1");
    }

    fn written() -> String {
        let mut page = String::from(include_str!("settings.head.md"));
        page += "| key | variable | default | what it is |\n|---|---|---|---|\n";
        for Setting { key, variable, default, meaning } in SETTINGS {
            writeln!(page, "| `{key}` | `{variable}` | {default} | {meaning} |").unwrap();
        }
        page += "\n## Only in the environment\n\n| variable | default | what it is |\n|---|---|---|\n";
        for Setting { variable, default, meaning, .. } in ONLY_VARIABLES {
            writeln!(page, "| `{variable}` | {default} | {meaning} |").unwrap();
        }
        page
    }
}
