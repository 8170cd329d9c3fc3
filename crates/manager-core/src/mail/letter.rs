//! A mail as a script asks for it, looked through field by field, and as the mail server gets it.
//!
//! lettre writes the message. What could end a header or a line early is refused or unfolded before that.

use lettre::Message;
use lettre::address::Envelope;
use lettre::message::header::{self, ContentTransferEncoding, ContentType, HeaderName, HeaderValue, Headers};
use lettre::message::{Attachment, Body, Mailbox, Mailboxes, MultiPart, SinglePart};
use shared::host_call::email;
use shared::id::AppId;
use shared::limits::{
    EMAIL_ATTACHMENTS_MAX, EMAIL_NAME_BYTES_MAX, EMAIL_RECIPIENTS_MAX, EMAIL_SUBJECT_BYTES_MAX,
    FILE_NAME_BYTES_MAX,
};

use super::address;

/// Longest word of a subject: a line of a message has 998 bytes at most (RFC 5322) and is only broken between words.
const WORD_BYTES_MAX: usize = 900;
/// A type with its parameters, which is a line too.
const CONTENT_TYPE_BYTES_MAX: usize = 255;
/// What is shown of a text that is no address.
const SHOWN_CHARS_MAX: usize = 80;

/// Why a mail cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub(crate) struct Invalid {
    field: &'static str,
    reason: String,
}

fn invalid(field: &'static str, reason: impl Into<String>) -> Invalid {
    Invalid { field, reason: reason.into() }
}

/// A mail that can be sent, if somebody says who it is from.
#[derive(Debug)]
pub(crate) struct Letter {
    to: Vec<Mailbox>,
    cc: Vec<Mailbox>,
    bcc: Vec<Mailbox>,
    reply_to: Option<Mailbox>,
    from_name: Option<String>,
    subject: String,
    content: Content,
    files: Vec<SinglePart>,
}

/// What there is to read.
#[derive(Debug)]
enum Content {
    Text(String),
    Html(String),
    Both { text: String, html: String },
}

/// A mail as the mail server gets it.
#[derive(Debug)]
pub(crate) struct Posted {
    pub(super) envelope: Envelope,
    pub(super) message: Vec<u8>,
}

impl Posted {
    pub(crate) fn recipients(&self) -> usize {
        self.envelope.to().len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.message.len()
    }
}

impl Letter {
    pub(crate) fn read(send: &email::Send<'_>) -> Result<Self, Invalid> {
        let count = send.to.len() + send.cc.len() + send.bcc.len();
        if count == 0 {
            return Err(invalid("to", "is missing"));
        }
        if count > EMAIL_RECIPIENTS_MAX {
            let reason =
                format!("has, with cc and bcc, {count} addresses; it may have {EMAIL_RECIPIENTS_MAX}");
            return Err(invalid("to", reason));
        }
        if send.attachments.len() > EMAIL_ATTACHMENTS_MAX {
            let count = send.attachments.len();
            let reason = format!("has {count} files; it may have {EMAIL_ATTACHMENTS_MAX}");
            return Err(invalid("attachments", reason));
        }
        Ok(Self {
            to: mailboxes("to", &send.to)?,
            cc: mailboxes("cc", &send.cc)?,
            bcc: mailboxes("bcc", &send.bcc)?,
            reply_to: send.reply_to.map(|text| mailbox("reply_to", text)).transpose()?,
            from_name: send.from_name.map(name).transpose()?,
            subject: subject(send.subject)?,
            content: Content::of(send.text, send.html)?,
            files: send.attachments.iter().map(file).collect::<Result<_, _>>()?,
        })
    }

