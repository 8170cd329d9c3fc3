//! Every role, every endpoint, own and foreign app: what is answered is what `docs/permissions.md`
//! says. The rights below are written down by hand, apart from the code that decides.

use std::collections::BTreeMap;
use std::fmt::Write;

use axum::body::Body;
use http::Request;
use manager_core::{Permission, permissions, permissions_beside};
use serde_json::json;

use crate::harness::{Reply, TestApi};

/// Who calls. Each is somebody else, and none is a member of the app `foreign`.
const CALLERS: [Caller; 16] = [
    Caller::person("owner", "owner", None),
    Caller::person("admin", "admin", None),
    Caller::person("app_owner", "member", Some("app_admin")),
    Caller::person("app_admin", "member", Some("app_admin")),
    Caller::person("editor", "member", Some("editor")),
    Caller::person("viewer", "member", Some("viewer")),
    Caller::person("nobody", "member", None),
    Caller::key("key_app_read", &["app:read"]),
    Caller::key("key_app_write", &["app:write"]),
    Caller::key("key_script_invoke", &["script:invoke"]),
    Caller::key("key_data", &["data:read", "data:write"]),
    Caller::key("key_app_admin", &["app:admin"]),
    Caller::key("key_instance_admin", &["instance:admin"]),
    Caller { name: "key_bound", role: "owner", member: None, scopes: &APP_SCOPES, is_bound: true },
    Caller {
        name: "key_of_viewer",
        role: "member",
        member: Some("viewer"),
        scopes: &ALL_SCOPES,
        is_bound: false,
    },
    Caller { name: "stranger", role: "", member: None, scopes: &[], is_bound: false },
];

const ALL_SCOPES: [&str; 7] =
    ["app:read", "app:write", "script:invoke", "data:read", "data:write", "app:admin", "instance:admin"];

/// Runs a script of an app without naming the app. Its address is the whole one.
const EXECUTE: Permission =
    Permission { method: "ANY", path: "/api/v1/execute/{script_id}", needs: Some("invoke_scripts") };

/// What is served to everybody. The last two are the composition root's.
const OPEN: [&str; 8] = [
    "/version",
    "/api/v1/docs",
    "/api/v1/openapi.json",
    "/api/v1/sdk.json",
    "/api/v1/sdk/{namespace}",
    "/api/v1/errors/{code}",
    "/healthz",
    "/readyz",
];

/// Those that a key for one app may have.
const APP_SCOPES: [&str; 6] =
    ["app:read", "app:write", "script:invoke", "data:read", "data:write", "app:admin"];

#[derive(Clone, Copy)]
struct Caller {
    name: &'static str,
    /// On the instance.
    role: &'static str,
    /// On the app `own`.
    member: Option<&'static str>,
    /// Of the API key; a session when there are none.
    scopes: &'static [&'static str],
    /// Whether the key is for the app `own` alone.
    is_bound: bool,
}

impl Caller {
    const fn person(name: &'static str, role: &'static str, member: Option<&'static str>) -> Self {
        Self { name, role, member, scopes: &[], is_bound: false }
    }

    /// A key of somebody who may do everything.
    const fn key(name: &'static str, scopes: &'static [&'static str]) -> Self {
        Self { name, role: "owner", member: None, scopes, is_bound: false }
    }
}

/// What a caller is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    Yes,
    Unauthenticated,
    Forbidden,
    NotFound,
}

impl Answer {
    fn of(reply: &Reply) -> Self {
        match (reply.status.as_u16(), reply.json["detail"].as_str()) {
            (401, _) => Self::Unauthenticated,
            (403, _) => Self::Forbidden,
            (404, Some("there is no such app" | "there is no such script")) => Self::NotFound,
            // Whatever the handler says about a request without a body and with made-up names.
            (..500, _) => Self::Yes,
            (..) => panic!("{reply:?}"),
        }
    }

    fn shown(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Unauthenticated => "401",
            Self::Forbidden => "403",
            Self::NotFound => "404",
        }
    }
}

