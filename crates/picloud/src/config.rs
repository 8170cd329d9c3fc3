//! Settings: defaults, then a TOML file, then the environment. The only place of this binary that
//! reads the environment.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use ipnet::IpNet;
use manager_core::{FileStorage, MailServer, MasterKey, OidcSettings, S3Bucket};
use orchestrator_core::pool::Mode;
use secrecy::SecretString;
use serde::Deserialize;
use shared::limits::BODIES_BYTES_MIN;

use crate::memory;
use crate::settings::{self, File};
use crate::smtp;
use crate::telemetry::LogFormat;
use crate::telemetry::otlp::Otlp;
use crate::walls;

/// Everything an operator can set, ready to use.
#[derive(Debug, Clone)]
pub struct Config {
    pub data_dir: PathBuf,
    pub bind: SocketAddr,
    /// A PostgreSQL server to use instead of a private one.
    pub database_url: Option<SecretString>,
    pub workers: usize,
    pub slots_per_worker: u16,
    /// Most workers at once while tenants are kept apart.
    pub workers_max: usize,
    /// Executions of one app at a time; half of all slots unless set.
    pub app_slots_max: Option<usize>,
    /// Bytes of bodies of requests to routes until they are answered.
    pub body_memory_bytes: u64,
    pub isolation: Mode,
    pub base_domain: String,
    /// Where people reach this server; derived from `bind` unless set.
    pub public_url: String,
    pub trusted_proxies: Vec<IpNet>,
    /// Requests to the admin API by one session or key.
    pub api_requests_per_minute: u32,
    /// DNS servers to ask who owns a domain; the machine's own unless set.
    pub dns_servers: Vec<SocketAddr>,
    /// Identity providers by which people log in.
    pub oidc: Vec<OidcSettings>,
    pub log_format: LogFormat,
    /// Where traces go; nowhere unless set.
    pub otlp: Option<Otlp>,
    /// Networks that scripts may reach although they are private, and those they may not although public.
    pub http_allow_private: Vec<IpNet>,
    pub http_deny: Vec<IpNet>,
    /// Where mails of scripts go; nowhere unless set.
    pub mail_server: Option<MailServer>,
    /// Where the content of files goes.
    pub files: FileStorage,
    /// How much is kept of what has run.
    pub kept: Kept,
    /// The first owner's name and password; asked for only while there is no owner.
    pub admin_username: String,
    pub admin_password: Option<SecretString>,
    /// What secrets are sealed with, if it is not kept in the data directory.
    pub secret_key: Option<MasterKey>,
}

/// How long and how much is kept for people to look at, of one app each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Execution records for so many days.
    pub days: u32,
    pub executions: u32,
    pub dead_letters: u32,
    pub dead_letters_mb: u32,
    pub abandoned: u32,
}

/// A month is what people look back for.
const RETENTION_DAYS_DEFAULT: u32 = 30;
/// About ten years, the same as for ever.
const RETENTION_DAYS_MAX: u32 = 3_650;
/// At about 1 KiB a record with its indexes, 100 MB for a busy app.
const RETENTION_EXECUTIONS_DEFAULT: u32 = 100_000;
/// 100 GB, more than anybody should have in this table.
const RETENTION_EXECUTIONS_MAX: u32 = 100_000_000;
/// More than anybody looks through; a script that fails all day makes as many in hours.
const RETENTION_DEAD_LETTERS_DEFAULT: u32 = 10_000;
/// From time to time all of them are counted and their sizes added, which takes a second for so many.
const RETENTION_DEAD_LETTERS_MAX: u32 = 1_000_000;
/// As many of 26 KiB each, which is a long message.
const RETENTION_DEAD_LETTERS_MB_DEFAULT: u32 = 256;
/// Room for the largest event, which is a request with a body of 32 MiB.
const RETENTION_DEAD_LETTERS_MB_MIN: u32 = 64;
/// A terabyte, the same as any number.
const RETENTION_DEAD_LETTERS_MB_MAX: u32 = 1 << 20;
/// At about 200 bytes each, 2 MB.
const RETENTION_ABANDONED_DEFAULT: u32 = 10_000;
const RETENTION_ABANDONED_MAX: u32 = 1_000_000;
/// Most slots of one worker; each takes 4 GiB of address space.
const SLOTS_PER_WORKER_MAX: u16 = 256;
const WORKERS_MAX: usize = 256;
/// Ten a second: a dashboard or a program that deploys asks less, one that runs wild more.
const API_REQUESTS_DEFAULT: u32 = 600;
/// Fewer would not show one page of the dashboard.
const API_REQUESTS_MIN: u32 = 10;
/// More than one server answers, the same as none.
const API_REQUESTS_MAX: u32 = 1_000_000;

