//! Tokens by which somebody outside listens to topics for a while: the topics and the time, sealed by the app's key.
//! Who has the database alone can make none, and who has one cannot make another of it.

use serde::{Deserialize, Serialize};
use shared::call::{CallCode, CallError};
use shared::id::AppId;
use shared::limits::{SUBSCRIBER_TOKEN_S_MAX, SUBSCRIBER_TOKEN_TOPICS_MAX};
use shared::name::TopicName;
use shared::wire::codec;

use super::messages::topic_name;
use super::sealed_claim::now_s;
use super::{Access, Data};
use crate::store::app_database::Tenant;

/// What keeps tokens from opening elsewhere, and the other way round.
const OF: &str = "subscriber tokens";
/// By which people and scanners of secrets know one.
const PREFIX: &str = "pict_";
/// Longest text of a token: a claim with as many of the longest names as there may be, sealed.
const TOKEN_BYTES_MAX: usize = 10 << 10;
/// A token of a dry run: too short to be sealed, and good for nothing.
const NOTHING: &str = "pict_dry-run";

/// What a token says behind its app's id. The order of the fields is part of every token that is out there.
#[derive(Debug, Serialize, Deserialize)]
struct Claim<'a> {
    #[serde(borrow)]
    topics: Vec<&'a str>,
    /// Seconds since the Unix epoch.
    expires_at_s: u64,
}

/// What a token is good for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Subscription {
    topics: Vec<TopicName>,
    /// Seconds since the Unix epoch.
    pub(crate) expires_at_s: u64,
}

impl Subscription {
    pub(crate) fn covers(&self, topic: &TopicName) -> bool {
        self.topics.contains(topic)
    }
}

impl Data {
    /// A token for these topics, good for so many seconds. In a dry run it is good for nothing: a good one would outlive
    /// the run, and nobody could take it back.
    pub(crate) async fn subscriber_token(
        &self,
        access: &Access<'_>,
        topics: &[&str],
        ttl_s: u32,
    ) -> Result<String, CallError> {
        if topics.is_empty() || topics.len() > SUBSCRIBER_TOKEN_TOPICS_MAX {
            let message = format!("a token is for 1 to {SUBSCRIBER_TOKEN_TOPICS_MAX} topics");
            return Err(CallError::invalid(message));
        }
        if !(1..=SUBSCRIBER_TOKEN_S_MAX).contains(&ttl_s) {
            return Err(CallError::invalid(format!("ttl_s may be 1 to {SUBSCRIBER_TOKEN_S_MAX} seconds")));
        }
        for topic in topics {
            if !self.is_external(access, &topic_name(topic)?) {
                let message = format!(
                    "nobody outside may listen to the topic {topic}; register it with external: true, in the app's \
                     manifest or at /api/v1/admin/apps/{{app}}/topics"
                );
                return Err(CallError::new(CallCode::NotFound, message));
            }
        }
        if access.rehearsal.is_some() {
            return Ok(NOTHING.to_owned());
        }
        let claim = Claim { topics: topics.to_vec(), expires_at_s: now_s() + u64::from(ttl_s) };
        Ok(format!("{PREFIX}{}", self.seal_claim(access, OF, &claim).await?))
    }

    /// What a token is good for on a host of this app; nothing for what is none, or no longer one.
    pub(crate) async fn subscription(
        &self,
        app: AppId,
        token: &str,
    ) -> Result<Option<Subscription>, CallError> {
        let shown = token.strip_prefix(PREFIX).and_then(|text| self.shown(text, TOKEN_BYTES_MAX));
        let Some(shown) = shown.filter(|shown| shown.app == app) else { return Ok(None) };
        let mut conn = self.acquire_for(Tenant::of_unknown_owner(app)).await?;
        let Some(plain) = self.open_claim(&mut conn, &shown, OF).await? else { return Ok(None) };
        conn.answered();
        let Ok(claim) = codec::decode_body::<Claim<'_>>(&plain) else { return Ok(None) };
        if now_s() >= claim.expires_at_s {
            return Ok(None);
        }
        let topics = claim.topics.into_iter().filter_map(|topic| topic_name(topic).ok()).collect();
        Ok(Some(Subscription { topics, expires_at_s: claim.expires_at_s }))
    }
}
