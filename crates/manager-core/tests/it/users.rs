use serde_json::json;

use crate::harness::{PASSWORD, TestApi};

const OTHER: &str = "another long password";

#[tokio::test]
async fn a_user_is_made_logs_in_is_changed_and_removed() {
    let api = TestApi::start().await;
    let made = api.post("/users", json!({ "username": "Bob", "password": PASSWORD })).await;
    assert_eq!((&made.is(201)["role"], &made.json["disabled_at"]), (&json!("member"), &json!(null)));
    let path = format!("/users/{}", made.json["id"].as_str().unwrap());
    let token = api.login("bob", PASSWORD, None).await.is(200)["token"].as_str().unwrap().to_owned();
    let bob = api.with_token(token);
    bob.get("/users").await.is_problem("forbidden");
    assert_eq!(api.call("PATCH", &path, Some(json!({ "role": "admin" }))).await.is(200)["role"], "admin");
    let names: Vec<_> =
        bob.all_pages("/users", 1).await.iter().map(|user| user["username"].clone()).collect();
    assert_eq!(names, ["Bob", "ada"]);

    let disabled = api.call("PATCH", "/users/bob", Some(json!({ "disabled": true }))).await;
    assert!(disabled.is(200)["disabled_at"].is_string());
    bob.get("/auth/me").await.is_problem("unauthenticated");
    api.login("bob", PASSWORD, None).await.is_problem("unauthenticated");
    let reset = json!({ "disabled": false, "password": OTHER });
    api.call("PATCH", &path, Some(reset)).await.is(200);
    bob.get("/auth/me").await.is_problem("unauthenticated");
    api.login("bob", OTHER, None).await.is(200);
    assert_eq!(api.call("DELETE", &path, None).await.status, 204);
    api.call("DELETE", &path, None).await.is_problem("not_found");
    api.login("bob", OTHER, None).await.is_problem("unauthenticated");
}

#[tokio::test]
async fn names_and_passwords_that_cannot_be_are_refused() {
    let api = TestApi::start().await;
    for (field, username, password) in [
        ("username", "a b", PASSWORD),
        ("username", "0195a3a0-0000-7000-8000-000000000000", PASSWORD),
        ("password", "bob", "short"),
        ("password", "bob", &"x".repeat(2000)),
    ] {
        let reply = api.post("/users", json!({ "username": username, "password": password })).await;
        assert_eq!(reply.is_problem("invalid_input")["field"], field, "{username}");
    }
    let taken = api.post("/users", json!({ "username": "ADA", "password": PASSWORD })).await;
    assert_eq!(taken.is_problem("conflict")["field"], "username");
}

#[tokio::test]
async fn nobody_makes_others_more_than_they_are() {
    let api = TestApi::start().await;
    let admin = api.person("admin", "admin").await;
    let owner = json!({ "username": "eve", "password": PASSWORD, "role": "owner" });
    assert_eq!(admin.post("/users", owner).await.is_problem("forbidden")["rule"], "instance_role");
    let raise = json!({ "role": "owner" });
    admin.call("PATCH", "/users/admin", Some(raise)).await.is_problem("forbidden");
    let reset = json!({ "password": OTHER });
    admin.call("PATCH", "/users/ada", Some(reset)).await.is_problem("forbidden");
    admin.call("DELETE", "/users/ada", None).await.is_problem("forbidden");
    admin.post("/invitations", json!({ "role": "owner" })).await.is_problem("forbidden");
    api.login("ada", PASSWORD, None).await.is(200);
}

#[tokio::test]
async fn the_last_owner_stays_and_so_does_the_owner_of_an_app() {
    let api = TestApi::start().await;
    for patch in [json!({ "role": "member" }), json!({ "disabled": true })] {
        api.call("PATCH", "/users/ada", Some(patch)).await.is_problem("conflict");
    }
    let refused = api.call("DELETE", "/users/ada", None).await;
    assert_eq!(refused.is_problem("conflict")["apps"], json!(["default"]));
    api.get("/auth/me").await.is(200);
    api.person("eve", "owner").await;
    api.post("/apps/default:assign", json!({ "user": "eve" })).await.is(200);
    api.call("PATCH", "/users/ada", Some(json!({ "role": "member" }))).await.is(200);
    api.get("/users").await.is_problem("forbidden");
}