/// The rights, by hand.
fn expected(caller: &Caller, needs: Option<&str>, is_own: bool) -> Answer {
    let Some(capability) = needs else { return Answer::Yes };
    if caller.role.is_empty() {
        return Answer::Unauthenticated;
    }
    let is_key = !caller.scopes.is_empty();
    let has = |scopes: &[&str]| !is_key || scopes.iter().any(|scope| caller.scopes.contains(scope));
    let yes_if = |is_allowed| if is_allowed { Answer::Yes } else { Answer::Forbidden };
    match capability {
        "read_self" => return Answer::Yes,
        "manage_self" => return yes_if(!is_key),
        "create_apps" | "manage_users" | "read_audit" | "read_system" => {
            return yes_if(caller.role != "member" && has(&["instance:admin"]) && !caller.is_bound);
        }
        "rotate_keys" => {
            return yes_if(caller.role == "owner" && has(&["instance:admin"]) && !caller.is_bound);
        }
        _ => {}
    }
    let member = caller.member.filter(|_| is_own);
    let rank = match (caller.role, member) {
        ("owner", _) | (_, Some("app_admin")) => 3,
        ("admin", _) | (_, Some("editor")) => 2,
        (_, Some("viewer")) => 1,
        _ => return Answer::NotFound,
    };
    if caller.is_bound && !is_own {
        return Answer::NotFound;
    }
    match capability {
        "read_app" => yes_if(has(&["app:read", "app:write", "app:admin"])),
        "write_app" | "write_secrets" => yes_if(rank >= 2 && has(&["app:write", "app:admin"])),
        "invoke_scripts" => yes_if(rank >= 2 && has(&["script:invoke"])),
        "read_data" => yes_if(has(&["data:read", "data:write"])),
        "write_data" => yes_if(rank >= 2 && has(&["data:write"])),
        "administer_app" => yes_if(rank >= 3 && has(&["app:admin"])),
        "set_budgets" | "release_scripts" => yes_if(caller.role != "member" && has(&["instance:admin"])),
        "waive_domains" | "assign_apps" => yes_if(caller.role == "owner" && has(&["instance:admin"])),
        "transfer_app" => {
            let is_owner = caller.role == "owner" || (is_own && caller.name == "app_owner");
            yes_if(is_owner && has(&["app:admin"]))
        }
        other => panic!("say here who may {other}"),
    }
}

/// Whether the address is not below that of the admin API.
fn is_whole(permission: &Permission) -> bool {
    permissions_beside().contains(permission)
}

/// The people of the test with a way to get each a new credential.
struct Cast {
    api: TestApi,
    ids: BTreeMap<&'static str, uuid::Uuid>,
    keys: BTreeMap<&'static str, String>,
}

impl Cast {
    async fn assemble() -> Self {
        let api = TestApi::start().await;
        let mut cast = Self { api, ids: BTreeMap::new(), keys: BTreeMap::new() };
        for app in ["own", "foreign"] {
            cast.api.post("/apps", json!({ "slug": app })).await.is(201);
            cast.api.deploy(app, "hello", "1").await.is(201);
        }
        for caller in CALLERS.iter().filter(|caller| !caller.role.is_empty()) {
            cast.enter(caller).await;
        }
        cast.api.post("/apps/own:assign", json!({ "user": "app_owner" })).await.is(200);
        cast
    }

    async fn enter(&mut self, caller: &Caller) {
        let person = self.api.person(caller.name, caller.role).await;
        let id = person.get("/auth/me").await.is(200)["id"].as_str().unwrap().parse().unwrap();
        self.ids.insert(caller.name, id);
        if let Some(role) = caller.member {
            let body = json!({ "user": caller.name, "role": role });
            self.api.post("/apps/own/members", body).await.is(201);
        }
        if !caller.scopes.is_empty() {
            let app = caller.is_bound.then_some("own");
            let body = json!({ "name": "key", "scopes": caller.scopes, "app": app });
            let key = person.post("/api-keys", body).await.is(201)["key"].as_str().unwrap().to_owned();
            self.keys.insert(caller.name, key);
        }
    }

    /// A session that nothing else uses, because some endpoints end it.
    async fn credential(&self, caller: &Caller) -> String {
        match (self.keys.get(caller.name), self.ids.get(caller.name)) {
            (Some(key), _) => key.clone(),
            (None, Some(id)) => self.api.session_of(*id).await,
            (None, None) => String::new(),
        }
    }

    /// A request of this caller to a whole address.
    async fn request(&self, caller: &Caller, method: &str, path: &str) -> Request<Body> {
        let api = self.api.with_token(self.credential(caller).await);
        let mut request = api.request(method, "", None);
        *request.uri_mut() = path.parse().unwrap();
        if caller.role.is_empty() {
            request.headers_mut().remove("authorization");
        }
        request
    }

