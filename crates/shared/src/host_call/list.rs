//! Lists that may only be so long.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

/// The beginning of a list: one element more than there may be, by which whoever asks about its length sees that it is
/// too long. What follows has to decode as well, or whoever sent it speaks another protocol, and is dropped as it
/// comes: a byte of it may stand for many bytes of memory.
pub(super) fn at_most<'de, T, D>(most: usize, deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_seq(Beginning { most, element: PhantomData })
}

struct Beginning<T> {
    most: usize,
    element: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Beginning<T> {
    type Value = Vec<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut kept = Vec::new();
        while let Some(element) = list.next_element::<T>()? {
            if kept.len() <= self.most {
                kept.push(element);
            }
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use crate::host_call::{atomic, kv, pubsub, users};
    use crate::limits::{
        APP_USER_ROLES_MAX, ATOMIC_OPS_MAX, HOST_CALL_BYTES_MAX, KV_LIST_MAX, SUBSCRIBER_TOKEN_TOPICS_MAX,
    };
    use crate::wire::codec;

    fn encoded<T: serde::Serialize>(args: &T) -> Vec<u8> {
        let mut bytes = Vec::new();
        codec::encode_body(&mut bytes, args);
        bytes
    }

    #[test]
    fn attack_as_many_operations_as_the_arguments_of_a_call_have_room_for() {
        let op = atomic::Op::KvDelete(kv::Key { collection: "", key: "" });
        let ops = vec![op; (HOST_CALL_BYTES_MAX - 3) / 3];
        assert!(ops.len() > 349_000);
        let bytes = encoded(&atomic::Commit { ops });
        assert!(bytes.len() <= HOST_CALL_BYTES_MAX);
        let read: atomic::Commit<'_> = codec::decode_body(&bytes).unwrap();
        assert_eq!(read.ops.len(), ATOMIC_OPS_MAX + 1);
        assert!(read.ops.capacity() < 3 * ATOMIC_OPS_MAX, "{}", read.ops.capacity());
        // The end of it counts, too.
        assert!(codec::decode_body::<atomic::Commit<'_>>(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn attack_lists_of_names_without_end() {
        let names = vec![""; 100_000];
        let bytes = encoded(&kv::Keys { collection: "c", keys: names.clone() });
        let read: kv::Keys<'_> = codec::decode_body(&bytes).unwrap();
        assert_eq!(read.keys.len(), KV_LIST_MAX as usize + 1);

        let bytes = encoded(&pubsub::SubscriberToken { topics: names.clone(), ttl_s: 60 });
        let read: pubsub::SubscriberToken<'_> = codec::decode_body(&bytes).unwrap();
        assert_eq!((read.topics.len(), read.ttl_s), (SUBSCRIBER_TOKEN_TOPICS_MAX + 1, 60));

        let update =
            users::Update { id: "u", roles: Some(names), disabled: Some(true), ..Default::default() };
        let bytes = encoded(&update);
        let read: users::Update<'_> = codec::decode_body(&bytes).unwrap();
        assert_eq!(read.roles.map(|roles| roles.len()), Some(APP_USER_ROLES_MAX + 1));
        assert_eq!(read.disabled, Some(true));
    }

    #[test]
    fn lists_that_are_short_enough_are_read_as_they_are() {
        let keys = kv::Keys { collection: "c", keys: vec!["a", "b"] };
        assert_eq!(codec::decode_body::<kv::Keys<'_>>(&encoded(&keys)), Ok(keys));
        for roles in [None, Some(vec![]), Some(vec!["editor"])] {
            let update = users::Update { id: "u", roles, ..Default::default() };
            assert_eq!(codec::decode_body::<users::Update<'_>>(&encoded(&update)), Ok(update));
        }
    }
}
