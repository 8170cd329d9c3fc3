//! A real `OpenID` Connect provider, and a browser that goes between it and the server.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::{Client, Reply};

/// Where the browser thinks that the server is. Only it knows the way there.
pub(crate) const PUBLIC_URL: &str = "http://pi.example.test";

/// The provider's process; ended, and waited for, when dropped.
pub(crate) struct Provider {
    child: Child,
    port: u16,
}

impl Provider {
    pub(crate) fn start() -> Self {
        Self::run("provider.mjs")
    }

    /// One whose codes name the kind of token that they are answered with.
    pub(crate) fn forger() -> Self {
        Self::run("forger.mjs")
    }

    fn run(program: &str) -> Self {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oidc-provider");
        let mut child = Command::new("node")
            .arg(program)
            .arg(PUBLIC_URL)
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node is missing: run make setup-tests");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port =
            line.trim().parse().expect("the provider did not start: run make setup-tests, which installs it");
        Self { child, port }
    }

    pub(crate) fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends it, so that nobody answers at its address.
    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A browser with cookies of its own for each of the two.
pub(crate) struct Browser<'a> {
    server: &'a Client,
    provider: &'a Provider,
    /// By whether they are the server's, and by name.
    pub(crate) cookies: BTreeMap<(bool, String), String>,
}

impl<'a> Browser<'a> {
    pub(crate) fn new(server: &'a Client, provider: &'a Provider) -> Self {
        Self { server, provider, cookies: BTreeMap::new() }
    }

    /// A cookie of the server's.
    pub(crate) fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.get(&(true, name.to_owned())).map(String::as_str)
    }

    /// Asks whoever is at that address, with the cookies that are theirs.
    pub(crate) fn send(&mut self, method: &str, url: &str, body: &str) -> Reply {
        let (is_servers, path) = match url.strip_prefix(PUBLIC_URL) {
            Some(path) => (true, path),
            None if url.starts_with('/') => (true, url),
            None => (false, url.strip_prefix(&self.provider.issuer()).unwrap_or_else(|| panic!("{url}"))),
        };
        let theirs = self.cookies.iter().filter(|((of_server, _), _)| *of_server == is_servers);
        let line: Vec<_> = theirs.map(|((_, name), value)| format!("{name}={value}")).collect();
        let line = line.join("; ");
        let mut headers = vec![("cookie", line.as_str())];
        if !body.is_empty() {
            headers.push(("content-type", "application/x-www-form-urlencoded"));
        }
        let client = if is_servers { self.server.clone() } else { Client::new(self.provider.port) };
        let host = if is_servers {
            "pi.example.test".to_owned()
        } else {
            format!("127.0.0.1:{}", self.provider.port)
        };
        let reply = client.send(method, &host, path, &headers, body.as_bytes());
        self.keep(is_servers, &reply);
        reply
    }

    fn keep(&mut self, is_servers: bool, reply: &Reply) {
        for line in reply.headers.get_all("set-cookie") {
            let line = line.to_str().unwrap();
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            let key = (is_servers, name.to_owned());
            if value.is_empty() {
                self.cookies.remove(&key);
            } else {
                self.cookies.insert(key, value.to_owned());
            }
        }
    }

    /// Follows from the server to the provider, logs in there as that person, agrees, and comes back;
    /// answers the address of the way back, which is not asked for yet.
    pub(crate) fn visit_provider(&mut self, url: &str, name: &str) -> String {
        let mut url = url.to_owned();
        for _ in 0..12 {
            if url.starts_with(PUBLIC_URL) {
                return url;
            }
            let page = self.send("GET", &url, "");
            url = match page.status {
                302 | 303 => self.absolute(page.header("location")),
                200 => self.submit(&page, &url, name),
                _ => panic!("{url}: {page:?}"),
            };
        }
        panic!("the provider leads in circles, now to {url}");
    }

    /// What somebody does with the page that the provider shows.
    fn submit(&mut self, page: &Reply, url: &str, name: &str) -> String {
        let form = match page.text() {
            text if text.contains("value=\"login\"") => format!("prompt=login&login={name}&password=any"),
            text if text.contains("value=\"consent\"") => "prompt=consent".to_owned(),
            text => panic!("a page without a form that is known: {text}"),
        };
        let sent = self.send("POST", url, &form);
        assert_eq!(sent.status, 303, "{sent:?}");
        self.absolute(sent.header("location"))
    }

    fn absolute(&self, location: &str) -> String {
        if location.starts_with('/') { self.provider.issuer() + location } else { location.to_owned() }
    }
}
