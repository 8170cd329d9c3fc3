//! Addresses as people write them: `ada@example.com`, `Ada <ada@example.com>`.

use lettre::Address;
use lettre::message::Mailbox;
use shared::limits::EMAIL_NAME_BYTES_MAX;

/// Reads one. The parts are lettre's to judge; its own parser of both together forgets what is behind the
/// first address.
pub(super) fn mailbox(text: &str) -> Result<Mailbox, &'static str> {
    if text.chars().any(char::is_control) {
        return Err("has control characters");
    }
    let text = text.trim();
    let (name, address) = match text.strip_suffix('>').and_then(|text| text.rsplit_once('<')) {
        Some((name, address)) => (plain(name.trim())?, address),
        None => (String::new(), text),
    };
    if name.len() > EMAIL_NAME_BYTES_MAX {
        return Err("has too long a name");
    }
    Ok(Mailbox::new(Some(name).filter(|name| !name.is_empty()), parse(address)?))
}

fn parse(address: &str) -> Result<Address, &'static str> {
    let parsed: Address = address.parse().map_err(|_| "is no address such as ada@example.com")?;
    if parsed.domain().is_ascii() {
        return Ok(parsed);
    }
    // As every server knows it, and not only those that know SMTPUTF8.
    let ascii = url::Host::parse(parsed.domain()).map_err(|_| "has no valid domain")?;
    Address::new(parsed.user(), ascii.to_string()).map_err(|_| "has no valid domain")
}

/// A name without the quotes around it. Without quotes it has nothing that stands between addresses: a list of
/// them would be taken for the name of the last.
fn plain(name: &str) -> Result<String, &'static str> {
    let Some(inner) = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        if name.contains([',', ';', '@', '<', '>', '"']) {
            return Err("is more than one address, or needs quotes around its name");
        }
        return Ok(name.to_owned());
    };
    let mut plain = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        let escaped = if c == '\\' { chars.next() } else { None };
        plain.push(escaped.unwrap_or(c));
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_with_and_without_a_name() {
        for (text, name, address) in [
            ("ada@example.com", None, "ada@example.com"),
            (" <ada@example.com> ", None, "ada@example.com"),
            ("Ada Lovelace <ada@example.com>", Some("Ada Lovelace"), "ada@example.com"),
            (r#""Lovelace, \"Ada\"" <ada@example.com>"#, Some("Lovelace, \"Ada\""), "ada@example.com"),
            ("Zoë <zoë@bücher.example>", Some("Zoë"), "zoë@xn--bcher-kva.example"),
        ] {
            let read = mailbox(text).unwrap();
            assert_eq!((read.name.as_deref(), read.email.to_string().as_str()), (name, address), "{text}");
        }
    }

    #[test]
    fn attack_an_address_is_one_address_and_nothing_behind_it() {
        for text in [
            "",
            "ada",
            "@example.com",
            "ada@",
            "ada@example.com, eve@example.com",
            "ada@example.com eve@example.com",
            "<ada@example.com> <eve@example.com>, mallory@example.com",
            "ada@example.com> SIZE=1",
            "<ada@example.com>\r\nBcc: eve@example.com",
            "ada@example.com\r\nRCPT TO:<eve@example.com>",
            "Ada\n <ada@example.com>",
            "ada@example.com\0",
            "ada@exam ple.com",
            "a\u{85}da@example.com",
            "eve@example.com <ada@example.com>",
            "eve@example.com, Ada <ada@example.com>",
            "Eve <eve@example.com>; Ada <ada@example.com>",
            "Lovelace, Ada <ada@example.com>",
        ] {
            assert!(mailbox(text).is_err(), "{text:?}");
        }
        let read = mailbox("\"eve@example.com\" <ada@example.com>").unwrap();
        assert_eq!(read.email.to_string(), "ada@example.com");
        assert!(mailbox(&format!("{} <ada@example.com>", "x".repeat(EMAIL_NAME_BYTES_MAX + 1))).is_err());
    }
}
