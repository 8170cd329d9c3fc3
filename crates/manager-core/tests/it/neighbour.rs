//! Another app beside an attack on the services. There are no workers here that an attack could take from it, so it
//! makes its calls itself, between those of the attack.

use serde_json::json;
use shared::host_call::HostOp;
use shared::host_call::kv::{Found, Key};
use shared::id::AppId;

use crate::calls::Script;
use crate::harness::TestApi;

const SLUG: &str = "neighbour";
/// As the database keeps it.
const KEPT: &str = "\"the neighbour is well\"";

/// An app that finds what it keeps whenever it looks.
pub(crate) struct Neighbour<'a> {
    api: &'a TestApi,
    app: AppId,
    answers: usize,
}

impl<'a> Neighbour<'a> {
    pub(crate) async fn beside(api: &'a TestApi) -> Self {
        api.post("/apps", json!({ "slug": SLUG })).await.is(201);
        let kept = json!({ "value": "the neighbour is well" });
        api.call("PUT", &format!("/apps/{SLUG}/kv/c/k"), Some(kept)).await.is(200);
        let mut neighbour = Self { api, app: api.app_id(SLUG).await, answers: 0 };
        neighbour.is_well().await;
        neighbour
    }

    /// Each look is an execution of its own, as what one of them may use up is the attack's business.
    pub(crate) async fn is_well(&mut self) {
        let key = Key { collection: "c", key: "k" };
        let answer = Script::of_app(self.api, self.app, SLUG).call(HostOp::KvGet, &key).await;
        let answer = answer.unwrap_or_else(|code| panic!("the neighbour noticed: {code}"));
        assert_eq!(answer.read::<Found<'_>>().value, Some(KEPT), "the neighbour noticed");
        self.answers += 1;
    }

    /// Looks a last time, and says how often it was well, for the row of a table.
    pub(crate) async fn leave(mut self) -> String {
        self.is_well().await;
        format!("well, {} times", self.answers)
    }
}
