//! A real server that speaks S3, with one bucket.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::Client;

/// The bucket's name.
const NAME: &str = "picloud-files";
/// What a change of an object asks for: nothing of it but its form is looked at.
const SIGNATURE: &str = "AWS4-HMAC-SHA256 Credential=tests/20260101/us-east-1/s3/aws4_request, \
                         SignedHeaders=host, Signature=none";

/// The server's process; ended, and waited for, when dropped.
pub(crate) struct Bucket {
    child: Child,
    port: u16,
}

impl Bucket {
    pub(crate) fn start() -> Self {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/s3-server");
        let mut child = Command::new(format!("{dir}/venv/bin/python"))
            .args(["server.py", NAME])
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the S3 server is missing: run make setup-tests");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("the S3 server did not start: run make setup-tests");
        Self { child, port }
    }

    /// What the server under test is to know.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("PICLOUD_FILES_S3_BUCKET", NAME.to_owned()),
            ("PICLOUD_FILES_S3_ENDPOINT", format!("http://127.0.0.1:{}", self.port)),
            ("PICLOUD_FILES_S3_ACCESS_KEY_ID", "tests".to_owned()),
            ("PICLOUD_FILES_S3_SECRET_ACCESS_KEY", "tests".to_owned()),
        ]
    }

    /// How many objects there are.
    pub(crate) fn objects(&self) -> usize {
        self.names().len()
    }

    /// Puts another content into the only object.
    pub(crate) fn overwrite(&self, content: &[u8]) {
        let names = self.names();
        let [name] = names.as_slice() else { panic!("{names:?}") };
        let headers = [("authorization", SIGNATURE), ("content-type", "application/octet-stream")];
        let path = format!("/{NAME}/{name}");
        Client::new(self.port).send("PUT", "localhost", &path, &headers, content).is(200);
    }

    fn names(&self) -> Vec<String> {
        let listing = Client::new(self.port).get("localhost", &format!("/{NAME}?list-type=2"));
        let listing = String::from_utf8_lossy(&listing.is(200).body).into_owned();
        let keys = listing.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
        keys.map(|(name, _)| name.to_owned()).collect()
    }

    /// Ends it, so that nobody answers at its address.
    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.stop();
    }
}
