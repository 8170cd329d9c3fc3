//! The guestbook: what is signed, decided, undecided and tidied up.

use serde_json::{Value, json};

use super::{Example, send};
use crate::harness::{TestApp, eventually};

fn sign(app: &TestApp<'_>, name: &str, message: &str) -> String {
    let body = json!({ "name": name, "message": message });
    let reply = send(app, "POST", "/entries", &[("content-type", "application/json")], &body);
    reply.is(202).json()["key"].as_str().unwrap().to_owned()
}

fn set_rules(app: &TestApp<'_>) {
    app.admin("PUT", "/kv/rules/words", &json!({ "value": ["casino"] })).is(200);
}

/// The entry, when it has this status.
fn entry(app: &TestApp<'_>, key: &str, status: &str) -> Value {
    eventually(&format!("the entry is {status}"), || {
        let list = app.admin("GET", "/docs/entries", &Value::Null).is(200).json();
        let items = list["items"].as_array().unwrap().clone();
        items.into_iter().find(|entry| entry["data"]["key"] == key && entry["data"]["status"] == status)
    })
}

#[test]
fn an_entry_is_shown_once_the_moderator_has_found_nothing_wrong() {
    let example = Example::apply("guestbook");
    let app = example.app();
    set_rules(&app);
    let good = sign(&app, "Ada", "Hello <b>you</b> & all");
    let bad = sign(&app, "Eve", "Come to my CASINO");
    entry(&app, &good, "shown");
    assert_eq!(entry(&app, &bad, "hidden")["data"]["unwanted"], json!(["casino"]));
    let page = app.get("/");
    let text = page.is(200).text();
    assert!(text.contains("<b>Ada</b>") && text.contains("Hello &lt;b&gt;you&lt;/b&gt; &amp; all"), "{text}");
    assert!(!text.contains("Eve"), "{text}");
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
}

#[test]
fn what_a_form_sends_is_answered_with_the_page() {
    let example = Example::apply("guestbook");
    let app = example.app();
    let form = "application/x-www-form-urlencoded";
    let reply = app.post("/entries", form, b"name=Ada&message=Hello+there");
    assert_eq!(reply.is(303).header("location"), "/?thanks=1");
    assert!(app.get("/?thanks=1").is(200).text().contains("Thank you"));
    app.post("/entries", form, b"name=Ada").is(422);
    app.post("/entries", "text/plain", b"Hello").is(422);
    app.post("/entries", form, format!("name={}&message=x", "a".repeat(61)).as_bytes()).is(422);
}

#[test]
fn what_cannot_be_decided_is_a_dead_letter_and_is_decided_when_there_are_rules() {
    let example = Example::apply("guestbook");
    let app = example.app();
    let key = sign(&app, "Ada", "Hello");
    entry(&app, &key, "undecided");
    let letters = app.admin("GET", "/dead-letters?unresolved=true", &Value::Null).is(200).json();
    assert_eq!(
        (&letters["items"][0]["kind"], &letters["items"][0]["reason"]),
        (&json!("queue"), &json!("fatal"))
    );
    set_rules(&app);
    app.admin("POST", "/queues/moderation:redrive", &json!({})).is(200);
    entry(&app, &key, "shown");
}

#[test]
fn at_night_what_was_hidden_long_ago_goes() {
    let example = Example::apply("guestbook");
    let app = example.app();
    // More than fit into an answer.
    let message = "casino".repeat(20_000);
    let old = json!({ "key": "old", "name": "Eve", "message": message, "status": "hidden", "at": 1 });
    for _ in 0..12 {
        app.admin("POST", "/docs/entries", &json!({ "data": old })).is(201);
    }
    let triggers = app.admin("GET", "/triggers?kind=cron", &Value::Null).is(200).json();
    let id = triggers["items"][0]["id"].as_str().unwrap();
    app.admin("POST", &format!("/triggers/{id}:run"), &json!({})).is(202);
    let days = eventually("the day is counted", || {
        let list = app.admin("GET", "/kv/days", &Value::Null).is(200).json();
        list["items"].as_array().unwrap().first().cloned()
    });
    assert_eq!(days["value"]["removed"], 12, "{days}");
    assert_eq!(app.admin("GET", "/docs/entries", &Value::Null).is(200).json()["items"], json!([]));
}