    async fn ask(&self, caller: &Caller, permission: &Permission, app: &str) -> Answer {
        let path = permission
            .path
            .replace("{app}", app)
            .replace("{name}", "no-such-name")
            .replace("{user}", "no-such-user")
            .replace("{id}", "no-such-id");
        let path = if is_whole(permission) { path } else { format!("/api/v1/admin{path}") };
        Answer::of(&self.api.send_head(self.request(caller, permission.method, &path).await).await)
    }
}

#[tokio::test]
async fn every_role_gets_the_documented_answer_from_every_endpoint() {
    let cast = Cast::assemble().await;
    let mut wrong = String::new();
    for permission in permissions().into_iter().chain(permissions_beside()) {
        let apps = if permission.path.contains("{app}") { &["own", "foreign"][..] } else { &["own"] };
        for (app, caller) in apps.iter().flat_map(|app| CALLERS.iter().map(move |caller| (*app, caller))) {
            let expected = expected(caller, permission.needs, app == "own");
            let answer = cast.ask(caller, &permission, app).await;
            if answer != expected {
                let Permission { method, path, .. } = permission;
                writeln!(wrong, "{} {method} {path} on {app}: {answer:?}, not {expected:?}", caller.name)
                    .unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[tokio::test]
async fn every_role_gets_the_documented_answer_when_it_runs_a_script_directly() {
    let cast = Cast::assemble().await;
    for app in ["own", "foreign"] {
        let script = cast.api.get(&format!("/apps/{app}/scripts/hello")).await.is(200)["id"].clone();
        let path = EXECUTE.path.replace("{script_id}", script.as_str().unwrap());
        for caller in &CALLERS {
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
                let reply = cast.api.send(cast.request(caller, method, &path).await).await;
                let expected = expected(caller, EXECUTE.needs, app == "own");
                assert_eq!(Answer::of(&reply), expected, "{} {method} on {app}: {reply:?}", caller.name);
            }
        }
    }
}

#[tokio::test]
async fn what_is_open_asks_nobody_who_they_are() {
    let cast = Cast::assemble().await;
    for path in &OPEN[..6] {
        let path = path.replace("{code}", "not_found").replace("{namespace}", "kv.d.rhai");
        for caller in &CALLERS {
            let request = cast.request(caller, "GET", &path).await;
            cast.api.send(request).await.is(200);
        }
    }
}

#[test]
fn the_documented_matrix_is_the_one_that_is_tested() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/permissions.md");
    let written = matrix();
    if std::env::var_os("PICLOUD_WRITE_DOCS").is_some() {
        std::fs::write(page, &written).unwrap();
    }
    let kept = std::fs::read_to_string(page).unwrap_or_default();
    assert!(kept == written, "docs/permissions.md is stale: run this test with PICLOUD_WRITE_DOCS=1");
}

/// `docs/permissions.md`.
fn matrix() -> String {
    let mut page = String::from(include_str!("permissions.head.md"));
    for (title, is_own) in [("On an app that they have to do with", true), ("On any other app", false)] {
        writeln!(page, "\n## {title}\n").unwrap();
        let on_apps = |permission: &Permission| permission.path.contains("{app}");
        table(&mut page, permissions().into_iter().filter(on_apps).chain([EXECUTE]), is_own);
    }
    writeln!(page, "\n## Elsewhere\n").unwrap();
    table(&mut page, permissions().into_iter().filter(|permission| !permission.path.contains("{app}")), true);
    writeln!(page, "\n## About the machine\n\nHere the address is the whole one.\n").unwrap();
    table(&mut page, permissions_beside().into_iter(), true);
    writeln!(page, "\n## Open to everybody\n\nNo credential is looked at.\n\n| endpoint |\n|---|").unwrap();
    for path in OPEN {
        writeln!(page, "| `GET {path}` |").unwrap();
    }
    // Whom it believes is said above.
    writeln!(page, "| `POST /api/v1/hooks/{{trigger_id}}` |").unwrap();
    page
}

fn table(page: &mut String, lines: impl Iterator<Item = Permission>, is_own: bool) {
    let names: Vec<_> = CALLERS.iter().map(|caller| caller.name.replace('_', " ")).collect();
    writeln!(page, "| endpoint | needs | {} |", names.join(" | ")).unwrap();
    writeln!(page, "|---|---|{}", "---|".repeat(names.len())).unwrap();
    for Permission { method, path, needs } in lines {
        let answers: Vec<_> = CALLERS.iter().map(|caller| expected(caller, needs, is_own).shown()).collect();
        let needs = needs.unwrap_or("nothing");
        writeln!(page, "| `{method} {path}` | `{needs}` | {} |", answers.join(" | ")).unwrap();
    }
}