impl Config {
    /// Reads the file, if one is given, and the environment.
    pub fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let file = match file {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the configuration {}", path.display()))?;
                settings::read(&text).with_context(|| format!("in the configuration {}", path.display()))?
            }
            None => File::default(),
        };
        Self::resolve(file, &|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn resolve(file: File, env: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let data_dir = env("PICLOUD_DATA_DIR").map(PathBuf::from).or_else(|| file.data_dir.clone());
        let data_dir = data_dir.unwrap_or_else(|| PathBuf::from("picloud-data"));
        let files = files(&file, &data_dir, env)?;
        let kept = Kept::of(&file, env)?;
        let mail_server = smtp::server(&file, env)?;
        let bind = env("PICLOUD_BIND").or(file.bind).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
        let bind = parse::<SocketAddr>("PICLOUD_BIND", &bind, "an address and port such as 127.0.0.1:8080")?;
        let workers = number("PICLOUD_WORKERS", env)?.or(file.workers).unwrap_or_else(default_workers);
        let slots_per_worker =
            number("PICLOUD_SLOTS_PER_WORKER", env)?.or(file.slots_per_worker).unwrap_or(16);
        if !(1..=WORKERS_MAX).contains(&workers) {
            bail!("PICLOUD_WORKERS is {workers}; it may be 1 to {WORKERS_MAX}");
        }
        if !(1..=SLOTS_PER_WORKER_MAX).contains(&slots_per_worker) {
            bail!("PICLOUD_SLOTS_PER_WORKER is {slots_per_worker}; it may be 1 to {SLOTS_PER_WORKER_MAX}");
        }
        let workers_max = number("PICLOUD_WORKERS_MAX", env)?
            .or(file.workers_max)
            .unwrap_or_else(|| memory::workers_max(workers).min(WORKERS_MAX));
        if !(workers..=WORKERS_MAX).contains(&workers_max) {
            bail!(
                "PICLOUD_WORKERS_MAX is {workers_max}; it may be {workers} (PICLOUD_WORKERS) to {WORKERS_MAX}"
            );
        }
        let isolation = env("PICLOUD_ISOLATION").or(file.isolation);
        let isolation =
            isolation.map(|word| parse::<Mode>("PICLOUD_ISOLATION", &word, "shared, pinned, strict or off"));
        let isolation = isolation.transpose()?.unwrap_or_default();
        let app_slots_max = number("PICLOUD_APP_SLOTS_MAX", env)?.or(file.app_slots_max);
        let app_slots = isolation.app_slots(workers, slots_per_worker);
        walls::check_app_slots(app_slots_max, isolation, app_slots)?;
        let log_format = env("PICLOUD_LOG_FORMAT").or(file.log_format);
        let log_format = log_format.map(|word| parse("PICLOUD_LOG_FORMAT", &word, "text or json"));
        let base_domain =
            env("PICLOUD_BASE_DOMAIN").or(file.base_domain).unwrap_or_else(|| "localhost".to_owned());
        let public_url = env("PICLOUD_PUBLIC_URL")
            .or(file.public_url)
            .unwrap_or_else(|| format!("http://{base_domain}:{}", bind.port()));
        let dns_servers = list("PICLOUD_DNS_SERVERS", file.dns_servers, env);
        let otlp = otlp(file.otlp_endpoint, file.otlp_headers, file.otlp_sample_percent, env)?;
        Ok(Self {
            data_dir,
            files,
            mail_server,
            bind,
            database_url: env("DATABASE_URL").map(SecretString::from).or(file.database_url),
            workers,
            slots_per_worker,
            workers_max,
            app_slots_max,
            body_memory_bytes: body_memory(file.body_memory_mb, env)?,
            isolation,
            base_domain,
            public_url: public_url.trim_end_matches('/').to_owned(),
            trusted_proxies: networks("PICLOUD_TRUSTED_PROXIES", file.trusted_proxies, env)?,
            http_allow_private: networks("PICLOUD_HTTP_ALLOW_PRIVATE", file.http_allow_private, env)?,
            http_deny: networks("PICLOUD_HTTP_DENY", file.http_deny, env)?,
            api_requests_per_minute: api_rate(file.api_requests_per_minute, env)?,
            dns_servers: dns_servers.iter().map(|text| dns_server(text)).collect::<anyhow::Result<_>>()?,
            oidc: providers(file.oidc, env)?,
            log_format: log_format.transpose()?.unwrap_or_default(),
            otlp,
            kept,
            admin_username: env("PICLOUD_ADMIN_USERNAME").unwrap_or_else(|| "admin".to_owned()),
            admin_password: env("PICLOUD_ADMIN_PASSWORD").map(SecretString::from),
            secret_key: secret_key(env)?,
        })
    }

    /// The same once there is a listener: where no port was named, its own is the one.
    pub fn listening(mut self, bound: SocketAddr) -> Self {
        if self.bind.port() == 0
            && let Some(url) = self.public_url.strip_suffix(":0")
        {
            self.public_url = format!("{url}:{}", bound.port());
        }
        self
    }
}

