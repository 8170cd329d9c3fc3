//! One connection to the mail server: there, encrypted, let in, and a mail handed over.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Severity;
use secrecy::ExposeSecret;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{MailServer, MailTls, NotSent, Posted};

/// For a connection to be there, encrypted and let in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For a goodbye, which changes nothing any more.
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);
const NO_CONNECTION: &str = "there is no connection";
/// What is passed on of what the server says.
const SAID_CHARS_MAX: usize = 200;

/// Certificates of the machine, which are read once.
#[derive(Default)]
pub(super) struct Tls(Mutex<Option<TlsParameters>>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    fn parameters(&self, host: &str) -> Result<TlsParameters, Unreachable> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(parameters) = &*kept {
            return Ok(parameters.clone());
        }
        let made = TlsParameters::new(host.to_owned());
        let parameters = made.map_err(|error| unreachable("this server cannot speak TLS", &error))?;
        Ok(kept.insert(parameters).clone())
    }
}

/// The mail server cannot be spoken to.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {detail}")]
pub struct Unreachable {
    pub(super) what: &'static str,
    /// For the operator alone.
    detail: String,
}

fn unreachable(what: &'static str, error: &impl fmt::Display) -> Unreachable {
    Unreachable { what, detail: error.to_string() }
}

impl MailServer {
    /// Connects as for a mail, and sends none.
    pub async fn probe(&self) -> Result<(), Unreachable> {
        let mut connection = open(self, &Tls::default()).await?;
        let _ = timeout(QUIT_TIMEOUT, connection.quit()).await;
        Ok(())
    }
}

pub(super) async fn deliver(server: &MailServer, tls: &Tls, posted: &Posted) -> Result<(), NotSent> {
    let mut connection = open(server, tls).await.inspect_err(|error| {
        tracing::warn!(%error, server.address = %server, "the mail server cannot be used");
    })?;
    let answer =
        connection.send(&posted.envelope, &posted.message).await.map_err(|error| not_taken(&error))?;
    // Any other is the answer to something before: who stands between has slipped one in.
    if answer.code().severity != Severity::PositiveCompletion {
        return Err(NotSent::Broken);
    }
    let _ = timeout(QUIT_TIMEOUT, connection.quit()).await;
    Ok(())
}

async fn open(server: &MailServer, tls: &Tls) -> Result<AsyncSmtpConnection, Unreachable> {
    let timeless = || Unreachable { what: "it does not answer", detail: "no connection in time".to_owned() };
    timeout(CONNECT_TIMEOUT, connect(server, tls)).await.unwrap_or_else(|_| Err(timeless()))
}

async fn connect(server: &MailServer, tls: &Tls) -> Result<AsyncSmtpConnection, Unreachable> {
    let hello = ClientId::Domain(server.from.email.domain().to_owned());
    let parameters = || tls.parameters(&server.host);
    let greeted = if server.tls == MailTls::Implicit {
        // Lettre takes no stream of ours that is to be encrypted from the first byte.
        let address = (server.host.as_str(), server.port);
        AsyncSmtpConnection::connect_tokio1(address, None, &hello, Some(parameters()?), None).await
    } else {
        let stream = dial(server).await.map_err(|error| unreachable(NO_CONNECTION, &error))?;
        AsyncSmtpConnection::connect_with_transport(Box::new(stream), &hello).await
    };
    let mut connection = greeted.map_err(|error| unreachable(NO_CONNECTION, &error))?;
    if server.tls == MailTls::StartTls {
        // Without it nothing goes out, neither the password nor the mail.
        let encrypted = connection.starttls(parameters()?, &hello).await;
        encrypted.map_err(|error| unreachable("the connection cannot be encrypted", &error))?;
    }
    if let Some((username, password)) = &server.login {
        let credentials = Credentials::new(username.clone(), password.expose_secret().to_owned());
        let mechanisms = [Mechanism::Plain, Mechanism::Login];
        let let_in = connection.auth(&mechanisms, &credentials).await;
        let_in.map_err(|error| unreachable("it does not let this server in", &error))?;
    }
    Ok(connection)
}