#[tokio::test]
async fn an_invitation_makes_one_account_once() {
    let api = TestApi::start().await;
    let invited = api.post("/invitations", json!({ "role": "admin", "note": "for Bob" })).await;
    let token = invited.is(201)["token"].as_str().unwrap().to_owned();
    assert!(invited.json["url"].as_str().unwrap().ends_with(&format!("#{token}")));
    let listed = api.get("/invitations").await;
    assert_eq!(listed.is(200)["items"][0]["note"], "for Bob");
    assert!(!listed.text.contains(&token));

    let stranger = api.with_token(String::new());
    let accept = async |token: &str, name: &str, password: &str| {
        let body = json!({ "token": token, "username": name, "password": password });
        stranger.post("/invitations:accept", body).await
    };
    accept("pici_AAAA", "bob", OTHER).await.is_problem("not_found");
    accept(&token, "bob", "short").await.is_problem("invalid_input");
    accept(&token, "ada", OTHER).await.is_problem("conflict");
    assert_eq!(accept(&token, "bob", OTHER).await.is(201)["role"], "admin");
    accept(&token, "carl", OTHER).await.is_problem("not_found");
    api.login("bob", OTHER, None).await.is(200);
    let entry = api.get("/audit?action=invitation.accept").await;
    assert_eq!(entry.is(200)["items"][0]["actor_name"], "bob");
}

#[tokio::test]
async fn an_invitation_ends_with_its_time_its_removal_and_its_makers_rights() {
    let api = TestApi::start().await;
    let admin = api.person("admin", "admin").await;
    let invite = async || {
        let made = admin.post("/invitations", json!({ "role": "admin" })).await;
        let id = made.is(201)["id"].as_str().unwrap().to_owned();
        (id, made.json["token"].as_str().unwrap().to_owned())
    };
    let accept = async |token: &str| {
        let body = json!({ "token": token, "username": "new", "password": OTHER });
        api.post("/invitations:accept", body).await
    };
    let (_, over) = invite().await;
    api.database.execute("update invitations set expires_at = now() - interval '1 second'").await;
    accept(&over).await.is_problem("not_found");
    let (id, removed) = invite().await;
    assert_eq!(api.call("DELETE", &format!("/invitations/{id}"), None).await.status, 204);
    accept(&removed).await.is_problem("not_found");
    let (_, demoted) = invite().await;
    api.call("PATCH", "/users/admin", Some(json!({ "role": "member" }))).await.is(200);
    accept(&demoted).await.is_problem("not_found");
}

#[tokio::test]
async fn a_password_is_changed_by_who_knows_it_and_ends_the_other_sessions() {
    let api = TestApi::start().await;
    let other = api.login("ada", PASSWORD, None).await.is(200)["token"].as_str().unwrap().to_owned();
    let other = api.with_token(other);
    let change = async |current: &str, new: &str| {
        api.post("/auth/password", json!({ "current": current, "new": new })).await
    };
    assert_eq!(change("wrong", OTHER).await.is_problem("invalid_input")["field"], "current");
    assert_eq!(change(PASSWORD, "short").await.is_problem("invalid_input")["field"], "password");
    other.get("/auth/me").await.is(200);
    assert_eq!(change(PASSWORD, OTHER).await.status, 204);
    api.get("/auth/me").await.is(200);
    other.get("/auth/me").await.is_problem("unauthenticated");
    api.login("ada", PASSWORD, None).await.is_problem("unauthenticated");
}

#[tokio::test]
async fn sessions_are_listed_and_revoked_one_by_one_and_all_at_once() {
    let api = TestApi::start().await;
    let address = "192.0.2.9".parse().ok();
    let login = async || {
        let reply = api.login("ada", PASSWORD, address).await;
        api.with_token(reply.is(200)["token"].as_str().unwrap().to_owned())
    };
    let [second, third] = [login().await, login().await];
    let sessions = api.all_pages("/auth/sessions", 2).await;
    assert_eq!(sessions.len(), 3);
    let current: Vec<_> = sessions.iter().map(|session| session["is_current"].as_bool().unwrap()).collect();
    assert_eq!(current, [true, false, false]);
    assert_eq!(sessions[1]["remote_address"], "192.0.2.9");

    let path = format!("/auth/sessions/{}", sessions[1]["id"].as_str().unwrap());
    api.person("eve", "owner").await.call("DELETE", &path, None).await.is_problem("not_found");
    assert_eq!(api.call("DELETE", &path, None).await.status, 204);
    second.get("/auth/me").await.is_problem("unauthenticated");
    assert_eq!(api.call("DELETE", "/auth/sessions?keep_current=true", None).await.status, 204);
    third.get("/auth/me").await.is_problem("unauthenticated");
    api.get("/auth/me").await.is(200);
    assert_eq!(api.call("DELETE", "/auth/sessions", None).await.status, 204);
    api.get("/auth/me").await.is_problem("unauthenticated");
}

/// Who has a stolen session or key must not be able to make the account theirs for good.
#[tokio::test]
async fn nobody_resets_their_own_password_or_second_factor_without_the_password() {
    let api = TestApi::start().await;
    for body in [json!({ "password": OTHER }), json!({ "reset_second_factor": true })] {
        api.call("PATCH", "/users/ada", Some(body)).await.is_problem("conflict");
    }
    api.login("ada", PASSWORD, None).await.is(200);
}
