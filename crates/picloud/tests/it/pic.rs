//! `pic` against a real server: the tour of the README.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::harness::{ADMIN, PASSWORD, TestServer, eventually};

/// The binary beside the server's; built when only this crate was.
fn pic_binary() -> PathBuf {
    let server = Path::new(env!("CARGO_BIN_EXE_picloud"));
    let pic = server.with_file_name("pic");
    if !pic.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "picloud-cli"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        if server.parent().is_some_and(|dir| dir.ends_with("release")) {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "pic does not build");
    }
    pic
}

/// Somebody at a terminal, in a directory of their own.
pub(crate) struct Person {
    home: TempDir,
    url: String,
}

pub(crate) struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn is(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that each text is on standard output.
    #[track_caller]
    pub(crate) fn says(&self, texts: &[&str]) {
        for text in texts {
            assert!(self.stdout.contains(text), "no {text:?} in:\n{}\n{}", self.stdout, self.stderr);
        }
    }
}

impl Person {
    fn new(server: &TestServer) -> Self {
        let url = format!("http://localhost:{}", server.port);
        Self { home: tempfile::tempdir().unwrap(), url }
    }

    pub(crate) fn logged_in(server: &TestServer) -> Self {
        let person = Self::new(server);
        let login = ["--url", &person.url, "login", "--username", ADMIN, "--password-stdin"];
        person.pic(&login, PASSWORD).is(0).says(&["Logged in", ADMIN]);
        person
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(pic_binary());
        command
            .args(args)
            .env_clear()
            .env("HOME", self.home.path())
            .env("XDG_CONFIG_HOME", self.home.path().join("config"))
            .current_dir(self.home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn pic(&self, args: &[&str], input: &str) -> Ran {
        let mut child = self.command(args).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.home.path().join(name), text).unwrap();
    }
}

#[test]
fn the_tour_works_from_login_to_rollback() {
    let server = TestServer::shared();
    let me = Person::logged_in(&server);
    let app = server.app();
    let slug = app.slug.as_str();
    me.write("greet.rhai", "log::info(\"greeting\");\n`Hi, ${ctx.request.params.name ?? \"you\"}!`\n");
    let deploy = ["deploy", "greet.rhai", "--route", "/greet/:name", "--app", slug];
    me.pic(&deploy, "").is(0).says(&["greet version 1 is live", "/greet/:name", "curl"]);
    assert_eq!(app.get("/greet/pi").is(200).json(), "Hi, pi!");
    me.pic(&["whoami"], "").is(0).says(&[ADMIN]);

    let invoked = me.pic(&["invoke", "greet", "--path", "/greet/test", "--app", slug], "");
    invoked.is(0).says(&["Hi, test!"]);
    assert!(invoked.stderr.contains("greeting") && invoked.stderr.contains("200"), "{}", invoked.stderr);

    me.write("greet.rhai", "throw \"broken today\"\n");
    me.pic(&deploy, "").is(0).says(&["greet version 2 is live"]);
    app.get("/greet/pi").is(500);
    me.pic(&["invoke", "greet", "--app", slug], "").is(1);
    eventually("the failures are listed", || {
        let list = me.pic(&["executions", "--app", slug, "--status", "script_error"], "");
        (list.is(0).stdout.matches("script_error").count() == 2).then_some(())
    });
    me.pic(&["logs", "--app", slug], "").is(0).says(&["greeting", "broken today"]);

    me.pic(&["rollback", "greet", "1", "--app", slug], "").is(0).says(&["Version 1 of greet is live"]);
    assert_eq!(app.get("/greet/pi").is(200).json(), "Hi, pi!");
    me.pic(&["rollback", "greet", "9", "--app", slug], "").is(4);
    me.pic(&["logout"], "").is(0);
    me.pic(&["executions", "--app", slug], "").is(3);
}

#[test]
fn a_key_of_one_app_deploys_to_it_and_to_no_other() {
    let server = TestServer::shared();
    let me = Person::logged_in(&server);
    let [app, other] = [server.app(), server.app()];
    me.pic(&["members", "ls", "--app", &app.slug], "").is(0).says(&[ADMIN, "app_admin", "owner"]);
    me.pic(&["members", "rm", ADMIN, "--app", &app.slug], "").is(1);
    let create = ["keys", "create", "ci", "--scope", "app:write", "--app", &app.slug, "--days", "1"];
    let made = me.pic(&create, "");
    let key = made.is(0).stdout.trim().to_owned();
    me.pic(&["keys", "ls"], "").is(0).says(&["ci", &key[..8], "app:write"]);
    me.pic(&["sessions", "ls"], "").is(0).says(&["this one", "pic/"]);

    let ci = Person::new(&server);
    ci.write("one.rhai", "1\n");
    let deploy = |slug: &str| {
        let mut command = ci.command(&["--url", &ci.url, "deploy", "one.rhai", "--app", slug]);
        command.env("PICLOUD_TOKEN", &key).output().unwrap().status.code()
    };
    assert_eq!(deploy(&app.slug), Some(0));
    assert_eq!(deploy(&other.slug), Some(4), "it is not told that the other app exists");
}

#[test]
fn a_renamed_app_is_found_by_its_old_name() {
    let server = TestServer::shared();
    let me = Person::logged_in(&server);
    let app = server.app();
    let new = format!("{}-now", app.slug);
    me.pic(&["apps", "rename", &app.slug, &new], "").is(0).says(&[&new]);
    me.pic(&["apps", "set", &app.slug, "--description", "Club news"], "").is(0);
    me.write("page.rhai", "`still here`\n");
    me.pic(&["deploy", "page.rhai", "--route", "/page", "--app", &app.slug], "").is(0);
    assert_eq!(app.client().get(&format!("{new}.localhost"), "/page").is(200).json(), "still here");
    let refused = me.pic(&["apps", "rm", &app.slug], "");
    refused.is(1);
    let says = |what: &str| assert!(refused.stderr.contains(what), "{}", refused.stderr);
    ["1 routes", "1 scripts", "1 versions"].into_iter().for_each(says);
    me.pic(&["apps", "rm", &app.slug, "--force"], "").is(0);
}

#[test]
fn a_folder_is_planned_applied_and_then_nothing_is_left_to_do() {
    let server = TestServer::shared();
    let me = Person::logged_in(&server);
    let app = server.app();
    let toml = "[scripts.rates]\nkind = \"module\"\n\n[[routes]]\npath = \"/till/:n\"\nscript = \"till\"\n";
    me.write("picloud.toml", &format!("app = \"{}\"\n{toml}", app.slug));
    me.write("rates.rhai", "export const RATE = 20;\n");
    me.write("till.rhai", "import \"rates\" as r;\nr::RATE * parse_int(ctx.request.params.n)\n");
    me.pic(&["plan"], "").is(0).says(&[
        "+ script rates",
        "+ script till",
        "+ route ANY /till/:n",
        "3 to create",
    ]);
    app.get("/till/2").is(404);
    me.pic(&["apply"], "").is(0).says(&["is as the folder says now"]);
    assert_eq!(app.get("/till/2").is(200).json(), 40);
    me.pic(&["plan"], "").is(0).says(&["nothing to do"]);

    me.write("rates.rhai", "export const RATE = 10;\n");
    me.pic(&["plan"], "").is(0).says(&[
        "~ script rates",
        "-export const RATE = 20;",
        "a module that it imports",
    ]);
    me.pic(&["apply"], "").is(0);
    assert_eq!(app.get("/till/2").is(200).json(), 20);

    me.write("till.rhai", "let a = (1;\n");
    let refused = me.pic(&["apply"], "");
    assert!(refused.is(1).stderr.contains("till.rhai:1:"), "{}", refused.stderr);
    assert_eq!(app.get("/till/2").is(200).json(), 20, "nothing of it was applied");

    me.write("till.rhai", "1\n");
    me.write("picloud.toml", &format!("app = \"{}\"\n[scripts.rates]\nkind = \"module\"\n", app.slug));
    me.pic(&["apply"], "").is(2).says(&["- route ANY /till/:n"]);
    app.get("/till/2").is(200);
    me.pic(&["apply", "--yes"], "").is(0);
    app.get("/till/2").is(404);
}

#[test]
fn a_folder_of_static_files_is_pushed() {
    let server = TestServer::shared();
    let me = Person::logged_in(&server);
    let app = server.app();
    std::fs::create_dir_all(me.home.path().join("public/css")).unwrap();
    me.write("public/index.html", "<p>hello");
    me.write("public/css/a b.css", "a{}");
    me.write("public/.hidden", "secret");
    let push = ["assets", "push", "public", "--delete", "--app", &app.slug];
    me.pic(&push, "").is(0).says(&["2 files, 2 of them new or changed; 0 removed"]);
    assert_eq!(app.get("/").is(200).text(), "<p>hello");
    assert_eq!(app.get("/css/a%20b.css").is(200).header("content-type"), "text/css; charset=utf-8");
    app.get("/.hidden").is(404);
    std::fs::remove_file(me.home.path().join("public/index.html")).unwrap();
    me.pic(&push, "").is(0).says(&["1 files, 0 of them new or changed; 1 removed"]);
    app.get("/").is(404);
    me.pic(&["assets", "ls", "--app", &app.slug], "").is(0).says(&["/css/a b.css", "text/css"]);
    me.pic(&["assets", "rm", "/css/a b.css", "--app", &app.slug], "").is(0);
}

#[test]
fn domains_routes_and_switches_are_at_hand() {
    let server = TestServer::shared();
    let me = Person::logged_in(&server);
    let app = server.app();
    let slug = app.slug.as_str();
    app.serve("page", "1", &crate::harness::NO_LIMITS);
    let domain = format!("{{who}}.{slug}.example.org");
    me.pic(&["domains", "add", &domain, "--app", slug], "").is(0).says(&[
        "_picloud.",
        "TXT",
        "picloud-verification=",
    ]);
    me.pic(&["domains", "verify", &domain, "--waive", "--app", slug], "").is(0).says(&["leads to app"]);
    me.pic(&["domains", "ls", "--app", slug], "").is(0).says(&[&domain, "proven (waiver)"]);
    let url = format!("http://ada.{slug}.example.org/page");
    me.pic(&["routes", "match", &url, "--app", slug], "").is(0).says(&["→ page@1", "answers"]);
    let add =
        ["routes", "add", "/limited", "page", "--rate-limit", "1/3600", "--cors-origin", "https://a.example"];
    me.pic(&[&add[..], &["--cache-control", "no-store", "--app", slug]].concat(), "").is(0);
    assert_eq!(app.get("/limited").is(200).header("cache-control"), "no-store");
    assert_eq!(app.get("/limited").is(429).header("vary"), "origin");
    let locked =
        ["routes", "add", "/locked", "page", "--auth", "api_key", "--body-limit-bytes", "9", "--app", slug];
    me.pic(&locked, "").is(0);
    app.get("/locked").is(401);
    me.pic(&["routes", "add", "/x", "page", "--rate-limit", "often"], "").is(2);
    me.pic(&["domains", "rm", &domain, "--app", slug], "").is(0);
    me.pic(&["domains", "rm", &domain, "--app", slug], "").is(2);
    me.pic(&["scripts", "disable", "page", "--app", slug], "").is(0);
    app.get("/page").is(503);
    me.pic(&["scripts", "ls", "--app", slug], "").is(0).says(&["off"]);
    me.pic(&["scripts", "enable", "page", "--app", slug], "").is(0);
    app.get("/page").is(200);
}

#[test]
fn a_compile_error_shows_line_caret_and_reason() {
    let server = TestServer::shared();
    let me = Person::logged_in(&server);
    let app = server.app();
    me.write("broken.rhai", "let a = 1;\nlet b = (a + 2;\nb\n");
    let refused = me.pic(&["deploy", "broken.rhai", "--app", &app.slug], "");
    assert_ne!(refused.is(1).stderr.find("let b = (a + 2;"), None, "{}", refused.stderr);
    assert!(refused.stderr.contains("broken.rhai:2:"), "{}", refused.stderr);
    assert!(refused.stderr.contains('^') || refused.stderr.contains('─'), "{}", refused.stderr);
}

#[test]
fn a_changed_module_is_shown_with_the_scripts_that_use_it() {
    let server = TestServer::shared();
    let me = Person::logged_in(&server);
    let app = server.app();
    me.write("rates.rhai", "export const RATE = 20;\n");
    let deploy = ["deploy", "rates.rhai", "--module", "--app", &app.slug];
    me.pic(&deploy, "").is(0).says(&["rates version 1 is live"]);
    me.write("till.rhai", "import \"rates\" as rates;\nrates::RATE\n");
    me.pic(&["deploy", "till.rhai", "--route", "/till", "--app", &app.slug], "").is(0);
    me.write("rates.rhai", "export const RATE = 10;\n");
    me.pic(&deploy, "").is(0).says(&["rates version 2 is live", "till uses it and is now version 2"]);
    assert_eq!(app.get("/till").is(200).json(), 10);
    me.write("bad.rhai", "let a = 1;\nimport \"ratse\" as rates;\n");
    me.pic(&["scripts", "diff", "rates", "1", "--app", &app.slug], "")
        .is(0)
        .says(&["-export const RATE = 20;"]);
    let back = me.pic(&["rollback", "rates", "1", "--app", &app.slug], "");
    back.is(0).says(&["Version 1 of rates is live", "till uses it and is now version 3"]);
    let refused = me.pic(&["deploy", "bad.rhai", "--app", &app.slug], "");
    assert!(refused.is(1).stderr.contains("bad.rhai:2:"), "{}", refused.stderr);
    assert!(refused.stderr.contains("no such module: bad → ratse"), "{}", refused.stderr);
}

#[test]
fn a_wrong_password_and_a_server_that_is_not_there_have_exit_codes_of_their_own() {
    let server = TestServer::shared();
    let me = Person::new(&server);
    let login = ["--url", &me.url, "login", "--username", ADMIN, "--password-stdin"];
    me.pic(&login, "wrong password").is(3);
    me.pic(&["--url", "http://localhost:1", "login", "--username", ADMIN, "--password-stdin"], "x").is(5);
}

#[test]
fn logs_are_followed_live() {
    use std::io::{BufRead, BufReader};

    let server = TestServer::shared();
    let me = Person::logged_in(&server);
    let app = server.app();
    app.serve("talk", "log::info(`line ${ctx.request.query.n}`); 1", &crate::harness::NO_LIMITS);
    let mut follower = me.command(&["logs", "-f", "--app", &app.slug]).spawn().unwrap();
    let stdout = BufReader::new(follower.stdout.take().unwrap());
    let is_done = std::sync::atomic::AtomicBool::new(false);
    let line = std::thread::scope(|scope| {
        // It cannot be known from outside when the follower listens, so something is always said.
        scope.spawn(|| {
            eventually("the follower has heard", || {
                app.get("/talk?n=1").is(200);
                is_done.load(std::sync::atomic::Ordering::Relaxed).then_some(())
            });
        });
        let line = stdout.lines().map_while(Result::ok).find(|line| line.contains("line 1"));
        is_done.store(true, std::sync::atomic::Ordering::Relaxed);
        line
    });
    follower.kill().unwrap();
    follower.wait().unwrap();
    assert!(line.unwrap().contains("talk"));
}

#[test]
fn a_webhook_is_made_shown_and_given_another_secret() {
    let server = TestServer::shared();
    let me = Person::logged_in(&server);
    let app = server.app();
    let slug = app.slug.as_str();
    app.deploy("hook", "1", &crate::harness::NO_LIMITS);
    let add =
        ["triggers", "add", "webhook", "hook", "provider=github", "secrets=[\"OLD\"]", "--name", "push"];
    let added = me.pic(&[&add[..], &["--app", slug]].concat(), "");
    added.is(0).says(&["hook runs on webhook", "Its address: POST http", "/api/v1/hooks/"]);
    assert!(added.stderr.contains("its secret OLD is not set: pic secrets set OLD"), "{}", added.stderr);
    let url = added.stdout.split("POST ").nth(1).unwrap().trim();
    let id = url.rsplit('/').next().unwrap();
    let set = ["triggers", "set", id, "secrets=[\"NEW\", \"OLD\"]", "--app", slug];
    me.pic(&set, "").is(0).says(&["Changed trigger", url]);
    let shown = me.pic(&["triggers", "show", id, "--app", slug, "--output", "json"], "");
    let shown: serde_json::Value = serde_json::from_str(&shown.is(0).stdout).unwrap();
    assert_eq!(shown["config"]["secrets"], serde_json::json!(["NEW", "OLD"]));
    assert_eq!((shown["config"]["provider"].as_str(), shown["url"].as_str()), (Some("github"), Some(url)));
    me.pic(&["triggers", "set", id, "secrets=[]", "--app", slug], "").is(1);
}
