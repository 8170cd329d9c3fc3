//! Files, as scripts and people use them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Request;
use manager_core::{FileStorage, ManagerConfig, OrphanSweep};
use serde_json::Value;
use shared::call::Stage;
use shared::host_call::HostOp;
use shared::host_call::files::{
    Append, Appended, Content, Create, Deleted, Found, FoundPart, Id, Link, Linked, List, Page, Read, Update,
};
use shared::limits::FILES_BYTES_MAX;

use crate::calls::Script;
use crate::catalogue::print_row;
use crate::harness::{Reply, TestApi, config};
use crate::kv::read_beside;
use crate::outbox::eventually;
use crate::storage::Storage;

const NAMES: [&str; 3] = ["a.txt", "..", "\u{202e}gpj.exe/\"\r\n"];

fn create<'a>(name: &'a str, data: &'a [u8]) -> Create<'a> {
    Create { collection: "f", name, content_type: "text/plain", content: Content { upload: 0, data } }
}

impl Script {
    async fn make(&self, create: &Create<'_>) -> Result<String, String> {
        let answer = self.call(HostOp::FilesCreate, create).await?;
        Ok(answer.read::<Found<'_>>().file.unwrap().id.to_owned())
    }

    async fn content(&self, id: &str) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        loop {
            let read = Read { collection: "f", id, offset: content.len() as u64, version: 0 };
            let answer = self.call(HostOp::FilesRead, &read).await.unwrap();
            let part = answer.read::<FoundPart<'_>>().part?;
            content.extend_from_slice(part.data);
            if part.data.is_empty() || content.len() as u64 == part.size {
                return Some(content);
            }
        }
    }
}

fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| ((n * 2_654_435_761) >> 13).to_le_bytes()[0]).collect()
}

async fn start_on(storage: &Storage) -> TestApi {
    TestApi::start_with(ManagerConfig { files: storage.files(), ..config() }).await
}

async fn download(api: &TestApi, path: &str, range: Option<&str>) -> (u16, Vec<u8>, http::HeaderMap) {
    let mut request = api.request("GET", path, None);
    if let Some(range) = range {
        request.headers_mut().insert("range", range.parse().unwrap());
    }
    bytes_of(api, request).await
}

async fn bytes_of(api: &TestApi, request: Request<Body>) -> (u16, Vec<u8>, http::HeaderMap) {
    use http_body_util::BodyExt;
    use tower::ServiceExt;
    let response = api.router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let content = body.collect().await.unwrap().to_bytes().to_vec();
    (parts.status.as_u16(), content, parts.headers)
}

async fn upload(api: &TestApi, method: &str, path: &str, content: Vec<u8>) -> Reply {
    let mut request = api.request(method, path, None);
    *request.body_mut() = Body::from(content);
    request.headers_mut().insert("content-type", "image/png".parse().unwrap());
    api.send(request).await
}

#[tokio::test]
async fn a_file_is_made_read_changed_and_removed() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    for name in NAMES {
        for size in [0, 1, (1 << 20) - 1, 1 << 20] {
            let content = noise(size.min(900_000));
            let id = script.make(&create(name, &content)).await.unwrap();
            assert_eq!(script.content(&id).await, Some(content), "{name:?}, {size} bytes");
            let file = Id { collection: "f", id: &id };
            let head = script.call(HostOp::FilesHead, &file).await.unwrap();
            assert_eq!(head.read::<Found<'_>>().file.unwrap().name, name);
            let rename =
                Update { collection: "f", id: &id, name: Some("b"), content_type: None, content: None };
            let renamed = script.call(HostOp::FilesUpdate, &rename).await.unwrap();
            let renamed = renamed.read::<Found<'_>>().file.unwrap().content_type.to_owned();
            assert_eq!(renamed, "text/plain");
            let content = Content { upload: 0, data: b"new" };
            let replace = Update { name: None, content: Some(content), ..rename };
            script.call(HostOp::FilesUpdate, &replace).await.unwrap();
            assert_eq!(script.content(&id).await.as_deref(), Some(&b"new"[..]));
            assert!(script.call(HostOp::FilesDelete, &file).await.unwrap().read::<Deleted>().existed);
            assert_eq!(script.content(&id).await, None);
        }
    }
    let usage: i64 = api.database.scalar("select size + files from files_usage").await;
    assert_eq!(usage, 0, "what is removed is no longer counted");
}