/// Says which variables look like settings and are none.
pub fn warn_of_misspelt_variables() {
    for warning in settings::unknown_variables(variables()) {
        tracing::warn!("{warning}");
    }
}

/// A bucket, if one is named, else a directory.
fn files(file: &File, data_dir: &Path, env: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<FileStorage> {
    let Some(bucket) = env("PICLOUD_FILES_S3_BUCKET").or_else(|| file.files_s3_bucket.clone()) else {
        let directory = env("PICLOUD_FILES_DIR").map(PathBuf::from).or_else(|| file.files_dir.clone());
        return Ok(FileStorage::Directory(directory.unwrap_or_else(|| data_dir.join("files"))));
    };
    let secret = |name: &str| env(name).with_context(|| format!("a bucket for files needs {name}"));
    Ok(FileStorage::S3(S3Bucket {
        bucket,
        endpoint: env("PICLOUD_FILES_S3_ENDPOINT").or_else(|| file.files_s3_endpoint.clone()),
        region: env("PICLOUD_FILES_S3_REGION")
            .or_else(|| file.files_s3_region.clone())
            .unwrap_or_else(|| "us-east-1".to_owned()),
        access_key_id: secret("PICLOUD_FILES_S3_ACCESS_KEY_ID")?,
        secret_access_key: secret("PICLOUD_FILES_S3_SECRET_ACCESS_KEY")?,
    }))
}

/// Names of the environment's variables; one that is no text is no setting.
fn variables() -> impl Iterator<Item = String> {
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())
}

impl Kept {
    fn of(file: &File, env: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let within = |name: &str, file: Option<u32>, default: u32, range: RangeInclusive<u32>| {
            let value = number(name, env)?.or(file).unwrap_or(default);
            if !range.contains(&value) {
                bail!("{name} is {value}; it may be {} to {}", range.start(), range.end());
            }
            Ok(value)
        };
        Ok(Self {
            days: within(
                "PICLOUD_RETENTION_DAYS",
                file.retention_days,
                RETENTION_DAYS_DEFAULT,
                1..=RETENTION_DAYS_MAX,
            )?,
            executions: within(
                "PICLOUD_RETENTION_EXECUTIONS",
                file.retention_executions,
                RETENTION_EXECUTIONS_DEFAULT,
                1..=RETENTION_EXECUTIONS_MAX,
            )?,
            dead_letters: within(
                "PICLOUD_RETENTION_DEAD_LETTERS",
                file.retention_dead_letters,
                RETENTION_DEAD_LETTERS_DEFAULT,
                1..=RETENTION_DEAD_LETTERS_MAX,
            )?,
            dead_letters_mb: within(
                "PICLOUD_RETENTION_DEAD_LETTERS_MB",
                file.retention_dead_letters_mb,
                RETENTION_DEAD_LETTERS_MB_DEFAULT,
                RETENTION_DEAD_LETTERS_MB_MIN..=RETENTION_DEAD_LETTERS_MB_MAX,
            )?,
            abandoned: within(
                "PICLOUD_RETENTION_ABANDONED",
                file.retention_abandoned,
                RETENTION_ABANDONED_DEFAULT,
                1..=RETENTION_ABANDONED_MAX,
            )?,
        })
    }
}