    /// The mail from this sender, of this app.
    pub(crate) fn posted(self, sender: &Mailbox, app: AppId, id: &str) -> Result<Posted, Invalid> {
        let recipients = self.to.iter().chain(&self.cc).chain(&self.bcc);
        let recipients: Vec<_> = recipients.map(|mailbox| mailbox.email.clone()).collect();
        let envelope = Envelope::new(Some(sender.email.clone()), recipients)
            .map_err(|error| invalid("to", error.to_string()))?;
        let name = self.from_name.or_else(|| sender.name.clone());
        let from = Mailbox::new(name, sender.email.clone());
        let mut builder = Message::builder()
            .envelope(envelope)
            .header(header::From::from(Mailboxes::from(from)))
            .subject(self.subject)
            .message_id(Some(id.to_owned()))
            // So that nobody's absence is told to a machine (RFC 3834).
            .raw_header(raw("Auto-Submitted", "auto-generated".to_owned()))
            // Whom to complain about.
            .raw_header(raw("X-PiCloud-App", app.to_string()));
        for (name, mailboxes) in [("To", &self.to), ("Cc", &self.cc)] {
            if !mailboxes.is_empty() {
                builder = builder.raw_header(list(name, mailboxes));
            }
        }
        if let Some(reply_to) = self.reply_to {
            builder = builder.header(header::ReplyTo::from(Mailboxes::from(reply_to)));
        }
        let message = match (self.content, self.files) {
            (Content::Text(text), files) if files.is_empty() => builder.singlepart(plain(text)),
            (Content::Html(html), files) if files.is_empty() => builder.singlepart(rich(html)),
            (Content::Both { text, html }, files) if files.is_empty() => {
                builder.multipart(alternatives(text, html))
            }
            (content, files) => {
                let parts = MultiPart::mixed();
                let parts = match content {
                    Content::Text(text) => parts.singlepart(plain(text)),
                    Content::Html(html) => parts.singlepart(rich(html)),
                    Content::Both { text, html } => parts.multipart(alternatives(text, html)),
                };
                builder.multipart(files.into_iter().fold(parts, MultiPart::singlepart))
            }
        };
        let message = message.map_err(|error| invalid("from_name", error.to_string()))?;
        Ok(Posted { envelope: message.envelope().clone(), message: message.formatted() })
    }
}

impl Content {
    fn of(text: Option<&str>, html: Option<&str>) -> Result<Self, Invalid> {
        match (text, html) {
            (Some(text), None) => Ok(Self::Text(lines(text))),
            (None, Some(html)) => Ok(Self::Html(lines(html))),
            (Some(text), Some(html)) => Ok(Self::Both { text: lines(text), html: lines(html) }),
            (None, None) => Err(invalid("text", "is missing, and so is html")),
        }
    }
}

/// Every end of a line as mail has it. A lone CR or LF is what some servers take for one and others do not, which
/// is how a second mail is smuggled in.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n")
}

fn plain(text: String) -> SinglePart {
    SinglePart::builder().header(ContentType::TEXT_PLAIN).body(encoded(text))
}

fn rich(html: String) -> SinglePart {
    SinglePart::builder().header(ContentType::TEXT_HTML).body(encoded(html))
}

/// Readers take the last that they can show.
fn alternatives(text: String, html: String) -> MultiPart {
    MultiPart::alternative().singlepart(plain(text)).singlepart(rich(html))
}

/// As lettre finds it best, but that control characters never go out as they are.
fn encoded(text: String) -> Body {
    let is_plain = |c: char| !c.is_control() || matches!(c, '\r' | '\n' | '\t');
    if text.chars().all(is_plain) {
        return Body::new(text);
    }
    in_base64(text.into_bytes())
}

fn in_base64(bytes: Vec<u8>) -> Body {
    Body::new_with_encoding(bytes, ContentTransferEncoding::Base64).expect("base64 takes whatever there is")
}

fn raw(name: &'static str, value: String) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value)
}

/// Each as lettre writes it, on a line of its own: all in one would be longer than a line may be.
fn list(name: &'static str, mailboxes: &[Mailbox]) -> HeaderValue {
    let written = |mailbox: &Mailbox| {
        let mut alone = Headers::new();
        alone.set(header::To::from(Mailboxes::from(mailbox.clone())));
        alone.to_string().trim_start_matches("To:").trim().to_owned()
    };
    let shown: Vec<_> = mailboxes.iter().map(ToString::to_string).collect();
    let lines: Vec<_> = mailboxes.iter().map(written).collect();
    let name = HeaderName::new_from_ascii_str(name);
    HeaderValue::dangerous_new_pre_encoded(name, shown.join(", "), lines.join(",\r\n "))
}

fn mailboxes(field: &'static str, texts: &[&str]) -> Result<Vec<Mailbox>, Invalid> {
    texts.iter().map(|text| mailbox(field, text)).collect()
}

