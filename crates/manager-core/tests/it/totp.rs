use chrono::Utc;
use serde_json::{Value, json};
use totp_rs::{Builder, Secret};

use crate::harness::{PASSWORD, Reply, TestApi};

/// The code that a phone shows `steps` half minutes from now.
fn code(secret: &str, steps: i64) -> String {
    let totp = Builder::new().with_secret(Secret::try_from_base32(secret).unwrap()).build().unwrap();
    totp.generate(u64::try_from(Utc::now().timestamp() + 30 * steps).unwrap()).to_string()
}

async fn login(api: &TestApi, otp: Option<&str>) -> Reply {
    let mut body = json!({ "username": "ada", "password": PASSWORD });
    if let Some(otp) = otp {
        body["otp"] = otp.into();
    }
    api.with_token(String::new()).post("/auth/login", body).await
}

/// Enrols and confirms with the code of this moment; the next login needs a later one.
async fn enrolled(api: &TestApi) -> (String, Vec<String>) {
    let enrolment = api.post("/auth/totp", json!({ "password": PASSWORD })).await;
    let secret = enrolment.is(200)["secret"].as_str().unwrap().to_owned();
    let confirmed = api.post("/auth/totp:confirm", json!({ "code": code(&secret, 0) })).await;
    let codes = confirmed.is(200)["recovery_codes"].as_array().unwrap();
    (secret, codes.iter().map(|code| code.as_str().unwrap().to_owned()).collect())
}

#[tokio::test]
async fn a_login_asks_for_the_code_of_the_phone_and_takes_each_once() {
    let api = TestApi::start().await;
    let (secret, _) = enrolled(&api).await;
    login(&api, None).await.is_problem("second_factor_required");
    login(&api, Some("000000x")).await.is_problem("second_factor_required");
    let next = code(&secret, 1);
    login(&api, Some(&next)).await.is(200);
    login(&api, Some(&next)).await.is_problem("second_factor_required");
    // Without the right password nobody learns that there is a second factor.
    api.login("ada", "wrong", None).await.is_problem("unauthenticated");
}

#[tokio::test]
async fn a_recovery_code_works_once() {
    let api = TestApi::start().await;
    let (_, codes) = enrolled(&api).await;
    login(&api, Some(&codes[0].to_uppercase())).await.is(200);
    login(&api, Some(&codes[0])).await.is_problem("second_factor_required");
    let status = api.get("/auth/totp").await;
    assert_eq!(
        (&status.is(200)["is_enabled"], &status.json["recovery_codes_left"]),
        (&json!(true), &json!(9))
    );
}

#[tokio::test]
async fn an_enrolment_counts_only_when_it_is_confirmed_and_until_it_is_removed() {
    let api = TestApi::start().await;
    let enrol = async |password: &str| api.post("/auth/totp", json!({ "password": password })).await;
    assert_eq!(enrol("wrong").await.is_problem("invalid_input")["field"], "password");
    api.post("/auth/totp:confirm", json!({ "code": "000000" })).await.is_problem("conflict");
    enrol(PASSWORD).await.is(200);
    let wrong = api.post("/auth/totp:confirm", json!({ "code": "12345" })).await;
    assert_eq!(wrong.is_problem("invalid_input")["field"], "code");
    login(&api, None).await.is(200);

    enrolled(&api).await;
    enrol(PASSWORD).await.is_problem("conflict");
    assert_eq!(api.post("/auth/totp:remove", json!({ "password": PASSWORD })).await.status, 204);
    login(&api, None).await.is(200);
    assert_eq!(api.get("/auth/totp").await.is(200)["recovery_codes_left"], 0);
}

#[tokio::test]
async fn guesses_of_the_code_are_throttled() {
    let api = TestApi::start().await;
    enrolled(&api).await;
    let mut answers = Vec::new();
    for _ in 0..6 {
        answers.push(login(&api, Some("no code")).await.json["code"].clone());
    }
    assert!(answers.contains(&Value::from("too_many_requests")), "{answers:?}");
}

#[tokio::test]
async fn who_lost_phone_and_codes_is_helped_by_who_manages_people() {
    let api = TestApi::start().await;
    enrolled(&api).await;
    let owner = api.person("eve", "owner").await;
    owner.call("PATCH", "/users/ada", Some(json!({ "reset_second_factor": true }))).await.is(200);
    login(&api, None).await.is(200);
}
