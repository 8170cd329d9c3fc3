//! The URL shortener, as its README uses it.

use serde_json::{Value, json};

use super::{Example, send};

fn shortener() -> Example {
    Example::apply("url-shortener")
}

/// Makes a link with a key of the app.
fn shorten(example: &Example, key: &str, body: &Value) -> crate::harness::Reply {
    let authorization = format!("Bearer {key}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    send(&example.app(), "POST", "/links", &headers, body)
}

#[test]
fn a_short_name_leads_to_its_address_and_counts_who_followed() {
    let example = shortener();
    let (app, key) = (example.app(), example.key());
    let url = "https://example.com/a/long/one?with=query#and-more";
    let made = shorten(&example, &key, &json!({ "url": url, "name": "talk" }));
    assert_eq!((made.is(201).json()["name"].clone(), made.header("location")), (json!("talk"), "/talk"));
    for _ in 0..3 {
        let reply = app.get("/talk");
        assert_eq!((reply.is(302).header("location"), reply.header("cache-control")), (url, "no-store"));
    }
    let authorization = format!("Bearer {key}");
    let seen = send(&app, "GET", "/links/talk", &[("authorization", &authorization)], &Value::Null);
    assert_eq!(seen.is(200).json()["visits"], 3);
    app.get("/nothing-there").is(404);
}

#[test]
fn a_name_is_given_once_and_one_is_chosen_for_who_wants_none() {
    let example = shortener();
    let key = example.key();
    let link = |name: &str| json!({ "url": "https://example.com", "name": name, "days": 1 });
    shorten(&example, &key, &link("mine")).is(201);
    shorten(&example, &key, &link("mine")).is(409);
    let chosen =
        || shorten(&example, &key, &json!({ "url": "https://example.com" })).is(201).json()["name"].clone();
    let (first, second) = (chosen(), chosen());
    assert_ne!(first, second);
    assert_eq!(first.as_str().unwrap().len(), 7);
}

#[test]
fn only_callers_with_a_key_make_links_and_only_to_the_web() {
    let example = shortener();
    let key = example.key();
    shorten(&example, "pic_wrong", &json!({ "url": "https://example.com" })).is(401);
    for wrong in [
        json!({}),
        json!({ "url": 7 }),
        json!({ "url": "javascript:alert(1)" }),
        json!({ "url": "no address" }),
        json!({ "url": "https://example.com", "name": "../admin" }),
        json!({ "url": "https://example.com", "days": 0 }),
        json!({ "url": "https://example.com", "days": "7" }),
    ] {
        assert!(shorten(&example, &key, &wrong).is(422).json()["error"].is_string(), "{wrong}");
    }
}
