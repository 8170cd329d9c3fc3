//! `files` from scripts and for people, in a directory and in a bucket.

use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::{Bucket, Canary, NO_LIMITS, TestApp, TestServer, eventually, print_row, process};

/// A script that makes, reads, changes and removes files; it answers what it saw.
const ALL: &str = r#"
    let f = files::collection("pics");
    let big = blob(2500000, 7);
    let made = f.create(#{ name: "a/b.bin", content_type: "image/x-noise", data: big });
    let same = f.get(made.id) == big;
    let head = f.head(made.id);
    let renamed = f.update(made.id, #{ name: "c.bin" });
    let text = f.update(made.id, #{ content_type: "text/plain", data: "hello" });
    let content = f.get(made.id).as_string();
    let listed = f.list();
    let gone = [f.delete(made.id), f.delete(made.id), f.get(made.id), f.head(made.id), f.url(made.id)];
    #{
        size: head.size, checksum: made.checksum, same: same, name: renamed.name, new_size: text.size,
        later: text.version > made.version, content: content, listed: listed.items.len(),
        cursor: listed.cursor, gone: gone,
    }
"#;

fn expected() -> Value {
    json!({
        "size": 2_500_000,
        "checksum": hex(&Sha256::digest(vec![7; 2_500_000])),
        "same": true,
        "name": "c.bin",
        "new_size": 5,
        "later": true,
        "content": "hello",
        "listed": 1,
        "cursor": null,
        "gone": [true, false, null, null, null],
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The files below a folder.
fn contents(folder: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { contents(&path) } else { vec![path] }).collect()
}

/// A server that keeps the contents of files in this bucket.
fn start_with(bucket: &Bucket) -> TestServer {
    let settings = bucket.settings();
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    TestServer::start_with(&settings)
}

/// A script that keeps what it is sent, and answers the file's id.
fn keeper(app: &TestApp<'_>) {
    let source = "files::collection(\"c\").create(#{ name: \"x\", data: ctx.request.body_raw }).id";
    app.serve("keep", source, &NO_LIMITS);
}

#[test]
fn a_script_uses_all_of_files() {
    let server = TestServer::shared();
    let app = server.app();
    app.serve("all", ALL, &NO_LIMITS);
    assert_eq!(app.get("/all").is(200).json(), expected());
}

#[test]
fn a_script_uses_all_of_files_in_a_bucket() {
    let mut bucket = Bucket::start();
    let server = start_with(&bucket);
    let app = server.app();
    app.serve("all", ALL, &NO_LIMITS);
    assert_eq!(app.get("/all").is(200).json(), expected());
    eventually("the removed contents are gone from the bucket", || (bucket.objects() == 0).then_some(()));
    keeper(&app);
    app.post("/keep", "text/plain", b"kept").is(200);
    assert_eq!(bucket.objects(), 1);
    bucket.stop();
    let source =
        "try { files::collection(\"c\").create(#{ name: \"x\", data: \"y\" }) } catch (e) { return e.code }";
    app.serve("without", source, &json!({ "timeout_ms": 300_000 }));
    assert_eq!(app.get("/without").is(200).json(), "unavailable");
}

#[test]
fn a_link_of_a_script_opens_for_everybody_and_only_that_file() {
    let server = TestServer::shared();
    let app = server.app();
    let source = r#"
        let f = files::collection("docs");
        let made = f.create(#{ name: "a.html", content_type: "text/html", data: "<script>1</script>" });
        f.url(made.id, #{ expires: 60 })
    "#;
    app.serve("link", source, &NO_LIMITS);
    let url = app.get("/link").is(200).json();
    let path = url.as_str().unwrap().splitn(4, '/').nth(3).unwrap().to_owned();
    let reply = server.client.get("localhost", &format!("/{path}"));
    assert_eq!(reply.is(200).body, b"<script>1</script>");
    // It is a stranger's page, on an address of the platform.
    assert_eq!(reply.headers["content-security-policy"], "sandbox; default-src 'none'");
    assert!(reply.headers["content-disposition"].to_str().unwrap().starts_with("attachment"));
    server.client.get("localhost", &format!("/{path}A")).is(404);
}

/// Security catalogue 27: a name is what it is called, and never where it is.
#[test]
fn attack_27_no_name_of_a_file_leads_anywhere() {
    let server = TestServer::start();
    let (app, canary) = (server.app(), Canary::beside(&server));
    let names = ["../../../etc/passwd", "..", "/etc/passwd", "a\u{202e}b", "con", "A", "a", "\u{10ffff}"];
    for name in names {
        let source = format!(
            "let f = files::collection({name:?}); let m = f.create(#{{ name: {name:?}, data: {name:?} }}); \
             [f.head(m.id).name, f.get(m.id).as_string()]"
        );
        let source = source.replace("\\u{202e}", "\u{202e}").replace("\\u{10ffff}", "\u{10ffff}");
        let seen = app.run("name", &source, &NO_LIMITS).is(200).json();
        // Some of them would turn the table around.
        let shown = seen.to_string().escape_debug().to_string();
        print_row("27", &format!("{name:?}"), "kept to the byte", &shown);
        assert_eq!(seen, json!([name, name]), "{name:?}");
        app.admin("DELETE", "/scripts/name?force=true", &Value::Null);
    }
    let below = contents(&server.disk.path().join("data/files"));
    assert_eq!(below.len(), names.len(), "each is where the platform put it: {below:?}");
    for path in below {
        let name = path.strip_prefix(server.disk.path()).unwrap().to_str().unwrap();
        assert!(name.chars().all(|c| c.is_ascii_hexdigit() || "/datafiles".contains(c)), "{name}");
    }
    canary.release("27");
}

#[test]
fn a_long_content_leaves_the_servers_memory_as_it_is() {
    keep_and_give_out_a_long_content(&TestServer::start());
}

#[test]
fn a_long_content_in_a_bucket_leaves_the_servers_memory_as_it_is() {
    let bucket = Bucket::start();
    keep_and_give_out_a_long_content(&start_with(&bucket));
}

/// Neither on its way in nor on its way out is it whole in the server's memory.
fn keep_and_give_out_a_long_content(server: &TestServer) {
    const BYTES: usize = 60 << 20;
    let app = server.app();
    let keep = |content: &[u8]| {
        let path = format!("/apps/{}/files/c?name=long", app.slug);
        server.admin_bytes("POST", &path, content).is(201).json()
    };
    let content_of = |made: &Value| {
        let path = format!("/files/c/{}/content", made["id"].as_str().unwrap());
        app.admin("GET", &path, &Value::Null).is(200).body.clone()
    };
    // What a first file costs once.
    assert_eq!(content_of(&keep(b"short")), b"short");
    let content: Vec<u8> = (0..BYTES).map(|at| at.to_le_bytes()[1]).collect();
    let before = process::peak_kib(server.pid());
    let made = keep(&content);
    assert_eq!(made["checksum"], hex(&Sha256::digest(&content)));
    assert!(content_of(&made) == content);
    let grown = process::peak_kib(server.pid()).saturating_sub(before);
    assert!(grown < 24 << 10, "the server grew by {grown} KiB");
}

#[test]
fn a_damaged_content_is_not_given_out() {
    let server = TestServer::start();
    damage_and_read(&server, |fake| {
        let on_disk = contents(&server.disk.path().join("data/files"));
        let [path] = on_disk.as_slice() else { panic!("{on_disk:?}") };
        std::fs::write(path, fake).unwrap();
    });
}

#[test]
fn a_damaged_content_of_a_bucket_is_not_given_out() {
    let bucket = Bucket::start();
    damage_and_read(&start_with(&bucket), |fake| bucket.overwrite(fake));
}

/// `overwrite` puts another content in the place of the only one there is.
fn damage_and_read(server: &TestServer, overwrite: impl FnOnce(&[u8])) {
    let app = server.app();
    keeper(&app);
    let id = app.post("/keep", "text/plain", b"true content").is(200).json();
    overwrite(b"fake content");
    let source = "try { files::collection(\"c\").get(ctx.request.body) } catch (e) { return e.code }";
    app.serve("read", source, &NO_LIMITS);
    assert_eq!(app.post("/read", "application/json", id.to_string().as_bytes()).is(200).json(), "internal");
}

#[test]
fn files_are_there_after_a_restart() {
    let server = TestServer::start();
    let app = server.app();
    keeper(&app);
    let id = app.post("/keep", "text/plain", b"kept").is(200).json();
    let (slug, disk) = (app.slug.clone(), server.disk.clone());
    drop(server);
    let server = TestServer::start_on(disk);
    let app = server.existing_app(&slug);
    let path = format!("/files/c/{}/content", id.as_str().unwrap());
    assert_eq!(app.admin("GET", &path, &Value::Null).is(200).body, b"kept");
}