#[tokio::test]
async fn a_long_content_comes_in_pieces_that_are_its_executions_alone() {
    let api = TestApi::start().await;
    let (script, other) = (Script::of(&api, "default").await, Script::of(&api, "default").await);
    let whole = noise(3_000_000);
    let mut upload = 0;
    for piece in whole.chunks(700_000).take(4) {
        let answer = script.call(HostOp::FilesAppend, &Append { upload, data: piece }).await.unwrap();
        upload = answer.read::<Appended>().upload;
    }
    let stolen = Create { content: Content { upload, data: b"" }, ..create("stolen", b"") };
    assert_eq!(other.make(&stolen).await, Err("invalid_argument".into()));
    let last = &whole[2_800_000..];
    let id =
        script.make(&Create { content: Content { upload, data: last }, ..create("a", b"") }).await.unwrap();
    assert_eq!(script.content(&id).await, Some(whole));
    let again = Create { content: Content { upload, data: b"" }, ..create("again", b"") };
    assert_eq!(script.make(&again).await, Err("invalid_argument".into()), "an upload is used once");
}

#[tokio::test]
async fn pages_go_through_all_files() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let mut made = Vec::new();
    for n in 0..5 {
        made.push(script.make(&create(&n.to_string(), b"x")).await.unwrap());
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let list = List { collection: "f", limit: 2, after: &after };
        let answer = script.call(HostOp::FilesList, &list).await.unwrap();
        let Page { files, has_more } = answer.read();
        seen.extend(files.iter().map(|file| file.id.to_owned()));
        after.clone_from(seen.last().unwrap());
        if !has_more {
            break;
        }
    }
    assert_eq!(seen, made);
}

#[tokio::test]
async fn what_is_there_all_the_time_is_in_the_pages_once_whatever_a_writer_does() {
    let api = TestApi::start().await;
    let app = api.app_id("default").await;
    let script = || Script::of_app(&api, app, "default");
    let mut kept = Vec::new();
    for n in 0..20 {
        kept.push(script().make(&create(&n.to_string(), b"x")).await.unwrap());
    }
    // As they are compared with what was seen.
    kept.sort_unstable();
    let write = async |n: usize| {
        let (script, data) = (script(), n.to_string());
        let passing = script.make(&create("passing", b"x")).await.unwrap();
        let content = Some(Content { upload: 0, data: data.as_bytes() });
        let id = &kept[n * 7 % kept.len()];
        let update = Update { collection: "f", id, name: Some(data.as_str()), content_type: None, content };
        script.call(HostOp::FilesUpdate, &update).await.unwrap();
        script.call(HostOp::FilesDelete, &Id { collection: "f", id: &passing }).await.unwrap();
    };
    let read = async || {
        let (script, mut seen, mut after) = (script(), Vec::new(), String::new());
        loop {
            let list = List { collection: "f", limit: 3, after: &after };
            let answer = script.call(HostOp::FilesList, &list).await.unwrap();
            let Page { files, has_more } = answer.read();
            seen.extend(files.iter().map(|file| file.id.to_owned()));
            if !has_more {
                return seen;
            }
            after.clone_from(seen.last().unwrap());
        }
    };
    read_beside(&kept, write, read).await;
}

#[tokio::test]
async fn people_upload_and_download_whole_and_in_parts() {
    let storage = Storage::directory();
    let api = start_on(&storage).await;
    upload_and_download(&api, &storage).await;
}

#[tokio::test]
async fn people_upload_to_a_bucket_and_download_whole_and_in_parts() {
    let storage = Storage::bucket();
    let api = start_on(&storage).await;
    upload_and_download(&api, &storage).await;
}

