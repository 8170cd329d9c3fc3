//! Requests that are too large, or that two readers read differently.

use super::super::Target;

/// More than any head may have.
const HUGE: usize = 70_000;

#[test]
fn attack_54_heads_that_are_too_large_or_ambiguous() {
    let target = Target::new("54");
    let get = |path: &str, headers: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n")
    };
    let post = |headers: &str, body: &str| {
        format!("POST /hello/pi HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n{body}")
    };
    let parameters = |count: usize| "a=1&".repeat(count);
    let attacks = [
        ("a cookie of 70 KB", get("/hello/pi", &format!("cookie: a={}\r\n", "x".repeat(HUGE))), &["431"][..]),
        ("a token of 70 KB", get("/api/v1/admin/apps", &format!("authorization: Bearer {}\r\n", "x".repeat(HUGE))), &["431"]),
        ("10,000 headers", get("/hello/pi", &"x: y\r\n".repeat(10_000)), &["431"]),
        ("an address of 70 KB", get(&format!("/{}", "a".repeat(HUGE)), ""), &["414", "431"]),
        ("an address of 9 KB", get(&format!("/{}", "a".repeat(9_000)), ""), &["414"]),
        ("an address of 9 KB, API", get(&format!("/api/v1/admin/{}", "a".repeat(9_000)), ""), &["414"]),
        ("10,000 parameters", get(&format!("/hello/pi?{}", parameters(10_000)), ""), &["414"]),
        ("300 parameters", get(&format!("/hello/pi?{}", parameters(300)), ""), &["400"]),
        ("300 parameters, API", get(&format!("/api/v1/admin/apps?{}", parameters(300)), ""), &["400"]),
        ("chunked, identity", post("transfer-encoding: chunked, identity\r\n", "0\r\n\r\n"), &["400"]),
        ("identity", post("transfer-encoding: identity\r\n", ""), &["400"]),
        ("chunked of HTTP/1.0", "POST / HTTP/1.0\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), &["400"]),
        ("HTTP/0.9", "GET /hello/pi\r\n\r\n".to_owned(), &["400"]),
        ("HTTP/3.0", "GET /hello/pi HTTP/3.0\r\nhost: localhost\r\n\r\n".to_owned(), &["400", "505"]),
        ("another Host", "GET http://localhost/hello/pi HTTP/1.1\r\nhost: blog.localhost\r\nconnection: close\r\n\r\n".to_owned(), &["400"]),
        ("another Host, API", "GET http://localhost/api/v1/admin/apps HTTP/1.1\r\nhost: blog.localhost\r\nconnection: close\r\n\r\n".to_owned(), &["400"]),
        ("a folded header", get("/hello/pi", "x: a\r\n b\r\n"), &["400"]),
        ("a space before the colon", get("/hello/pi", "content-length : 5\r\n"), &["400"]),
        ("NUL in a header", get("/hello/pi", "x: a\0b\r\n"), &["400"]),
        ("a lone CR in a header", get("/hello/pi", "x: a\rb\r\n"), &["400"]),
    ];
    for (name, request, statuses) in attacks {
        let answer = target.server.client.raw(request.as_bytes());
        let seen = answer.split(' ').nth(1).unwrap_or("closed").to_owned();
        target.row(name, &statuses.join(", "), &seen);
        assert!(statuses.contains(&seen.as_str()), "{name}: {answer:.300}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: {answer:.600}");
    }
    target.ends_unharmed();
}

/// A proxy in front that goes by the other header sees one request where we see two, or the other way
/// round: after such a request nothing else on the connection is read.
#[test]
fn attack_54_a_request_within_a_request() {
    let target = Target::new("54");
    let within = "GET /hello/smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let length = |body: &str| format!("content-length: {}\r\n", body.len());
    let chunked = "transfer-encoding: chunked\r\n";
    let whole = format!("0\r\n\r\n{within}");
    for (name, headers) in [
        ("length, then chunked", format!("{}{chunked}", length(&whole))),
        ("chunked, then length", format!("{chunked}{}", length(&whole))),
        ("chunked twice", format!("{chunked}{chunked}{}", length(&whole))),
    ] {
        let request = format!("POST /hello/pi HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n{whole}");
        let answer = target.server.client.raw(request.as_bytes());
        let count = answer.matches("HTTP/1.1 ").count();
        target.row(name, "one answer, and closed", &format!("{count}"));
        assert!(count == 1 && !answer.contains("smuggled"), "{name}: {answer:.600}");
    }
    target.ends_unharmed();
}

/// Who sends requests of several people on one connection, as proxies do, must be able to send the
/// next one after a body that was refused unread, or be told that it cannot.
#[test]
fn attack_54_bodies_that_are_refused_unread() {
    let target = Target::new("54");
    let next = b"GET /hello/pi HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let long = vec![b'x'; 1 << 20];
    for (name, headers, body, goes_on) in [
        ("short, and late", "content-length: 5\r\n", &b"12345"[..], true),
        ("in chunks, and late", "transfer-encoding: chunked\r\n", b"5\r\n12345\r\n0\r\n\r\n", true),
        ("never", "content-length: 5\r\n", b"", false),
        ("only when asked for", "content-length: 5\r\nexpect: 100-continue\r\n", b"", false),
        ("long", "content-length: 1048576\r\n", &long, false),
    ] {
        let head = format!(
            "POST /api/v1/admin/apps HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\n{headers}\r\n"
        );
        let rest = if goes_on { [body, next].concat() } else { body.to_vec() };
        let answers = target.server.client.raw_with_pause(head.as_bytes(), &rest);
        let (count, is_closed) =
            (answers.matches("HTTP/1.1 ").count(), answers.contains("connection: close"));
        target.row(name, "next one answered, or told to close", &format!("{count}, {is_closed}"));
        assert!(is_closed, "{name}: {answers:.600}");
        // A slow machine may take the short ones for late.
        assert!(count == 1 || count == 2 && goes_on, "{name}: {answers:.600}");
    }
    target.ends_unharmed();
}
