//! The address of the server itself. Its people administer it there and not on the hosts of apps: a
//! page that an app's script makes and the admin API would be one site to a browser (ASVS 3.5.4).

use http::Request;
use shared::fault::Code;
use shared::host::{normalized, of_url};
use shared::route::is_for_people;

use super::problem::Failure;
use super::request;
use crate::routing::Router;

#[derive(Debug)]
pub(super) struct Home {
    /// `https://pi.example.org`, without a slash at its end.
    url: String,
    /// Normalised.
    host: String,
}

impl Home {
    pub(super) fn at(url: &str) -> Self {
        Self { url: url.trim_end_matches('/').to_owned(), host: of_url(url).into_owned() }
    }

    pub(super) fn is_host(&self, name: &str) -> bool {
        *name == *self.host
    }

    /// An address on this server for whoever asked an app.
    pub(super) fn address(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Whether a request for the platform itself may go on to it.
    pub(super) fn check<B>(&self, router: &Router, request: &Request<B>) -> Result<(), Failure> {
        request::check_uri(request)?;
        if !is_for_people(request.uri().path()) {
            return Ok(());
        }
        let name = normalized(request::host(request)?);
        if self.is_host(&name) || !router.is_of_an_app(&name) {
            return Ok(());
        }
        let detail = "this host is an app's; the server is administered on a host of its own";
        Err(Failure::new(Code::NotFound, detail))
    }
}