async fn upload_and_download(api: &TestApi, storage: &Storage) {
    let content = noise(2_500_000);
    let made = upload(api, "POST", "/apps/default/files/pics?name=a%2Fb.png", content.clone()).await;
    let file = made.is(201);
    assert_eq!((&file["size"], &file["content_type"]), (&Value::from(2_500_000), &"image/png".into()));
    let path = format!("/apps/default/files/pics/{}", file["id"].as_str().unwrap());
    let (status, whole, headers) = download(api, &format!("{path}/content"), None).await;
    assert_eq!((status, whole == content), (200, true));
    assert_eq!(headers["content-security-policy"], "sandbox; default-src 'none'");
    assert!(headers["content-disposition"].to_str().unwrap().starts_with("attachment; filename=\"a_b.png\""));
    for (range, expected) in [
        ("bytes=0-9", 0..10),
        ("bytes=1048570-1048590", 1_048_570..1_048_591),
        ("bytes=2499999-", 2_499_999..2_500_000),
        ("bytes=-5", 2_499_995..2_500_000),
    ] {
        let (status, part, headers) = download(api, &format!("{path}/content"), Some(range)).await;
        assert_eq!((status, part.as_slice()), (206, &content[expected.clone()]), "{range}");
        let wanted = format!("bytes {}-{}/2500000", expected.start, expected.end - 1);
        assert_eq!(headers["content-range"], wanted.as_str());
    }
    assert_eq!(download(api, &format!("{path}/content"), Some("bytes=2500000-")).await.0, 416);
    let replaced = upload(api, "PUT", &path, b"small".to_vec()).await;
    assert_eq!(replaced.is(200)["name"], "a/b.png");
    assert_eq!(download(api, &format!("{path}/content"), None).await.1, b"small");
    assert_eq!(api.all_pages("/apps/default/files/pics", 1).await.len(), 1);
    assert_eq!(api.call("DELETE", &path, None).await.status, 204);
    api.get(&path).await.is_problem("not_found");
    eventually("its content is gone", async || storage.objects().await.is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_link_is_good_for_its_file_and_its_time_only() {
    let storage = Storage::directory();
    let api = start_on(&storage).await;
    make_a_link_and_forge_it(&api).await;
}

#[tokio::test]
async fn a_link_to_a_file_in_a_bucket_is_good_for_its_file_and_its_time_only() {
    let storage = Storage::bucket();
    let api = start_on(&storage).await;
    make_a_link_and_forge_it(&api).await;
}

async fn make_a_link_and_forge_it(api: &TestApi) {
    let script = Script::of(api, "default").await;
    let id = script.make(&create("a.txt", b"secret")).await.unwrap();
    let link = Link { collection: "f", id: &id, expires_s: 60 };
    let answer = script.call(HostOp::FilesUrl, &link).await.unwrap();
    let url = answer.read::<Linked<'_>>().url.unwrap();
    let path = url.strip_prefix("http://127.0.0.1:8080").unwrap();
    let ask = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    assert_eq!(bytes_of(api, ask(path)).await.1, b"secret", "without a credential");
    let token = path.rsplit('/').next().unwrap();
    for at in [0, token.len() / 2, token.len() - 1] {
        let mut forged = token.to_owned();
        let other = if forged.as_bytes()[at] == b'A' { "B" } else { "A" };
        forged.replace_range(at..=at, other);
        assert_eq!(bytes_of(api, ask(&format!("/api/v1/files/{forged}"))).await.0, 404);
    }
    assert_eq!(bytes_of(api, ask("/api/v1/files/x")).await.0, 404);
    for expires_s in [0, u32::MAX] {
        let refused = script.call(HostOp::FilesUrl, &Link { expires_s, ..link }).await;
        assert_eq!(refused, Err("invalid_argument".into()));
    }
    script.call(HostOp::FilesDelete, &Id { collection: "f", id: &id }).await.unwrap();
    assert_eq!(bytes_of(api, ask(path)).await.0, 404, "the file is gone");
}

/// Whoever waits for a key waits for the lock.
#[tokio::test]
async fn attack_links_of_apps_that_there_are_not_take_no_connection_from_those_that_there_are() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let id = script.make(&create("a.txt", b"content")).await.unwrap();
    let link = Link { collection: "f", id: &id, expires_s: 60 };
    let answer = script.call(HostOp::FilesUrl, &link).await.unwrap();
    let path = answer.read::<Linked<'_>>().url.unwrap().replace("http://127.0.0.1:8080", "");
    let token = URL_SAFE_NO_PAD.decode(path.rsplit('/').next().unwrap()).unwrap();
    let ask = async |token: &[u8]| {
        let path = format!("/api/v1/files/{}", URL_SAFE_NO_PAD.encode(token));
        bytes_of(&api, Request::get(path).body(Body::empty()).unwrap()).await.0
    };
    assert_eq!(ask(&token).await, 200);
    let mut lock = api.database.connect().await;
    sqlx::raw_sql("begin; lock table app_keys in access exclusive mode").execute(&mut lock).await.unwrap();
    for _ in 0..32 {
        let made_up = [&uuid::Uuid::now_v7().into_bytes()[..], &token[16..]].concat();
        assert_eq!(ask(&made_up).await, 404);
    }
    assert_eq!(ask(&token[..16 + 44]).await, 404, "it is too short to be sealed");
    sqlx::raw_sql("rollback").execute(&mut lock).await.unwrap();
    assert_eq!(ask(&token).await, 200);
}

#[tokio::test]
async fn what_is_no_file_is_refused() {
    let api = TestApi::start().await;
    let script = Script::of(&api, "default").await;
    let long = "x".repeat(256);
    for bad in [
        Create { name: "", ..create("a", b"") },
        Create { name: &long, ..create("a", b"") },
        Create { name: "a\0b", ..create("a", b"") },
        Create { content_type: "text\r\nx: y/", ..create("a", b"") },
        Create { content_type: "text", ..create("a", b"") },
        Create { collection: "", ..create("a", b"") },
    ] {
        assert_eq!(script.make(&bad).await, Err("invalid_argument".into()), "{bad:?}");
    }
}

#[tokio::test]
async fn content_of_no_file_is_removed_in_time_and_that_of_files_never() {
    let mut storage = Storage::directory();
    let api = start_with_sweep(&storage).await;
    leave_contents_of_no_file(&api, &mut storage).await;
}

#[tokio::test]
async fn content_of_no_file_in_a_bucket_is_removed_in_time_and_that_of_files_never() {
    let mut storage = Storage::bucket();
    let api = start_with_sweep(&storage).await;
    leave_contents_of_no_file(&api, &mut storage).await;
}

/// What is older than an hour is removed.
async fn start_with_sweep(storage: &Storage) -> TestApi {
    let (first, every, age) = (Duration::ZERO, Duration::from_millis(10), Duration::from_secs(60 * 60));
    let orphans = OrphanSweep { first, every, age };
    TestApi::start_with(ManagerConfig { files: storage.files(), orphans, ..config() }).await
}

async fn leave_contents_of_no_file(api: &TestApi, storage: &mut Storage) {
    const OLD: &str = "aa/aabbccddaabbccddaabbccddaabbccdd/0";
    const YOUNG: &str = "aa/aabbccddaabbccddaabbccddaabbccdd/1";
    const HALF: &str = "aa/aabbccddaabbccddaabbccddaabbccdd/2#1";
    const FOREIGN: &str = "README";
    let script = Script::of(api, "default").await;
    let id = script.make(&create("a", b"kept")).await.unwrap();
    let kept = storage.objects().await;
    let [kept] = kept.as_slice() else { panic!("{kept:?}") };
    for name in [OLD, YOUNG, FOREIGN] {
        storage.plant(name).await;
    }
    let half = storage.plant_half(HALF);
    for name in [kept.as_str(), FOREIGN, OLD] {
        storage.age(name);
    }
    let storage = &*storage;
    let is_gone = async || {
        let objects = storage.objects().await;
        (!objects.iter().any(|name| name == OLD)).then_some(objects)
    };
    let left = eventually("the old content is gone", is_gone).await;
    assert!(left.iter().any(|name| name == YOUNG), "its upload may still be going on");
    assert!(left.iter().any(|name| name == FOREIGN), "it is not ours");
    let is_gone = async || half.as_ref().is_none_or(|half| !half.exists()).then_some(());
    eventually("what was not written to its end is gone", is_gone).await;
    assert_eq!(script.content(&id).await.as_deref(), Some(&b"kept"[..]));
}

#[tokio::test]
async fn a_download_that_is_under_way_comes_to_its_end_when_the_content_is_replaced() {
    use http_body_util::BodyExt;
    use tower::ServiceExt;
    let mut storage = Storage::directory();
    let api = start_with_sweep(&storage).await;
    // More chunks than are fetched ahead.
    let content = noise(5_500_000);
    let made = upload(&api, "POST", "/apps/default/files/pics?name=a.png", content.clone()).await;
    let path = format!("/apps/default/files/pics/{}", made.is(201)["id"].as_str().unwrap());
    let old = storage.objects().await;
    let request = api.request("GET", &format!("{path}/content"), None);
    let mut body = api.router.clone().oneshot(request).await.unwrap().into_body();
    let mut seen = body.frame().await.unwrap().unwrap().into_data().unwrap().to_vec();
    upload(&api, "PUT", &path, b"small".to_vec()).await.is(200);
    for name in &old {
        storage.age(name);
    }
    // The second sweep that is seen has begun when all was old.
    for name in ["aa/aabbccddaabbccddaabbccddaabbccdd/0", "aa/aabbccddaabbccddaabbccddaabbccdd/1"] {
        storage.plant(name).await;
        storage.age(name);
        let is_gone = async || {
            let objects = storage.objects().await;
            (!objects.iter().any(|object| object == name)).then_some(())
        };
        eventually("the sweep came by", is_gone).await;
    }
    seen.extend_from_slice(&body.collect().await.unwrap().to_bytes());
    assert!(seen == content, "{} bytes of {}", seen.len(), content.len());
    let is_gone = async || (storage.objects().await.len() == 1).then_some(());
    eventually("the old content is gone", is_gone).await;
}

/// What is begun and has no file yet is on the disk as well.
#[tokio::test]
async fn attack_22_contents_that_each_fit_and_together_do_not() {
    let api = TestApi::start().await;
    let (one, two) = (Script::of(&api, "default").await, Script::of(&api, "default").await);
    one.make(&create("a", b"x")).await.unwrap();
    let all_but = FILES_BYTES_MAX - 1_500_000;
    api.database.execute(&format!("update files_usage set size = {all_but}")).await;
    let most = noise(900_000);
    let begin = Append { upload: 0, data: &most };
    let begun = one.call(HostOp::FilesAppend, &begin).await.unwrap().read::<Appended>().upload;
    assert_eq!(two.call(HostOp::FilesAppend, &begin).await, Err("budget_exhausted".into()));
    let path = "/apps/default/files/pics?name=a.png";
    upload(&api, "POST", path, most.clone()).await.is_problem("budget_exhausted");
    let last = Content { upload: begun, data: b"" };
    one.make(&Create { content: last, ..create("b", b"") }).await.unwrap();
    // A file is counted once: what is left is room for others, and no more than that.
    assert_eq!(two.call(HostOp::FilesAppend, &begin).await, Err("budget_exhausted".into()));
    upload(&api, "POST", path, noise(600_000)).await.is(201);
    let used: i64 = api.database.scalar("select size from files_usage").await;
    let expected = format!("{FILES_BYTES_MAX} bytes at most");
    print_row("22", "contents sent at once", &expected, &format!("{used} bytes"));
    assert_eq!(used, FILES_BYTES_MAX);
}

#[tokio::test]
async fn a_content_that_gets_no_file_is_removed_at_once_unless_its_commit_is_unclear() {
    let storage = Storage::directory();
    let api = start_on(&storage).await;
    take_contents_back(&api, &storage).await;
}

#[tokio::test]
async fn a_content_in_a_bucket_that_gets_no_file_is_removed_at_once_unless_its_commit_is_unclear() {
    let storage = Storage::bucket();
    let api = start_on(&storage).await;
    take_contents_back(&api, &storage).await;
}

async fn take_contents_back(api: &TestApi, storage: &Storage) {
    let script = Script::of(api, "default").await;
    api.database
        .execute(
            "create function refuse() returns trigger language plpgsql as
             $$ begin raise exception 'refused'; end $$;
             create constraint trigger refuse after insert on files deferrable initially deferred
             for each row execute function refuse()",
        )
        .await;
    // All that is known of a commit that fails is that it was asked for.
    assert_eq!(script.make(&create("unclear", b"unclear")).await, Err("internal".into()));
    let unclear = storage.objects().await;
    assert_eq!(unclear.len(), 1);
    let over = Arc::new(Stage::default());
    assert!(over.abandon());
    let late = script.call_at(HostOp::FilesCreate, &create("late", b"late"), over).await;
    assert_eq!(late, Err("unavailable".into()));
    let is_gone = async || (storage.objects().await == unclear).then_some(());
    eventually("what came too late is gone", is_gone).await;
    // A change that is refused by something else of its transaction.
    api.database
        .execute("create trigger refuse before insert on audit_log for each row execute function refuse()")
        .await;
    upload(api, "POST", "/apps/default/files/pics?name=a.png", noise(1_500_000)).await.is(500);
    let is_gone = async || (storage.objects().await == unclear).then_some(());
    eventually("what was taken back is gone", is_gone).await;
}

#[tokio::test]
async fn a_content_that_was_begun_is_removed_when_its_execution_ends() {
    let storage = Storage::directory();
    let api = start_on(&storage).await;
    begin_a_content(&api, &storage).await;
}

#[tokio::test]
async fn a_content_that_was_begun_in_a_bucket_is_removed_when_its_execution_ends() {
    let storage = Storage::bucket();
    let api = start_on(&storage).await;
    begin_a_content(&api, &storage).await;
}

async fn begin_a_content(api: &TestApi, storage: &Storage) {
    let script = Script::of(api, "default").await;
    let mut upload = 0;
    // The first chunk is stored when the second one is full.
    for piece in noise(2_100_000).chunks(700_000) {
        let answer = script.call(HostOp::FilesAppend, &Append { upload, data: piece }).await.unwrap();
        upload = answer.read::<Appended>().upload;
    }
    let begun = storage.objects().await;
    assert!(begun.iter().any(|name| name.ends_with("/0")), "{begun:?}");
    drop(script);
    eventually("the content is gone", async || storage.objects().await.is_empty().then_some(())).await;
}

/// Whoever may write to the directory, but not read what the server may, gets nothing of that by a link.
#[cfg(unix)]
#[tokio::test]
async fn attack_27_links_planted_where_contents_are() {
    use http_body_util::BodyExt;
    use tower::ServiceExt;
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("files");
    let storage = FileStorage::Directory(root.clone());
    let api = TestApi::start_with(ManagerConfig { files: storage, ..config() }).await;
    let script = Script::of(&api, "default").await;
    let id = script.make(&create("a", b"content")).await.unwrap();
    let secret = directory.path().join("secret");
    // Of the same length, so that nothing but what it says gives it away.
    fs::write(&secret, b"s3cret!").unwrap();
    let kept = contents(&root);
    let [kept] = kept.as_slice() else { panic!("{kept:?}") };
    fs::remove_file(kept).unwrap();
    std::os::unix::fs::symlink(&secret, kept).unwrap();
    let read = Read { collection: "f", id: &id, offset: 0, version: 0 };
    script.call(HostOp::FilesRead, &read).await.unwrap_err();
    let path = format!("/apps/default/files/f/{id}/content");
    let response = api.router.clone().oneshot(api.request("GET", &path, None)).await.unwrap();
    let sent = response.into_body().collect().await.map(|body| body.to_bytes());
    let is_told = sent.is_ok_and(|sent| String::from_utf8_lossy(&sent).contains("s3cret"));
    let seen = if is_told { "what it leads to" } else { "nothing of that" };
    print_row("27", "a link where a content was", "nothing of what it leads to", seen);
    assert!(!is_told);
    // What goes is the link, and not what it leads to.
    script.call(HostOp::FilesDelete, &Id { collection: "f", id: &id }).await.unwrap();
    eventually("the link is gone", async || kept.symlink_metadata().is_err().then_some(())).await;
    assert_eq!(fs::read(&secret).unwrap(), b"s3cret!");
}

/// The files below a folder, without what goes meanwhile.
fn contents(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.flat_map(|path| if path.is_dir() { contents(&path) } else { vec![path] }).collect()
}
