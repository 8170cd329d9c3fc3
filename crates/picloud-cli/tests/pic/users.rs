use serde_json::{Value, json};

use crate::sandbox::Sandbox;
use crate::server::{Server, problem};

const ID: &str = "0199a3c2-7d1e-7b54-9d0a-2f1c6a1f9e11";

fn eve() -> Value {
    json!({
        "id": ID, "login": "eve@example.org", "roles": ["editor"], "profile": { "name": "Eve\u{1b}[31m" },
        "verified_at": "2026-01-02T03:04:05.6Z", "disabled_at": null, "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z"
    })
}

fn page(items: &[Value]) -> Value {
    json!({ "items": items, "next_cursor": null })
}

#[test]
fn users_are_listed_and_shown_by_login_or_id() {
    let server = Server::default()
        .on("GET /apps/blog/users?limit=100", 200, page(&[eve()]))
        .on("GET /apps/blog/users?login=Eve%40example.org&limit=1", 200, page(&[eve()]))
        .on(&format!("GET /apps/blog/users/{ID}"), 200, eve())
        .start();
    let pic = |args: &[&str]| Sandbox::new().pic_at(&server.url, &[args, &["--app", "blog"]].concat());
    assert_eq!(
        pic(&["users", "ls"]).stdout,
        format!(
            "\
LOGIN            STATE     ROLES   SINCE                 ID
eve@example.org  verified  editor  2026-01-01 00:00:00Z  {ID}
"
        )
    );
    for user in ["Eve@example.org", ID] {
        let shown = pic(&["users", "get", user]);
        assert!(shown.stdout.starts_with("login     eve@example.org\n"), "{shown:?}");
        assert!(shown.stdout.contains("profile   {\"name\":\"Eve") && !shown.stdout.contains('\u{1b}'));
    }
    assert_eq!(server.lines().iter().filter(|line| line.contains("login=")).count(), 1, "an id is no login");
}

#[test]
fn users_are_changed_logged_out_and_removed() {
    let path = format!("/apps/default/users/{ID}");
    let server = Server::default()
        .on(&format!("PATCH {path}"), 200, eve())
        .on(&format!("POST {path}:end-sessions"), 200, json!({ "count": 3 }))
        .on(&format!("DELETE {path}"), 204, json!(null))
        .start();
    let sandbox = Sandbox::new();
    for (args, said) in [
        (&["users", "set", ID, "--verified", "true", "--role", "a", "--role", "b"][..], "Changed"),
        (&["users", "set", ID, "--no-roles"], "Changed"),
        (&["users", "disable", ID], "may not log in"),
        (&["users", "enable", ID], "may log in again"),
        (&["users", "logout", ID], "there were 3"),
        (&["users", "rm", ID], "Removed"),
    ] {
        let ran = sandbox.pic_at(&server.url, args);
        assert!(ran.code == 0 && ran.stdout.contains(said), "{args:?} {ran:?}");
    }
    let sent: Vec<Value> = server.asked().into_iter().map(|asked| asked.body).collect();
    let expected = [
        json!({ "verified": true, "roles": ["a", "b"] }),
        json!({ "roles": [] }),
        json!({ "disabled": true }),
        json!({ "disabled": false }),
    ];
    assert_eq!(sent[..4], expected);
    assert_eq!(sandbox.pic_at(&server.url, &["users", "set", ID]).code, 2);
}

#[test]
fn a_user_who_is_not_there_is_the_servers_to_miss() {
    let missing = problem(404, "not_found", "There is nothing here", "the app has no such user");
    let server = Server::default()
        .on("GET /apps/default/users?login=nobody&limit=1", 200, page(&[]))
        .on("DELETE /apps/default/users/nobody", 404, missing)
        .start();
    let ran = Sandbox::new().pic_at(&server.url, &["users", "rm", "nobody"]);
    assert!(ran.code == 4 && ran.stderr.contains("the app has no such user"), "{ran:?}");
}
