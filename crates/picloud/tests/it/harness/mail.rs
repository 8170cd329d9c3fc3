//! A real mail server, and the certificates with which it says who it is.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::eventually;

/// Who mails come from.
pub(crate) const FROM: &str = "PiCloud <noreply@example.org>";

/// The server's process; ended, and waited for, when dropped.
pub(crate) struct MailServer {
    child: Child,
    pub(crate) port: u16,
    taken: Arc<Mutex<Vec<Value>>>,
}

impl MailServer {
    /// One that believes whoever comes, as on one machine.
    pub(crate) fn start() -> Self {
        Self::start_with(&json!({}))
    }

    pub(crate) fn start_with(options: &Value) -> Self {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/smtp-server");
        let mut child = Command::new(format!("{dir}/venv/bin/python"))
            .args([&format!("{dir}/server.py"), &options.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the mail server is missing: run make setup-tests");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.next().and_then(|line| line.unwrap().parse().ok());
        let port = port.expect("the mail server did not start: run make setup-tests");
        let taken = Arc::new(Mutex::new(Vec::new()));
        let inbox = Arc::clone(&taken);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                inbox.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, port, taken }
    }

    /// What the server under test is to know.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("PICLOUD_SMTP_HOST", "127.0.0.1".to_owned()),
            ("PICLOUD_SMTP_PORT", self.port.to_string()),
            ("PICLOUD_SMTP_TLS", "none".to_owned()),
            ("PICLOUD_SMTP_FROM", FROM.to_owned()),
        ]
    }

    /// The mails that it has taken, once there are so many.
    #[track_caller]
    pub(crate) fn mails(&self, count: usize) -> Vec<Value> {
        let all = eventually("the mails are there", || {
            let taken = self.taken.lock().unwrap();
            (taken.len() >= count).then(|| taken.clone())
        });
        assert_eq!(all.len(), count, "{all:?}");
        all
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An authority, and what it says of `localhost`.
pub(crate) struct Certificates(TempDir);

impl Certificates {
    pub(crate) fn new() -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        std::fs::write(made.path("names"), "subjectAltName=DNS:localhost\n").unwrap();
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let authority = ["-x509", "-subj", "/CN=tests", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem"];
        openssl(made.0.path(), &[&["req"][..], &key, &authority].concat());
        let request = ["-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "request.pem"];
        openssl(made.0.path(), &[&["req"][..], &key, &request].concat());
        let signing = ["x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key"];
        let result = ["-CAcreateserial", "-days", "2", "-extfile", "names", "-out", "certificate.pem"];
        openssl(made.0.path(), &[&signing[..], &result].concat());
        made
    }

    /// For a server that has this certificate.
    pub(crate) fn options(&self, tls: &str) -> Value {
        json!({ "tls": tls, "certificate": self.path("certificate.pem"), "key": self.path("key.pem") })
    }

    /// Whom to believe.
    pub(crate) fn authority(&self) -> PathBuf {
        self.path("ca.pem")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn openssl(dir: &Path, args: &[&str]) {
    let done = Command::new("openssl").current_dir(dir).args(args).output();
    let done = done.expect("openssl is missing: run make setup-tests");
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
}
