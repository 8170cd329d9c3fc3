//! The webhook relay: what is signed reaches every receiver, whatever they are doing.

use serde_json::{Value, json};

use super::Example;
use crate::harness::{Reply, TestApp, TestServer, World, eventually};
use crate::webhooks::{self, STANDARD_SECRET};

const TOKEN: &str = "token of the receivers";

/// The relay, and the world that its receivers are in.
struct Relay {
    example: Example,
    world: World,
}

impl Relay {
    fn start() -> Self {
        let world = World::start();
        let server = TestServer::start_with(&[("PICLOUD_HTTP_ALLOW_PRIVATE", "127.0.0.0/8")]);
        let example = Example::prepared("webhook-relay", server.into(), |app| {
            webhooks::set(app, "sender", STANDARD_SECRET);
            webhooks::set(app, "receiver", TOKEN);
            app.admin("PUT", "/egress", &json!({ "allow": null, "ports": [world.port()] })).is(200);
        });
        Self { example, world }
    }

    fn app(&self) -> TestApp<'_> {
        self.example.app()
    }

    fn add_receiver(&self, name: &str, path: &str) {
        let value = json!({ "value": { "url": self.world.url(path) } });
        self.app().admin("PUT", &format!("/kv/receivers/{name}"), &value).is(200);
    }

    /// As the sender does.
    fn send(&self, id: &str, body: &Value) -> Reply {
        let app = self.app();
        let triggers = app.admin("GET", "/triggers?kind=webhook", &Value::Null).is(200).json();
        let body = body.to_string();
        let headers = webhooks::standard(id, &body);
        webhooks::send(&app, triggers["items"][0]["id"].as_str().unwrap(), &headers, &body)
    }

    /// What a receiver has taken, once it is as much as this.
    fn taken(&self, path: &str, count: usize) -> Vec<Value> {
        eventually("the receiver has what was sent", || {
            let taken = self.world.taken(path);
            (taken.len() >= count).then_some(taken)
        })
    }

    fn wait_until_idle(&self) {
        let app = self.app();
        eventually("everything is delivered", || {
            let outbox = app.admin("GET", "/outbox", &Value::Null).is(200).json();
            let waiting = app.admin("GET", "/queues/deliveries/messages", &Value::Null).is(200).json();
            (outbox["items"] == json!([]) && waiting["items"] == json!([])).then_some(())
        });
    }
}

#[test]
fn a_receiver_that_fails_at_first_gets_the_event_once_with_the_token() {
    let relay = Relay::start();
    relay.add_receiver("shop", "/inbox/shop?2");
    let event = json!({ "order": 17 });
    relay.send("msg_1", &event).is(202);
    let taken = relay.taken("/inbox/shop", 1);
    assert_eq!(taken[0]["body"].as_str().unwrap().parse::<Value>().unwrap(), event);
    let headers = &taken[0]["headers"];
    assert_eq!(headers["authorization"], format!("Bearer {TOKEN}"));
    assert_eq!((&headers["webhook-id"], &headers["idempotency-key"]), (&json!("msg_1"), &json!("msg_1")));
    // The sender, who was not sure, sends again: it is the same event.
    relay.send("msg_1", &event).is(202);
    relay.send("msg_2", &json!({ "order": 18 })).is(202);
    relay.taken("/inbox/shop", 2);
    relay.wait_until_idle();
    assert_eq!(relay.world.taken("/inbox/shop").len(), 2);
}

#[test]
fn a_receiver_that_is_down_for_longer_than_a_run_gets_the_event_from_a_later_one() {
    let relay = Relay::start();
    // A run asks three times.
    relay.add_receiver("shop", "/inbox/shop?4");
    relay.send("msg_1", &json!({ "order": 17 })).is(202);
    relay.taken("/inbox/shop", 1);
    let app = relay.app();
    let run = eventually("the run that delivered is recorded", || {
        let list = app.admin("GET", "/executions?script=deliver&status=ok", &Value::Null).is(200).json();
        list["items"].as_array().unwrap().first().cloned()
    });
    let id = run["id"].as_str().unwrap();
    let run = app.admin("GET", &format!("/executions/{id}"), &Value::Null).is(200).json();
    assert_eq!(run["logs"][0]["data"]["attempt"], 2, "{run}");
}

#[test]
fn one_receiver_that_wants_nothing_costs_the_others_nothing_and_what_is_not_signed_reaches_nobody() {
    let relay = Relay::start();
    relay.add_receiver("gone", "/nothing-here");
    let forbidden = json!({ "value": { "url": "http://169.254.169.254/latest" } });
    relay.app().admin("PUT", "/kv/receivers/metadata", &forbidden).is(200);
    relay.add_receiver("shop", "/inbox/shop?0");
    relay.send("msg_1", &json!({ "order": 17 })).is(202);
    relay.taken("/inbox/shop", 1);
    let app = relay.app();
    let letters = eventually("both are dead letters", || {
        let list = app.admin("GET", "/dead-letters?unresolved=true", &Value::Null).is(200).json();
        Some(list["items"].as_array().unwrap().clone()).filter(|letters| letters.len() == 2)
    });
    assert!(letters.iter().all(|letter| letter["reason"] == "fatal"), "{letters:?}");
    let triggers = app.admin("GET", "/triggers?kind=webhook", &Value::Null).is(200).json();
    let mut headers = webhooks::standard("msg_2", "{}");
    headers[0].1 = "msg_3".into();
    let id = triggers["items"][0]["id"].as_str().unwrap();
    webhooks::send(&app, id, &headers, "{}").is(401).is_problem("signature_invalid");
    relay.wait_until_idle();
    assert_eq!(relay.world.taken("/inbox/shop").len(), 1);
}