fn mailbox(field: &'static str, text: &str) -> Result<Mailbox, Invalid> {
    address::mailbox(text).map_err(|reason| {
        let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
        invalid(field, format!("{shown:?} {reason}"))
    })
}

/// A name that is shown for the sender. One that is itself an address would say that somebody else has written.
fn name(text: &str) -> Result<String, Invalid> {
    let reason = if text.chars().any(char::is_control) {
        "has control characters"
    } else if text.len() > EMAIL_NAME_BYTES_MAX {
        "is too long"
    } else if text.contains(['@', '<', '>']) {
        "looks like an address"
    } else if text.trim().is_empty() {
        "is empty"
    } else {
        return Ok(text.trim().to_owned());
    };
    Err(invalid("from_name", reason))
}

fn subject(text: &str) -> Result<String, Invalid> {
    let reason = if text.trim().is_empty() {
        "is empty".to_owned()
    } else if text.chars().any(char::is_control) {
        "has line breaks or other control characters".to_owned()
    } else if text.len() > EMAIL_SUBJECT_BYTES_MAX {
        format!("has {} bytes; it may have {EMAIL_SUBJECT_BYTES_MAX}", text.len())
    } else if text.split(' ').any(|word| word.len() > WORD_BYTES_MAX) {
        format!("has a word of more than {WORD_BYTES_MAX} bytes")
    } else {
        return Ok(text.to_owned());
    };
    Err(invalid("subject", reason))
}

