//! The few connections of the platform: whoever logs in, asks the admin API or a route, and all events, need one. What a
//! test locks here a dry run can have for its ten seconds.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use shared::ports::Shown;
use sqlx::postgres::PgConnection;
use tokio::time::timeout;

use crate::app_users::Account;
use crate::calls::Script;
use crate::connections::are_stuck;
use crate::harness::{Reply, TestApi};
use crate::outbox::later;

/// Twice as many as there are connections.
const REQUESTS: usize = 16;
/// Somebody who asks gets half of what all have who ask, and one session of theirs one less.
const OF_ONE_SESSION: i64 = 2;
/// Within this others are answered who need nothing that is locked.
const SOON: Duration = Duration::from_secs(2);

/// Somebody who may change the users of an app, and one of these.
struct Attack {
    api: TestApi,
    greedy: TestApi,
    stranger: TestApi,
    path: String,
    session: String,
}

impl Attack {
    async fn begin() -> Self {
        let api = TestApi::start().await;
        let script = Script::of(&api, "default").await;
        let account = Account::of(&script, "eve@example.org").await;
        let (greedy, stranger) =
            (api.person("greedy", "member").await, api.person("stranger", "member").await);
        let member = json!({ "user": "greedy", "role": "editor" });
        api.post("/apps/default/members", member).await.is(201);
        let path = format!("/apps/default/users/{}", account.id);
        Self { api, greedy, stranger, path, session: account.session }
    }

    /// Locks all rows of a table until the connection ends.
    async fn lock(&self, sql: &'static str) -> PgConnection {
        let mut lock = self.api.database.connect().await;
        sqlx::raw_sql(sql).execute(&mut lock).await.unwrap();
        lock
    }

    async fn lock_users(&self) -> PgConnection {
        self.lock("begin; select from app_users for update").await
    }

    async fn change(&self) -> Reply {
        self.greedy.call("PATCH", &self.path, Some(json!({ "verified": true }))).await
    }

    /// Others ask the admin API, and have a request written down that runs later.
    async fn others_are_served(&self) {
        let served = async {
            self.stranger.get("/apps").await.is(200);
            self.stranger.get("/auth/sessions").await.is(200);
            later(&self.api).await;
        };
        timeout(SOON, served).await.expect("others wait for what one person holds");
    }
}

#[tokio::test]
async fn attack_changes_of_one_person_that_wait_for_a_lock_leave_connections_to_everybody_else() {
    let attack = Attack::begin().await;
    let lock = attack.lock_users().await;
    let changes = join_all((0..REQUESTS).map(|_| attack.change()));
    let others = async {
        let stuck = are_stuck(&attack.api, OF_ONE_SESSION).await;
        attack.others_are_served().await;
        drop(lock);
        stuck
    };
    let (answers, stuck) = tokio::join!(changes, others);
    assert_eq!(stuck, OF_ONE_SESSION);
    for answer in answers {
        // On a machine that was busy some have waited too long.
        if answer.status != 200 {
            answer.is_problem("unavailable");
            assert_eq!(answer.headers["retry-after"], "1");
        }
    }
}

#[tokio::test]
async fn attack_clients_that_leave_while_their_changes_wait_for_a_lock() {
    let attack = Attack::begin().await;
    let _lock = attack.lock_users().await;
    for _ in 0..8 {
        let changes = join_all((0..REQUESTS).map(|_| attack.change()));
        // Not one is done within this, which is long enough for some to wait for the lock.
        timeout(Duration::from_millis(100), changes).await.expect_err("the row is locked");
    }
    let stuck = are_stuck(&attack.api, 1).await;
    assert!(stuck <= OF_ONE_SESSION, "{stuck} wait on connections whose clients have left");
    attack.others_are_served().await;
}

#[tokio::test]
async fn a_change_that_waits_too_long_for_a_lock_says_what_it_waited_for() {
    let attack = Attack::begin().await;
    let lock = attack.lock_users().await;
    let refused = attack.change().await;
    let problem = refused.is_problem("unavailable");
    assert!(problem["detail"].as_str().unwrap().contains("a dry run"), "{problem}");
    assert_eq!(refused.headers["retry-after"], "1");
    drop(lock);
    attack.change().await.is(200);
}

#[tokio::test]
async fn attack_requests_in_a_session_that_a_dry_run_ends() {
    let attack = Attack::begin().await;
    let app = attack.api.app_id("default").await;
    // So old that whoever sees it next notes that.
    let old = "update app_user_sessions set last_seen_at = now() - interval '10 minutes'";
    attack.api.database.execute(old).await;
    let _lock = attack.lock("begin; select from app_user_sessions for update").await;
    let callers = attack.api.manager.callers();
    let requests =
        join_all((0..REQUESTS).map(|_| callers.authenticate(app, Shown::Session(&attack.session))));
    let answers = timeout(SOON, requests).await.expect("requests wait for the session's row");
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    attack.others_are_served().await;
}