/// One worker for each core; at least two, so that one that is replaced leaves another.
fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2))
}

pub(crate) fn number<T: FromStr>(
    name: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> anyhow::Result<Option<T>> {
    env(name).map(|text| parse(name, &text, "a whole number")).transpose()
}

/// Items with commas between them in the environment, else those of the file.
fn list(name: &str, file: Option<Vec<String>>, env: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    match env(name) {
        Some(list) => list.split(',').map(|item| item.trim().to_owned()).collect(),
        None => file.unwrap_or_default(),
    }
}

/// In bytes.
fn body_memory(file: Option<u32>, env: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<u64> {
    let Some(mb) = number("PICLOUD_BODY_MEMORY_MB", env)?.or(file).map(u64::from) else {
        return Ok(memory::body_bytes_max());
    };
    // From what the largest body needs to a terabyte, which is as good as none.
    let (least, most) = (BODIES_BYTES_MIN >> 20, 1 << 20);
    if !(least..=most).contains(&mb) {
        bail!("PICLOUD_BODY_MEMORY_MB is {mb}; it may be {least} to {most}");
    }
    Ok(mb << 20)
}

fn api_rate(file: Option<u32>, env: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<u32> {
    let rate = number("PICLOUD_API_REQUESTS_PER_MINUTE", env)?.or(file).unwrap_or(API_REQUESTS_DEFAULT);
    if !(API_REQUESTS_MIN..=API_REQUESTS_MAX).contains(&rate) {
        bail!(
            "PICLOUD_API_REQUESTS_PER_MINUTE is {rate}; it may be {API_REQUESTS_MIN} to {API_REQUESTS_MAX}"
        );
    }
    Ok(rate)
}

/// Where traces go, if anywhere.
fn otlp(
    endpoint: Option<String>,
    headers: Option<SecretString>,
    sample_percent: Option<u8>,
    env: &dyn Fn(&str) -> Option<String>,
) -> anyhow::Result<Option<Otlp>> {
    let sample_percent = number("PICLOUD_OTLP_SAMPLE_PERCENT", env)?.or(sample_percent).unwrap_or(100);
    if sample_percent > 100 {
        bail!("PICLOUD_OTLP_SAMPLE_PERCENT is {sample_percent}; it may be 0 to 100");
    }
    let headers = env("PICLOUD_OTLP_HEADERS").map(SecretString::from).or(headers);
    let endpoint = env("PICLOUD_OTLP_ENDPOINT").or(endpoint);
    Ok(endpoint.map(|endpoint| Otlp { endpoint, headers, sample_percent }))
}

/// The identity providers, with the secrets that are in files of their own.
fn providers(
    file: Option<Vec<OidcSettings>>,
    env: &dyn Fn(&str) -> Option<String>,
) -> anyhow::Result<Vec<OidcSettings>> {
    #[derive(Deserialize)]
    struct Line {
        oidc: Vec<OidcSettings>,
    }
    let mut providers = match env("PICLOUD_OIDC") {
        // The parser's own words would show the line, which has a secret in it.
        Some(text) => {
            toml::from_str::<Line>(&format!("oidc = {text}"))
                .map_err(|error| {
                    anyhow::anyhow!("PICLOUD_OIDC is no list of providers: {}", error.message())
                })?
                .oidc
        }
        None => file.unwrap_or_default(),
    };
    OidcSettings::check(&providers).map_err(anyhow::Error::msg)?;
    for provider in &mut providers {
        if let Some(path) = &provider.client_secret_file {
            let secret = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the client_secret_file {}", path.display()))?;
            provider.client_secret = Some(secret.trim_end().into());
        }
    }
    Ok(providers)
}

fn dns_server(text: &str) -> anyhow::Result<SocketAddr> {
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Ok((address, 53).into());
    }
    parse("PICLOUD_DNS_SERVERS", text, "addresses such as 192.0.2.53 or 127.0.0.1:5353")
}

fn networks(
    name: &str,
    file: Option<Vec<String>>,
    env: &dyn Fn(&str) -> Option<String>,
) -> anyhow::Result<Vec<IpNet>> {
    list(name, file, env).iter().map(|text| network(name, text)).collect()
}

fn secret_key(env: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<Option<MasterKey>> {
    let key = env("PICLOUD_SECRET_KEY").map(|text| MasterKey::from_base64(&text));
    key.transpose().map_err(|error| anyhow::anyhow!("PICLOUD_SECRET_KEY: {error}"))
}

fn network(name: &str, text: &str) -> anyhow::Result<IpNet> {
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Ok(address.into());
    }
    parse(name, text, "addresses or networks such as 127.0.0.1,10.0.0.0/8")
}

pub(crate) fn parse<T: FromStr>(name: &str, text: &str, wanted: &str) -> anyhow::Result<T> {
    text.parse().map_err(|_| anyhow::anyhow!("{name} is {text:?}; it takes {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(file: &str, env: &[(&str, &str)]) -> anyhow::Result<Config> {
        let lookup =
            |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Config::resolve(settings::read(file)?, &lookup)
    }

    #[test]
    fn nothing_configured_is_a_complete_configuration() {
        let config = resolve("", &[]).unwrap();
        assert_eq!(config.bind.to_string(), "127.0.0.1:8080");
        assert_eq!(config.public_url, "http://localhost:8080");
        let config = config.listening("127.0.0.1:9".parse().unwrap());
        assert_eq!(config.public_url, "http://localhost:8080");
        assert!(config.workers >= 2 && config.slots_per_worker == 16 && config.database_url.is_none());
    }

    #[test]
    fn the_environment_goes_before_the_file() {
        let file = "workers = 3\nbase_domain = \"example.org\"\ntrusted_proxies = [\"10.0.0.0/8\"]";
        let config =
            resolve(file, &[("PICLOUD_WORKERS", "5"), ("PICLOUD_TRUSTED_PROXIES", "127.0.0.1, ::1")])
                .unwrap();
        assert_eq!((config.workers, config.base_domain.as_str()), (5, "example.org"));
        assert_eq!(config.trusted_proxies.len(), 2);
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let error = format!("{:#}", resolve("worker = 3", &[]).unwrap_err());
        assert!(error.contains("worker"), "{error}");
    }

    #[test]
    fn providers_are_read_from_the_file_or_from_the_environment() {
        let file = "[[oidc]]\nname = \"work\"\nissuer = \"https://id.example.org\"\nclient_id = \"picloud\"";
        assert_eq!(resolve(file, &[]).unwrap().oidc[0].name, "work");
        let line = r#"[{ name = "home", issuer = "https://id.example.net", client_id = "x", client_secret = "hush" }]"#;
        let config = resolve(file, &[("PICLOUD_OIDC", line)]).unwrap();
        assert_eq!((config.oidc.len(), config.oidc[0].name.as_str()), (1, "home"));
    }

    #[test]
    fn no_secret_is_shown_by_a_configuration_or_by_what_is_wrong_with_it() {
        let line = r#"[{ name = "home", issuer = "https://id.example.net", client_id = "x", client_secret = "hush" }]"#;
        let url = "postgres://picloud:hush@db/picloud";
        let env = [("PICLOUD_OIDC", line), ("DATABASE_URL", url), ("PICLOUD_ADMIN_PASSWORD", "hush")];
        let shown = format!("{:?}", resolve("", &env).unwrap());
        assert!(!shown.contains("hush"), "{shown}");
        let broken = line.replace("client_id", "client");
        let error = format!("{:#}", resolve("", &[("PICLOUD_OIDC", &broken)]).unwrap_err());
        assert!(error.contains("client") && !error.contains("hush"), "{error}");
    }

    #[test]
    fn a_mail_server_is_read_with_its_password_from_a_file_too() {
        let file = "smtp_host = \"smtp.example.org\"\nsmtp_from = \"PiCloud <noreply@example.org>\"";
        let server = resolve(file, &[("PICLOUD_SMTP_TLS", "tls")]).unwrap().mail_server.unwrap();
        assert_eq!(server.to_string(), "smtp.example.org:465");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "hush\n").unwrap();
        let path = path.to_str().unwrap();
        let login = [("PICLOUD_SMTP_USERNAME", "picloud"), ("PICLOUD_SMTP_PASSWORD_FILE", path)];
        let shown = format!("{:?}", resolve(file, &login).unwrap());
        assert!(shown.contains("smtp.example.org") && !shown.contains("hush"), "{shown}");
        let both = [login[0], login[1], ("PICLOUD_SMTP_PASSWORD", "hush")];
        for (env, name) in [
            (&both[..], "PICLOUD_SMTP_PASSWORD_FILE"),
            (&[("PICLOUD_SMTP_PASSWORD_FILE", "/nowhere")], "PICLOUD_SMTP_PASSWORD_FILE"),
            (&[("PICLOUD_SMTP_USERNAME", "picloud")], "PICLOUD_SMTP_PASSWORD"),
            (&[("PICLOUD_SMTP_TLS", "ssl")], "PICLOUD_SMTP_TLS"),
            (&[("PICLOUD_SMTP_PORT", "smtp")], "PICLOUD_SMTP_PORT"),
            (&[("PICLOUD_SMTP_FROM", "nobody")], "PICLOUD_SMTP_FROM"),
        ] {
            let error = format!("{:#}", resolve(file, env).unwrap_err());
            assert!(error.contains(name) && !error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn an_app_has_no_more_slots_than_there_are_in_the_mode_that_is_chosen() {
        let resolve = |mode: &str, slots: &str| {
            let env = [("PICLOUD_WORKERS", "2"), ("PICLOUD_WORKERS_MAX", "64"), ("PICLOUD_ISOLATION", mode)];
            resolve("slots_per_worker = 16", &[&env[..], &[("PICLOUD_APP_SLOTS_MAX", slots)][..]].concat())
        };
        for (mode, most, more) in [("pinned", "32", "33"), ("strict", "2", "3")] {
            assert_eq!(resolve(mode, most).unwrap().app_slots_max, most.parse().ok());
            let error = resolve(mode, more).unwrap_err().to_string();
            assert!(error.contains("PICLOUD_APP_SLOTS_MAX") && error.contains(most), "{error}");
        }
    }

    #[test]
    fn a_bad_value_is_an_error_that_names_setting_and_value() {
        for (name, value) in [
            ("PICLOUD_BIND", "8080"),
            ("PICLOUD_WORKERS", "0"),
            ("PICLOUD_WORKERS", "many"),
            ("PICLOUD_RETENTION_DAYS", "0"),
            ("PICLOUD_RETENTION_EXECUTIONS", "100000001"),
            ("PICLOUD_RETENTION_DEAD_LETTERS", "0"),
            ("PICLOUD_RETENTION_DEAD_LETTERS_MB", "63"),
            ("PICLOUD_RETENTION_ABANDONED", "1000001"),
            ("PICLOUD_SLOTS_PER_WORKER", "70000"),
            ("PICLOUD_ISOLATION", "none"),
            ("PICLOUD_LOG_FORMAT", "xml"),
            ("PICLOUD_WORKERS_MAX", "1"),
            ("PICLOUD_APP_SLOTS_MAX", "0"),
            ("PICLOUD_APP_SLOTS_MAX", "100000"),
            ("PICLOUD_BODY_MEMORY_MB", "63"),
            ("PICLOUD_BODY_MEMORY_MB", "1048577"),
            ("PICLOUD_API_REQUESTS_PER_MINUTE", "9"),
            ("PICLOUD_OTLP_SAMPLE_PERCENT", "101"),
            ("PICLOUD_TRUSTED_PROXIES", "everyone"),
            ("PICLOUD_HTTP_ALLOW_PRIVATE", "the printer"),
            ("PICLOUD_HTTP_DENY", "1.2.3"),
            ("PICLOUD_DNS_SERVERS", "dns.example.com"),
        ] {
            let error = resolve("", &[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
    }
}
