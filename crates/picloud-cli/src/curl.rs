//! A ready-made `curl` line for a route.

use shared::route::{PathPattern, Segment};

use crate::server_url::AppAddress;

pub(crate) fn line(address: &AppAddress, method: Option<&str>, pattern: &PathPattern) -> String {
    let mut line = String::from("curl");
    if let Some(method) = method.filter(|method| *method != "GET") {
        line += &format!(" -X {}", quoted(method));
    }
    if let Some(host) = &address.host_header {
        line += &format!(" -H {}", quoted(&format!("Host: {host}")));
    }
    let url = quoted(&format!("{}{}", address.base, example_path(pattern)));
    format!("{line} {url}")
}

/// A path that the pattern matches.
fn example_path(pattern: &PathPattern) -> String {
    let mut path = String::new();
    for segment in pattern.segments() {
        path.push('/');
        path.push_str(match segment {
            Segment::Literal(text) => text,
            Segment::Param(name) if name == "id" || name.ends_with("_id") => "1",
            Segment::Param(name) if name == "name" => "world",
            Segment::Param(name) => name,
        });
    }
    if pattern.is_prefix() || path.is_empty() {
        path.push('/');
    }
    path
}

/// In single quotes where a shell would read more into it.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host_header: Option<&str>) -> AppAddress {
        AppAddress { base: "http://127.0.0.1:8080".into(), host_header: host_header.map(Into::into) }
    }

    #[test]
    fn the_line_can_be_pasted_into_a_shell() {
        let cases = [
            ("/", None, "curl http://127.0.0.1:8080/"),
            ("/hello/:name", Some("GET"), "curl http://127.0.0.1:8080/hello/world"),
            ("/users/:id/*", Some("POST"), "curl -X POST http://127.0.0.1:8080/users/1/"),
            ("/it's", None, r"curl 'http://127.0.0.1:8080/it'\''s'"),
            ("/a&b", None, "curl 'http://127.0.0.1:8080/a&b'"),
        ];
        for (path, method, expected) in cases {
            assert_eq!(line(&address(None), method, &path.parse().unwrap()), expected);
        }
    }

    #[test]
    fn a_host_that_does_not_resolve_is_sent_as_header() {
        let line = line(&address(Some("blog.localhost")), None, &"/x".parse().unwrap());
        assert_eq!(line, "curl -H 'Host: blog.localhost' http://127.0.0.1:8080/x");
    }
}
