//! An app changes its owner when the new one says yes.

use serde_json::{Value, json};

use crate::harness::TestApi;

async fn owner_in_router(api: &TestApi) -> String {
    api.manager.routes().current().apps[0].routes[0].target.owner.to_string()
}

async fn id_of(api: &TestApi) -> String {
    api.get("/auth/me").await.is(200)["id"].as_str().unwrap().to_owned()
}

async fn actions(api: &TestApi) -> Vec<Value> {
    let entries = api.get("/apps/default/audit").await.is(200)["items"].clone();
    let mut actions: Vec<_> =
        entries.as_array().unwrap().iter().map(|entry| entry["action"].clone()).collect();
    actions.reverse();
    actions
}

#[tokio::test]
async fn an_offered_app_belongs_to_the_receiver_when_they_accept() {
    let api = TestApi::start().await;
    let bob = api.person("bob", "member").await;
    bob.post("/apps/default:transfer", json!({ "user": "bob" })).await.is_problem("not_found");
    let offer = api.post("/apps/default:transfer", json!({ "user": "bob" })).await;
    assert_eq!((&offer.is(201)["user"], &offer.json["offered_by"]), (&json!("bob"), &json!("ada")));
    assert_eq!(api.get("/apps/default/transfer").await.is(200)["user"], "bob");

    let seen = bob.get("/transfers").await;
    assert_eq!(seen.is(200)["items"][0]["slug"], "default");
    let (ada_id, bob_id) = (id_of(&api).await, id_of(&bob).await);
    assert_eq!(owner_in_router(&api).await, ada_id, "nothing changed yet");

    let given = bob.post("/transfers/default:accept", json!({})).await;
    assert_eq!(given.is(200)["owner_id"], bob_id.as_str());
    assert_eq!(owner_in_router(&api).await, bob_id, "the router knows before the answer");
    assert_eq!(bob.get("/apps/default").await.is(200)["my_role"], "app_admin");
    bob.post("/transfers/default:accept", json!({})).await.is_problem("not_found");
    bob.get("/apps/default/transfer").await.is_problem("not_found");

    bob.call("DELETE", "/apps/default/members/bob", None).await.is_problem("conflict");
    // The old owner is a member like any other now.
    assert_eq!(bob.call("DELETE", "/apps/default/members/ada", None).await.status, 204);
    bob.post("/apps/default:transfer", json!({ "user": "nobody" })).await.is_problem("invalid_input");
    bob.post("/apps/default:transfer", json!({ "user": "bob" })).await.is_problem("conflict");
    assert!(actions(&api).await.ends_with(&[
        "app.offer".into(),
        "app.transfer".into(),
        "member.remove".into()
    ]));
}

/// Under `pinned` a worker serves the apps of one owner: whoever could make a victim the owner of their
/// app would have it run in the victim's workers.
#[tokio::test]
async fn attack_an_app_cannot_be_pushed_into_somebodys_workers() {
    let api = TestApi::start().await;
    let mallory = api.person("mallory", "member").await;
    let victim = api.person("victim", "member").await;
    api.post("/apps", json!({ "slug": "trap" })).await.is(201);
    api.post("/apps/trap:assign", json!({ "user": "mallory" })).await.is(200);
    let mallory_id = id_of(&mallory).await;

    mallory.post("/apps/trap:assign", json!({ "user": "victim" })).await.is_problem("forbidden");
    mallory.post("/apps/trap:transfer", json!({ "user": "victim" })).await.is(201);
    // Nor can anybody accept in the victim's name.
    mallory.post("/transfers/trap:accept", json!({})).await.is_problem("not_found");
    api.post("/transfers/trap:accept", json!({})).await.is_problem("not_found");
    let owner = async || mallory.get("/apps/trap").await.is(200)["owner_id"].clone();
    assert_eq!(owner().await, mallory_id.as_str());

    let declined = victim.post("/transfers/trap:decline", json!({})).await;
    assert_eq!(declined.status, 204);
    victim.post("/transfers/trap:accept", json!({})).await.is_problem("not_found");
    assert_eq!(victim.get("/transfers").await.is(200)["items"], json!([]));
    assert_eq!(owner().await, mallory_id.as_str());
}

#[tokio::test]
async fn an_offer_ends_when_it_is_withdrawn_replaced_or_no_longer_its_makers_to_make() {
    let api = TestApi::start().await;
    let [bob, eve] = [api.person("bob", "member").await, api.person("eve", "member").await];
    let offer = async |user: &str| api.post("/apps/default:transfer", json!({ "user": user })).await;
    let accepts = async |person: &TestApi| person.post("/transfers/default:accept", json!({})).await;

    offer("bob").await.is(201);
    assert_eq!(api.call("DELETE", "/apps/default/transfer", None).await.status, 204);
    api.call("DELETE", "/apps/default/transfer", None).await.is_problem("not_found");
    accepts(&bob).await.is_problem("not_found");

    offer("bob").await.is(201);
    offer("eve").await.is(201);
    accepts(&bob).await.is_problem("not_found");

    api.database.execute("update app_transfers set expires_at = now() - interval '1 second'").await;
    accepts(&eve).await.is_problem("not_found");

    // Made by an owner of the instance who is one no more, and does not own the app.
    let grace = api.person("grace", "owner").await;
    grace.post("/apps/default:transfer", json!({ "user": "eve" })).await.is(201);
    api.call("PATCH", "/users/grace", Some(json!({ "role": "member" }))).await.is(200);
    accepts(&eve).await.is_problem("not_found");

    // The app has another owner meanwhile.
    offer("eve").await.is(201);
    api.post("/apps/default:assign", json!({ "user": "bob" })).await.is(200);
    accepts(&eve).await.is_problem("not_found");
}

#[tokio::test]
async fn no_key_accepts_an_app_for_its_person() {
    let api = TestApi::start().await;
    let bob = api.person("bob", "member").await;
    api.post("/apps/default:transfer", json!({ "user": "bob" })).await.is(201);
    let scopes = ["app:read", "app:write", "app:admin"];
    let key = bob.post("/api-keys", json!({ "name": "key", "scopes": scopes })).await;
    let key = bob.with_token(key.is(201)["key"].as_str().unwrap().to_owned());
    assert_eq!(
        key.post("/transfers/default:accept", json!({})).await.is_problem("forbidden")["rule"],
        "session_only"
    );
    key.get("/transfers").await.is_problem("forbidden");
}
