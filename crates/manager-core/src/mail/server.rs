//! The operator's mail server, as the settings describe it. What is incomplete or contradicts itself is none.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use lettre::message::Mailbox;
use secrecy::SecretString;

use super::address;

/// How the connection is kept from being read on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MailTls {
    /// It begins in the open and must go on encrypted.
    #[default]
    StartTls,
    /// It is encrypted from the first byte.
    Implicit,
    /// It is not, as between two programs of one machine.
    None,
}

/// A word that is none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is none of starttls, tls and none")]
pub struct UnknownMailTls;

impl FromStr for MailTls {
    type Err = UnknownMailTls;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "starttls" => Ok(Self::StartTls),
            "tls" => Ok(Self::Implicit),
            "none" => Ok(Self::None),
            _ => Err(UnknownMailTls),
        }
    }
}

impl MailTls {
    /// Where a server is that is spoken to like this.
    const fn port(self) -> u16 {
        match self {
            Self::StartTls => 587,
            Self::Implicit => 465,
            Self::None => 25,
        }
    }
}

/// What an operator says of the server; without a host there is none.
#[derive(Debug, Clone, Default)]
pub struct MailSettings {
    pub host: Option<String>,
    pub port: Option<u16>,
    pub tls: Option<MailTls>,
    pub username: Option<String>,
    pub password: Option<SecretString>,
    pub from: Option<String>,
}

/// Why there is no such server. Each names the setting, in the environment, that is to be mended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoMailServer {
    #[error("PICLOUD_SMTP_HOST is missing, and {0} is set")]
    NoHost(&'static str),
    #[error("PICLOUD_SMTP_HOST is {0:?}; it takes a name or an address, such as smtp.example.org")]
    Host(String),
    #[error("PICLOUD_SMTP_PORT is 0; it takes a port such as 587")]
    Port,
    #[error("PICLOUD_SMTP_FROM is missing: the address that mails come from")]
    NoFrom,
    #[error("PICLOUD_SMTP_FROM is {0:?}; it takes an ASCII address such as PiCloud <noreply@example.org>")]
    From(String),
    #[error("PICLOUD_SMTP_PASSWORD is missing, and PICLOUD_SMTP_USERNAME is set")]
    NoPassword,
    #[error("PICLOUD_SMTP_USERNAME is missing, and there is a password")]
    NoUsername,
    #[error("PICLOUD_SMTP_TLS is none, and a password would go through the network for all to read")]
    OpenPassword,
}

/// A server that takes mail from us.
#[derive(Debug, Clone)]
pub struct MailServer {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: MailTls,
    pub(super) login: Option<(String, SecretString)>,
    pub(super) from: Mailbox,
}

