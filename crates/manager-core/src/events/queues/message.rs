//! A message as its handler sees it, and which messages stand in one line.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use shared::name::QueueName;

use crate::events::triggers::queue::QueueConfig;

/// What a script sees as `ctx.event.queue`.
#[derive(Debug, Serialize)]
pub(super) struct About<'a> {
    pub(super) name: &'a str,
    pub(super) message: &'a RawValue,
    pub(super) enqueued_at: String,
}

/// What is found in every event of a message of this queue, and perhaps in others.
pub(crate) fn mark(queue: &QueueName) -> String {
    format!("\"name\":\"{queue}\"")
}

/// Whether an event is of a message of this queue.
pub(crate) fn is_of(event: &[u8], queue: &QueueName) -> bool {
    #[derive(Deserialize)]
    struct Event {
        queue: Named,
    }
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    serde_json::from_slice::<Event>(event).is_ok_and(|event| event.queue.name == queue.as_str())
}

/// What messages that are handled one after the other have in common: all of a queue whose consumer handles
/// one at a time, else those of one key. It is the same for every consumer that the queue may have.
pub(super) fn order_key(config: &QueueConfig, key: Option<&str>) -> Option<[u8; 16]> {
    if config.concurrency == 1 {
        return Some(whole(&config.queue));
    }
    key.map(|key| line(&config.queue, Some(key)))
}

/// The same for a message of which not the key is known but what it had in common with others.
pub(crate) fn order_key_again(config: &QueueConfig, before: Option<[u8; 16]>) -> Option<[u8; 16]> {
    if config.concurrency == 1 {
        return Some(whole(&config.queue));
    }
    before.filter(|before| *before != whole(&config.queue))
}

fn whole(queue: &QueueName) -> [u8; 16] {
    line(queue, None)
}

fn line(queue: &QueueName, key: Option<&str>) -> [u8; 16] {
    let mut hash = Sha256::new_with_prefix(queue.as_str());
    if let Some(key) = key {
        // In no name, so that no key makes a queue another.
        hash.update([0]);
        hash.update(key);
    }
    let digest: [u8; 32] = hash.finalize().into();
    digest.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::events::{EventKind, Payload};

    fn config(concurrency: u16) -> QueueConfig {
        serde_json::from_value(json!({ "queue": "mails", "concurrency": concurrency })).unwrap()
    }

    #[test]
    fn an_event_is_of_the_queue_that_it_names_and_bears_its_mark() {
        let (mails, jobs) = ("mails".parse().unwrap(), "jobs".parse().unwrap());
        // A message may look like an event, and have what PostgreSQL's JSON cannot.
        let message =
            RawValue::from_string(r#"{"queue":{"name":"jobs"},"text":"\u0000"}"#.to_owned()).unwrap();
        let about = About { name: "mails", message: &message, enqueued_at: String::new() };
        let payload = Payload::new(EventKind::Queue, &about).unwrap();
        let text = std::str::from_utf8(payload.as_bytes()).unwrap();
        assert!(text.contains(&mark(&mails)) && text.contains(&mark(&jobs)), "{text}");
        assert!(is_of(payload.as_bytes(), &mails));
        assert!(!is_of(payload.as_bytes(), &jobs));
        assert!(!is_of(b"no event", &mails));
    }

    #[test]
    fn messages_keep_their_line_when_their_consumer_is_replaced() {
        let (one, many) = (config(1), config(4));
        let of_key = order_key(&many, Some("ada"));
        assert_ne!(of_key, order_key(&many, Some("grace")));
        assert_eq!(order_key(&many, None), None);
        assert_eq!(order_key_again(&many, of_key), of_key);
        assert_eq!(order_key_again(&one, of_key), order_key(&one, Some("ada")));
        assert_eq!(order_key_again(&many, order_key(&one, None)), None, "nobody stands behind all others");
    }
}