fn file(attachment: &email::Attachment<'_>) -> Result<SinglePart, Invalid> {
    let email::Attachment { name, content_type, content } = *attachment;
    let wrong = |reason: String| Err(invalid("attachments", reason));
    if name.is_empty() || name.len() > FILE_NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return wrong(format!(
            "has a name that is none of 1 to {FILE_NAME_BYTES_MAX} bytes without control characters"
        ));
    }
    let is_line = content_type.bytes().all(|b| matches!(b, b' '..=b'~'));
    // Parts of messages may not be encoded as a whole, and what is encoded can hold nothing that ends it.
    let is_composite = ["multipart/", "message/"]
        .iter()
        .any(|kind| content_type.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind)));
    let parsed = ContentType::parse(content_type).ok();
    match parsed.filter(|_| is_line && !is_composite && content_type.len() <= CONTENT_TYPE_BYTES_MAX) {
        Some(parsed) => Ok(Attachment::new(name.to_owned()).body(in_base64(content.to_vec()), parsed)),
        None => {
            let shown: String = content_type.chars().take(SHOWN_CHARS_MAX).collect();
            wrong(format!("has the content type {shown:?}; it takes one such as application/pdf"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain_mail() -> email::Send<'static> {
        email::Send {
            to: vec!["ada@example.com"],
            subject: "Hello",
            text: Some("Hello."),
            ..email::Send::default()
        }
    }

    fn posted(send: &email::Send<'_>) -> Result<String, Invalid> {
        let sender = address::mailbox("PiCloud <noreply@example.org>").unwrap();
        let posted = Letter::read(send)?.posted(&sender, AppId::new(), "<1@example.org>")?;
        Ok(String::from_utf8(posted.message).unwrap())
    }

    /// Names of the headers of the whole message, in their order.
    fn headers(message: &str) -> Vec<&str> {
        let (head, _) = message.split_once("\r\n\r\n").unwrap();
        let lines = head.split("\r\n").filter(|line| !line.starts_with([' ', '\t']));
        lines.map(|line| line.split_once(':').unwrap().0).collect()
    }

    #[test]
    fn what_is_wrong_is_said_of_the_field_it_is_in() {
        let mail = plain_mail();
        let attachment = email::Attachment { name: "a", content_type: "text/plain", content: b"" };
        for (send, message) in [
            (email::Send { to: vec![], ..mail.clone() }, "to is missing"),
            (
                email::Send { to: vec!["ada"], ..mail.clone() },
                "to \"ada\" is no address such as ada@example.com",
            ),
            (email::Send { cc: vec!["a\n@b"], ..mail.clone() }, "cc \"a\\n@b\" has control characters"),
            (
                email::Send { to: vec!["a@b.c"; 51], ..mail.clone() },
                "to has, with cc and bcc, 51 addresses; it may have 50",
            ),
            (
                email::Send { reply_to: Some(""), ..mail.clone() },
                "reply_to \"\" is no address such as ada@example.com",
            ),
            (
                email::Send { from_name: Some("ceo@bank.example"), ..mail.clone() },
                "from_name looks like an address",
            ),
            (email::Send { subject: " ", ..mail.clone() }, "subject is empty"),
            (
                email::Send { subject: "a\rb", ..mail.clone() },
                "subject has line breaks or other control characters",
            ),
            (email::Send { text: None, ..mail.clone() }, "text is missing, and so is html"),
            (
                email::Send {
                    attachments: vec![email::Attachment { content_type: "pdf", ..attachment }],
                    ..mail.clone()
                },
                "attachments has the content type \"pdf\"; it takes one such as application/pdf",
            ),
            (
                email::Send { attachments: vec![attachment; 11], ..mail.clone() },
                "attachments has 11 files; it may have 10",
            ),
        ] {
            assert_eq!(posted(&send).unwrap_err().to_string(), message);
        }
        assert!(posted(&mail).is_ok());
    }

    #[test]
    fn those_who_get_a_copy_in_secret_are_in_the_envelope_alone() {
        let send = email::Send { to: vec![], bcc: vec!["carla@example.com"], ..plain_mail() };
        let sender = address::mailbox("noreply@example.org").unwrap();
        let posted = Letter::read(&send).unwrap().posted(&sender, AppId::new(), "<1@example.org>").unwrap();
        assert_eq!(posted.recipients(), 1);
        assert!(!String::from_utf8(posted.message).unwrap().contains("carla"));
    }

    #[test]
    fn no_line_of_a_mail_to_many_is_too_long() {
        let (name, user) = ("é".repeat(EMAIL_NAME_BYTES_MAX / 2), "x".repeat(64));
        let long: Vec<_> =
            (0..EMAIL_RECIPIENTS_MAX).map(|n| format!("{name} <{user}@{n}.example.com>")).collect();
        let to = long.iter().map(String::as_str).collect();
        let subject = "a ".repeat(EMAIL_SUBJECT_BYTES_MAX / 2 - 1) + "a";
        let message = posted(&email::Send { to, subject: &subject, ..plain_mail() }).unwrap();
        assert!(message.split("\r\n").all(|line| line.len() <= 200), "{message}");
        assert_eq!(message.matches(&format!("<{user}@")).count(), EMAIL_RECIPIENTS_MAX);
    }

    proptest! {
        #[test]
        fn attack_whatever_is_in_a_field_the_headers_are_ours(
            name in "\\PC{1,40}", subject in "\\PC{1,120}", person in "\\PC{0,30}", file in "\\PC{1,60}", text: String,
        ) {
            let to = format!("\"{person}\" <ada@example.com>");
            let attachments = vec![email::Attachment { name: &file, content_type: "text/plain", content: b"x" }];
            let mail = email::Send {
                to: vec![&to], from_name: Some(&name), subject: &subject, text: Some(&text), html: None, attachments,
                ..email::Send::default()
            };
            if let Ok(message) = posted(&mail) {
                let expected = [
                    "From", "Subject", "Message-ID", "Auto-Submitted", "X-PiCloud-App", "To", "MIME-Version", "Date",
                    "Content-Type",
                ];
                prop_assert_eq!(headers(&message), expected);
                prop_assert!(message.is_ascii());
                prop_assert!(message.split("\r\n").all(|line| line.len() <= 998 && !line.contains(['\r', '\n', '\0'])));
            }
        }

        #[test]
        fn arbitrary_fields_never_panic(field: String, content: Vec<u8>) {
            let file = email::Attachment { name: &field, content_type: &field, content: &content };
            let _ = posted(&email::Send {
                to: vec![&field], cc: vec![&field], reply_to: Some(&field), from_name: Some(&field), subject: &field,
                html: Some(&field), attachments: vec![file], ..plain_mail()
            });
            let _ = posted(&email::Send { attachments: vec![file], ..plain_mail() });
            let _ = posted(&email::Send { from_name: Some(&field), subject: &field, ..plain_mail() });
        }
    }
}