impl MailServer {
    /// The one that the settings describe, if they describe one.
    pub fn of(settings: MailSettings) -> Result<Option<Self>, NoMailServer> {
        let MailSettings { host, port, tls, username, password, from } = settings;
        let Some(host) = host else {
            let set = [
                ("PICLOUD_SMTP_PORT", port.is_some()),
                ("PICLOUD_SMTP_TLS", tls.is_some()),
                ("PICLOUD_SMTP_USERNAME", username.is_some()),
                ("PICLOUD_SMTP_PASSWORD", password.is_some()),
                ("PICLOUD_SMTP_FROM", from.is_some()),
            ];
            return match set.into_iter().find(|(_, is_set)| *is_set) {
                Some((name, _)) => Err(NoMailServer::NoHost(name)),
                None => Ok(None),
            };
        };
        if !is_host(&host) {
            return Err(NoMailServer::Host(host));
        }
        let tls = tls.unwrap_or_default();
        let from = from.ok_or(NoMailServer::NoFrom)?;
        let mailbox = address::mailbox(&from).ok().filter(|mailbox| mailbox.email.to_string().is_ascii());
        let login = match (username, password) {
            (Some(username), Some(password)) => Some((username, password)),
            (None, None) => None,
            (Some(_), None) => return Err(NoMailServer::NoPassword),
            (None, Some(_)) => return Err(NoMailServer::NoUsername),
        };
        let server = Self {
            port: port.unwrap_or_else(|| tls.port()),
            tls,
            login,
            from: mailbox.ok_or(NoMailServer::From(from))?,
            host,
        };
        if server.port == 0 {
            return Err(NoMailServer::Port);
        }
        if tls == MailTls::None && server.login.is_some() && !server.is_here() {
            return Err(NoMailServer::OpenPassword);
        }
        Ok(Some(server))
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Who mails come from.
    pub(crate) fn from(&self) -> &Mailbox {
        &self.from
    }

    /// Whether it is on this machine.
    fn is_here(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for MailServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A name of DNS, or an address without brackets.
fn is_host(text: &str) -> bool {
    let is_name = |text: &str| {
        let is_label = |label: &str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        text.len() <= 253 && text.split('.').all(is_label)
    };
    text.parse::<IpAddr>().is_ok() || is_name(text.trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete() -> MailSettings {
        MailSettings {
            host: Some("smtp.example.org".into()),
            from: Some("PiCloud <noreply@example.org>".into()),
            ..MailSettings::default()
        }
    }

    fn with_login(settings: MailSettings) -> MailSettings {
        MailSettings { username: Some("picloud".into()), password: Some("hush".into()), ..settings }
    }

    #[test]
    fn nothing_said_is_no_server_and_the_port_goes_with_the_encryption() {
        assert!(MailServer::of(MailSettings::default()).unwrap().is_none());
        for (tls, port) in [
            (None, 587),
            (Some(MailTls::StartTls), 587),
            (Some(MailTls::Implicit), 465),
            (Some(MailTls::None), 25),
        ] {
            let server = MailServer::of(MailSettings { tls, ..complete() }).unwrap().unwrap();
            assert_eq!(server.port, port, "{tls:?}");
        }
        let server = MailServer::of(MailSettings { port: Some(2525), ..complete() }).unwrap().unwrap();
        assert_eq!(server.to_string(), "smtp.example.org:2525");
        assert_eq!(server.from().email.to_string(), "noreply@example.org");
    }

    #[test]
    fn what_is_incomplete_or_contradicts_itself_names_the_setting() {
        let host = |host: &str| MailSettings { host: Some(host.into()), ..complete() };
        let from = |from: &str| MailSettings { from: Some(from.into()), ..complete() };
        let open = |host: &str| MailSettings {
            host: Some(host.into()),
            tls: Some(MailTls::None),
            ..with_login(complete())
        };
        for (settings, name) in [
            (MailSettings { host: None, ..complete() }, "PICLOUD_SMTP_HOST"),
            (MailSettings { port: Some(25), ..MailSettings::default() }, "PICLOUD_SMTP_HOST"),
            (host("smtp://example.org"), "PICLOUD_SMTP_HOST"),
            (host("smtp.example.org:587"), "PICLOUD_SMTP_HOST"),
            (host(""), "PICLOUD_SMTP_HOST"),
            (MailSettings { port: Some(0), ..complete() }, "PICLOUD_SMTP_PORT"),
            (MailSettings { from: None, ..complete() }, "PICLOUD_SMTP_FROM"),
            (from("noreply"), "PICLOUD_SMTP_FROM"),
            (from("zoë@example.org"), "PICLOUD_SMTP_FROM"),
            (MailSettings { password: None, ..with_login(complete()) }, "PICLOUD_SMTP_PASSWORD"),
            (MailSettings { username: None, ..with_login(complete()) }, "PICLOUD_SMTP_USERNAME"),
            (open("smtp.example.org"), "PICLOUD_SMTP_TLS"),
        ] {
            let error = MailServer::of(settings.clone()).unwrap_err().to_string();
            assert!(error.contains(name), "{settings:?}: {error}");
        }
        for here in ["localhost", "127.0.0.1", "::1"] {
            assert!(MailServer::of(open(here)).is_ok(), "{here}");
        }
    }

    #[test]
    fn a_server_does_not_show_its_password() {
        let shown = format!("{:?}", MailServer::of(with_login(complete())).unwrap());
        assert!(shown.contains("picloud") && !shown.contains("hush"), "{shown}");
    }
}
