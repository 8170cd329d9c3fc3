//! As much of HTTP/1.1 as it takes to know where an answer ends and what it says.

use std::borrow::Cow;

/// An answer at the start of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response<'a> {
    pub(super) status: u16,
    pub(super) body: Cow<'a, [u8]>,
    /// Of the whole answer.
    pub(super) bytes: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(&'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "an answer is no HTTP: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// The answer, or nothing while it is not whole yet.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Response<'_>>, Malformed> {
    let Some(head_bytes) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head =
        str::from_utf8(&bytes[..head_bytes]).map_err(|_| Malformed("a header is not text"))?.split("\r\n");
    let rest = &bytes[head_bytes + 4..];
    let mut lines = head;
    let status = lines.next().and_then(status).ok_or(Malformed("the status line"))?;
    let mut length = None;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(Malformed("a header line"))?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.parse::<usize>().map_err(|_| Malformed("the content length"))?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                return Err(Malformed("an unknown transfer encoding"));
            }
            let Some((body, body_bytes)) = chunked(rest)? else { return Ok(None) };
            return Ok(Some(Response { status, body: body.into(), bytes: head_bytes + 4 + body_bytes }));
        }
    }
    let length = length.ok_or(Malformed("the body has no length"))?;
    let Some(body) = rest.get(..length) else { return Ok(None) };
    Ok(Some(Response { status, body: body.into(), bytes: head_bytes + 4 + length }))
}

fn status(line: &str) -> Option<u16> {
    line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// A body in chunks and the bytes it takes, or nothing while it is not whole yet.
fn chunked(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Malformed> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let Some(line) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let size = str::from_utf8(&bytes[at..at + line])
            .ok()
            .and_then(|text| usize::from_str_radix(text.split(';').next()?.trim(), 16).ok())
            .ok_or(Malformed("the size of a chunk"))?;
        at += line + 2;
        let Some(end) = at.checked_add(size).filter(|end| end + 2 <= bytes.len()) else { return Ok(None) };
        body.extend_from_slice(&bytes[at..end]);
        if &bytes[end..end + 2] != b"\r\n" {
            return Err(Malformed("a chunk or a trailer"));
        }
        at = end + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx: y\r\n\r\nhello";
    const CHUNKED: &[u8] =
        b"HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n";

    #[test]
    fn a_whole_answer_has_status_body_and_length() {
        for (bytes, status) in [(PLAIN, 200), (CHUNKED, 404)] {
            let response = parse(bytes).unwrap().unwrap();
            assert_eq!(
                (response.status, &*response.body, response.bytes),
                (status, &b"hello"[..], bytes.len())
            );
        }
    }

    #[test]
    fn every_beginning_of_an_answer_waits_for_the_rest() {
        for bytes in [PLAIN, CHUNKED] {
            for end in 0..bytes.len() {
                assert_eq!(parse(&bytes[..end]), Ok(None), "{end}");
            }
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for bytes in [
            &b"SMTP ready\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: five\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nhello\r\n",
        ] {
            assert!(parse(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }
}
