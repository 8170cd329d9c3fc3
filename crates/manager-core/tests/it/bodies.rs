//! Bodies of requests to the admin API, which are in memory for as long as the requests are worked on: each person has so
//! much, as the server in front of the API says.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use futures_util::{StreamExt, stream};
use http::{HeaderValue, Request};
use serde_json::json;
use shared::http::BodyRoom;
use shared::id::UserId;
use shared::ports::{HoldBody, NoRoom};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::harness::TestApi;
use crate::outbox::eventually;

const MIB: usize = 1 << 20;
/// Bodies that have room, of each of which a mebibyte is there.
const HELD: usize = 16;

/// What people have in memory, and how much each may have.
#[derive(Debug)]
struct Memory {
    share: usize,
    taken: Mutex<HashMap<Option<UserId>, usize>>,
}

/// What one request has of it.
#[derive(Debug)]
struct Part {
    memory: Arc<Memory>,
    held: Mutex<(Option<UserId>, usize)>,
}

impl Memory {
    fn of(share: usize) -> Arc<Self> {
        Arc::new(Self { share, taken: Mutex::default() })
    }

    fn part(self: &Arc<Self>) -> BodyRoom {
        BodyRoom(Arc::new(Part { memory: Arc::clone(self), held: Mutex::default() }))
    }

    fn bytes(&self) -> usize {
        self.taken.lock().unwrap().values().sum()
    }
}

impl HoldBody for Part {
    fn hold(&self, person: Option<UserId>, bytes: usize) -> Result<(), NoRoom> {
        let mut held = self.held.lock().unwrap();
        let mut taken = self.memory.taken.lock().unwrap();
        let of_person = taken.entry(person).or_default();
        let more = bytes.saturating_sub(held.1);
        if *of_person + more > self.memory.share {
            return Err(NoRoom);
        }
        *of_person += more;
        *held = (person, held.1 + more);
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let (person, bytes) = *self.held.get_mut().unwrap();
        if let Some(of_person) = self.memory.taken.lock().unwrap().get_mut(&person) {
            *of_person -= bytes;
        }
    }
}

fn post(api: &TestApi, path: &str, body: Body, memory: &Arc<Memory>) -> Request<Body> {
    let mut request = api.request("POST", path, None).map(|_| body);
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    request.extensions_mut().insert(memory.part());
    request
}

fn with_key(key: &str, mut request: Request<Body>) -> Request<Body> {
    request.headers_mut().insert("idempotency-key", HeaderValue::from_str(key).unwrap());
    request
}

fn mebibyte() -> Result<Bytes, Infallible> {
    Ok(Bytes::from(vec![b' '; MIB]))
}

/// A body of which a mebibyte comes and then nothing.
fn unfinished() -> Body {
    Body::from_stream(stream::iter([mebibyte()]).chain(stream::pending()))
}

#[tokio::test]
async fn attack_bodies_that_one_person_never_ends_leave_room_for_others() {
    let api = TestApi::start().await;
    let eve = api.person("eve", "member").await;
    api.post("/apps", json!({ "slug": "eves" })).await.is(201);
    api.post("/apps/eves:assign", json!({ "user": "eve" })).await.is(200);
    let memory = Memory::of(HELD * MIB);
    let one = || post(&eve, "/apps/eves:apply", unfinished(), &memory);
    let mut held = JoinSet::new();
    for number in 0..HELD {
        // With a key and without, which are read in two places.
        let request = if number % 2 == 0 { one() } else { with_key(&number.to_string(), one()) };
        held.spawn(eve.router.clone().oneshot(request));
    }
    eventually("all of them are in memory", || async { (memory.bytes() == HELD * MIB).then_some(()) }).await;
    for late in [one(), with_key("late", one())] {
        let refused = eve.send(late).await;
        refused.is_problem("overloaded");
        assert_eq!(refused.status, 503);
        assert_eq!(refused.headers["retry-after"], "1");
    }
    let body = Body::from(json!({ "slug": "blog" }).to_string());
    api.send(post(&api, "/apps", body, &memory)).await.is(201);
    held.shutdown().await;
    assert_eq!(memory.bytes(), 0);
    let manifest = Body::from(json!({ "scripts": { "a": { "source": "1" } } }).to_string());
    eve.send(post(&eve, "/apps/eves:apply", manifest, &memory)).await.is(200);
}

#[tokio::test]
async fn attack_a_key_makes_no_endpoint_take_longer_bodies() {
    let api = TestApi::start().await;
    // As much as an ordinary body may have; who took more of it would find no room.
    let memory = Memory::of(2 * MIB);
    let long = Body::from_stream(stream::iter([mebibyte(), mebibyte(), mebibyte()]));
    let refused = api.send(with_key("key", post(&api, "/apps", long, &memory))).await;
    refused.is_problem("body_too_large");
    assert_eq!(memory.bytes(), 0);
}

#[tokio::test]
async fn attack_who_leaves_before_the_answer_gets_no_room_back_while_the_work_goes_on() {
    let api = TestApi::start().await;
    let memory = Memory::of(MIB);
    let held = api.pool.hold().await;
    let body = Body::from("{}");
    let request = with_key("key", post(&api, "/apps/default/scripts/hello/invoke", body, &memory));
    let asked = tokio::spawn(api.router.clone().oneshot(request));
    eventually("it runs", || async { api.pool.requests().pop() }).await;
    asked.abort();
    assert!(asked.await.unwrap_err().is_cancelled());
    assert_eq!(memory.bytes(), 2);
    drop(held);
    eventually("it is done", || async { (memory.bytes() == 0).then_some(()) }).await;
}
