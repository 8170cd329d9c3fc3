//! Contents on their way to the server and back, without all of one in memory.

use std::fs::File;
use std::io::{self, Seek, Write};

use serde_json::Value;
use ureq::http::Method;

use super::{Client, Sent};
use crate::failure::Failure;

impl Client {
    /// Sends a file as the body of a request. Its type is told by the name unless it is given.
    pub(crate) fn upload(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        mut content: &File,
    ) -> Result<Value, Failure> {
        content.rewind().map_err(Failure::Output)?;
        let headers: Vec<_> = content_type.map(|text| ("content-type", text)).into_iter().collect();
        self.answer(self.run(method, path, &headers, Some(Sent::File(content)))?)
    }

    /// Writes the body of an answer; answers how many bytes it had.
    pub(crate) fn download(&self, path: &str, out: &mut dyn Write) -> Result<u64, Failure> {
        let response = self.run(Method::GET, path, &[], None)?;
        io::copy(&mut response.into_body().into_reader(), out).map_err(Failure::Output)
    }
}
