//! An entry in its place, bound to the one before by its hash.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use shared::id::{AppId, UserId};

use super::Entry;

/// What the first entry is bound to.
pub(crate) const GENESIS: [u8; 32] = [0; 32];

/// A row of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Link {
    pub(crate) number: i64,
    pub(crate) at: DateTime<Utc>,
    pub(crate) actor_id: Option<UserId>,
    pub(crate) actor_name: String,
    pub(crate) credential: String,
    pub(crate) app_id: Option<AppId>,
    pub(crate) action: String,
    pub(crate) target: String,
    pub(crate) remote_address: String,
    pub(crate) request_id: String,
    #[serde(serialize_with = "hex_or_null")]
    #[schemars(with = "Option<String>")]
    pub(crate) before_digest: Option<[u8; 32]>,
    #[serde(serialize_with = "hex_or_null")]
    #[schemars(with = "Option<String>")]
    pub(crate) after_digest: Option<[u8; 32]>,
    #[serde(serialize_with = "hex")]
    #[schemars(with = "String")]
    pub(crate) previous_hash: [u8; 32],
    #[serde(serialize_with = "hex")]
    #[schemars(with = "String")]
    pub(crate) hash: [u8; 32],
}

impl Link {
    /// The entry behind the last one, of which number and hash are given.
    pub(crate) fn after(last: Option<(i64, [u8; 32])>, entry: Entry) -> Self {
        let (number, previous_hash) = last.unwrap_or((0, GENESIS));
        let Entry { actor, app, action, target, before, after } = entry;
        let now = Utc::now();
        let mut link = Self {
            number: number + 1,
            // The database keeps microseconds, and the hash is of what it keeps.
            at: now.duration_trunc(TimeDelta::microseconds(1)).unwrap_or(now),
            actor_id: actor.id,
            actor_name: actor.name,
            credential: actor.credential,
            app_id: app,
            action: action.to_owned(),
            target,
            remote_address: actor.address.map(|address| address.to_string()).unwrap_or_default(),
            request_id: actor.request_id.to_string(),
            before_digest: before,
            after_digest: after,
            previous_hash,
            hash: GENESIS,
        };
        link.hash = link.computed_hash();
        link
    }

    /// The entries behind the last one, each bound to the one before it.
    pub(crate) fn chain(mut last: Option<(i64, [u8; 32])>, entries: Vec<Entry>) -> Vec<Self> {
        let mut links = Vec::with_capacity(entries.len());
        for entry in entries {
            let link = Self::after(last, entry);
            last = Some((link.number, link.hash));
            links.push(link);
        }
        links
    }

    /// SHA-256 over the hash before and every field, each with its length, so that no two rows have
    /// the same bytes.
    pub(crate) fn computed_hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut field = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        field(&self.previous_hash);
        field(&self.number.to_le_bytes());
        field(&self.at.timestamp_micros().to_le_bytes());
        field(self.actor_id.map(UserId::to_bytes).as_ref().map_or(&[], |id| id));
        field(self.actor_name.as_bytes());
        field(self.credential.as_bytes());
        field(self.app_id.map(AppId::to_bytes).as_ref().map_or(&[], |id| id));
        field(self.action.as_bytes());
        field(self.target.as_bytes());
        field(self.remote_address.as_bytes());
        field(self.request_id.as_bytes());
        field(self.before_digest.as_ref().map_or(&[], |digest| digest));
        field(self.after_digest.as_ref().map_or(&[], |digest| digest));
        hash.finalize().into()
    }
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex_text(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

pub(crate) fn hex<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex_text(bytes))
}

fn hex_or_null<S: Serializer>(bytes: &Option<[u8; 32]>, serializer: S) -> Result<S::Ok, S::Error> {
    bytes.map(|bytes| hex_text(&bytes)).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::super::Actor;
    use super::*;

    fn link(target: &str, action: &'static str) -> Link {
        Link::after(Some((6, [9; 32])), Entry::new(Actor::platform(), action, target))
    }

    #[test]
    fn a_link_is_numbered_and_bound_to_the_one_before() {
        let first = Link::after(None, Entry::new(Actor::platform(), "app.create", "blog"));
        assert_eq!((first.number, first.previous_hash), (1, GENESIS));
        let second = Link::after(
            Some((first.number, first.hash)),
            Entry::new(Actor::platform(), "app.delete", "blog"),
        );
        assert_eq!((second.number, second.previous_hash), (2, first.hash));
    }

    #[test]
    fn links_of_one_chain_are_bound_to_each_other_in_their_order() {
        let entry = |target: &str| Entry::new(Actor::platform(), "app.create", target);
        let links = Link::chain(Some((6, [9; 32])), vec![entry("a"), entry("b"), entry("c")]);
        let places: Vec<_> = links.iter().map(|link| (link.number, link.target.as_str())).collect();
        assert_eq!(places, [(7, "a"), (8, "b"), (9, "c")]);
        let before: Vec<_> = links.iter().map(|link| link.previous_hash).collect();
        assert_eq!(before, [[9; 32], links[0].hash, links[1].hash]);
        assert!(Link::chain(None, Vec::new()).is_empty());
    }

    #[test]
    fn no_field_can_be_moved_into_its_neighbour() {
        let mut a = link("b", "app.create");
        let mut b = a.clone();
        (a.action, a.target) = ("app.createb".into(), String::new());
        (b.action, b.target) = ("app.create".into(), "b".into());
        assert_ne!(a.computed_hash(), b.computed_hash());
        b.at += TimeDelta::microseconds(1);
        assert_ne!(b.computed_hash(), link("b", "app.create").hash);
    }

    #[test]
    fn hexadecimal_is_two_digits_a_byte() {
        assert_eq!(hex_text(&[0, 0xaf, 0xff]), "00afff");
    }
}
