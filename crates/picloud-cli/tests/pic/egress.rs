use serde_json::json;

use crate::sandbox::Sandbox;
use crate::server::Server;

#[test]
fn what_is_not_named_stays_and_what_is_takes_the_place_of_what_was() {
    let before = json!({ "allow": ["old.example.com"], "deny": ["bad.example.com"], "ports": [8000] });
    let server = Server::default()
        .on("GET /apps/shop/egress", 200, before.clone())
        .on("PUT /apps/shop/egress", 200, json!({ "allow": ["a.example.com"], "deny": [], "ports": [8000] }))
        .start();
    let pic = |args: &[&str]| {
        Sandbox::new().pic_at(&server.url, &[&["egress"][..], args, &["--app", "shop"]].concat())
    };
    let shown = pic(&["show"]);
    assert_eq!(
        shown.stdout,
        "allow  old.example.com\ndeny   bad.example.com\nports  80, 443, 8080, 8443, 8000\n"
    );
    for (args, sent) in [
        (
            &["set", "--allow", "a.example.com", "--allow", "*.example.org"][..],
            json!({ "allow": ["a.example.com", "*.example.org"], "deny": ["bad.example.com"], "ports": [8000] }),
        ),
        (&["set", "--allow-all", "--deny-none"], json!({ "allow": null, "deny": [], "ports": [8000] })),
        (
            &["set", "--allow-none", "--port", "81", "--port", "82"],
            json!({ "allow": [], "deny": ["bad.example.com"], "ports": [81, 82] }),
        ),
    ] {
        let ran = pic(args);
        assert!(ran.code == 0 && ran.stdout.contains("deny   no host by name"), "{ran:?}");
        assert_eq!(server.asked().last().unwrap().body, sent);
    }
    assert_eq!(pic(&["set"]).code, 2);
    assert_eq!(pic(&["set", "--allow", "a.example.com", "--allow-all"]).code, 2);
}

#[test]
fn destinations_are_listed_with_who_went_there_first() {
    let seen = json!({
        "destination": "api.example.com:443", "script": "pay", "first_seen_at": "2026-01-02T03:04:05.6Z"
    });
    let target = "GET /apps/default/egress/destinations?limit=200";
    let page = json!({ "items": [seen], "next_cursor": null });
    let server = Server::default().on(target, 200, page).start();
    assert_eq!(
        Sandbox::new().pic_at(&server.url, &["egress", "destinations"]).stdout,
        "DESTINATION          SINCE                 FIRST SCRIPT\napi.example.com:443  2026-01-02 03:04:05Z  pay\n"
    );
}

#[test]
fn destinations_that_the_list_has_no_room_for_are_told_below_it() {
    let passed_over = json!({
        "count": 7, "first_at": "2026-01-02T03:04:05Z", "last_at": "2026-01-02T03:04:06Z",
        "last_destination": "real.example.com:443", "last_script": "leak"
    });
    let target = "GET /apps/default/egress/destinations?limit=200";
    let page = json!({ "items": [], "next_cursor": null, "passed_over": passed_over });
    let server = Server::default().on(target, 200, page.clone()).start();
    let ran = Sandbox::new().pic_at(&server.url, &["egress", "destinations"]);
    let told = "7 more were passed over: the last was real.example.com:443, by leak, 2026-01-02 03:04:06Z.";
    assert!(ran.stderr.contains(told), "{ran:?}");
    let ran = Sandbox::new().pic_at(&server.url, &["egress", "destinations", "-o", "json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&ran.stdout).unwrap(), page);
}