/// A connection that sends at once. SMTP takes turns, and lettre writes the end of a mail by itself: it would wait
/// until the server, which delays that by up to 40 ms, says that it has the rest.
async fn dial(server: &MailServer) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((server.host.as_str(), server.port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What it means that a mail was not taken.
fn not_taken(error: &Error) -> NotSent {
    tracing::debug!(%error, "a mail was not taken");
    if error.is_permanent() {
        NotSent::Refused(said(error))
    } else if error.is_transient() {
        NotSent::Deferred(said(error))
    } else if error.is_client() {
        NotSent::Refused("it takes no addresses with characters beyond ASCII".to_owned())
    } else {
        NotSent::Broken
    }
}

fn said(error: &Error) -> String {
    let code = error.status().map(|code| code.to_string()).unwrap_or_default();
    on_one_line(&code, &error.source().map(ToString::to_string).unwrap_or_default())
}

/// The server's code and its words, as far as they are shown.
fn on_one_line(code: &str, words: &str) -> String {
    let words = words.chars().map(|c| if c.is_control() { ' ' } else { c });
    format!("{code} {}", words.take(SAID_CHARS_MAX).collect::<String>().trim())
}

#[cfg(test)]
mod tests {
    use shared::host_call::email;
    use shared::id::{AppId, UserId};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;
    use crate::mail::{Letter, Mail, MailSettings};

    async fn listener() -> (TcpListener, MailServer) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = MailSettings {
            host: Some("127.0.0.1".into()),
            port: Some(listener.local_addr().unwrap().port()),
            tls: Some(MailTls::None),
            from: Some("noreply@example.org".into()),
            ..MailSettings::default()
        };
        (listener, MailServer::of(settings).unwrap().unwrap())
    }

    async fn send(server: MailServer, patience: Duration) -> Result<(), NotSent> {
        let send = email::Send {
            to: vec!["ada@example.com"],
            subject: "a",
            text: Some("b"),
            ..email::Send::default()
        };
        let posted =
            Letter::read(&send).unwrap().posted(server.from(), AppId::new(), "<1@example.org>").unwrap();
        let sender = (UserId::new(), AppId::new());
        Mail::new(Some(server)).send(sender, &posted, Instant::now() + patience, || Ok(())).await
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_given_up_in_time() {
        let (listener, server) = listener().await;
        let refused = send(server, Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(refused, NotSent::Timeout), "{refused:?}");
        drop(listener);
    }

    /// As when somebody has put an answer in before the connection was encrypted: all later ones are one late.
    #[tokio::test]
    async fn attack_an_answer_too_many_makes_no_mail_accepted() {
        let (listener, server) = listener().await;
        let answering = async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"220 here\r\n250 here\r\n250 one too many\r\n").await.unwrap();
            let mut bytes = [0; 1024];
            let mut answers = ["250 sender\r\n", "250 recipient\r\n", "354 go on\r\n"].iter();
            // The answer to the mail itself never comes.
            while let Ok(1..) = stream.read(&mut bytes).await {
                if let Some(answer) = answers.next() {
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        };
        let (refused, ()) = tokio::join!(send(server, Duration::from_secs(5)), answering);
        assert!(matches!(refused, Err(NotSent::Broken)), "{refused:?}");
    }

    #[tokio::test]
    async fn the_end_of_a_mail_does_not_wait_for_the_rest_to_be_acknowledged() {
        let (_listener, server) = listener().await;
        assert!(dial(&server).await.unwrap().nodelay().unwrap());
    }

    #[test]
    fn what_a_server_says_is_passed_on_as_one_short_line() {
        assert_eq!(
            on_one_line("550", "5.1.1 no\r\n5.1.1 such\x1b[31m user\n"),
            "550 5.1.1 no  5.1.1 such [31m user"
        );
        assert_eq!(on_one_line("451", &"é".repeat(1_000)).chars().count(), 4 + SAID_CHARS_MAX);
    }
}
