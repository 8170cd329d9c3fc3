use serde_json::json;

use crate::sandbox::Sandbox;
use crate::server::{Running, Server, problem};

fn server() -> Running {
    Server::default()
        .on(
            "POST /auth/login",
            200,
            json!({
                "token": "s3cret", "expires_at": "2026-12-01T00:00:00Z", "user": { "username": "ada" }
            }),
        )
        .on("GET /auth/me", 200, json!({ "id": "1", "username": "ada", "role": "owner" }))
        .on("POST /auth/logout", 204, json!(null))
        .start()
}

fn log_in(sandbox: &Sandbox, server: &Running) {
    let ran = sandbox.pic_with_input(
        &["login", "--url", &server.url, "--username", "ada", "--password-stdin"],
        "pass word\n",
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.stdout, format!("Logged in to {} as ada.\n", server.url));
}

#[test]
fn a_login_is_kept_for_the_next_command() {
    let (sandbox, server) = (Sandbox::new(), server());
    log_in(&sandbox, &server);
    assert_eq!(server.asked()[0].body, json!({ "username": "ada", "password": "pass word" }));
    assert_eq!(server.asked()[0].header("authorization"), None);

    let ran = sandbox.pic(&["whoami"]);
    assert_eq!((ran.code, ran.stdout), (0, format!("ada (owner) at {}\n", server.url)));
    assert_eq!(server.asked()[1].header("authorization"), Some("Bearer s3cret"));
}

#[cfg(unix)]
#[test]
fn only_the_user_can_read_the_login() {
    use std::os::unix::fs::PermissionsExt;

    let (sandbox, server) = (Sandbox::new(), server());
    let file = sandbox.credentials();
    let directory = file.parent().unwrap();
    std::fs::create_dir_all(directory).unwrap();
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
    log_in(&sandbox, &server);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(directory), 0o700);
}

#[test]
fn a_token_goes_to_no_other_server() {
    let (sandbox, server, other) = (Sandbox::new(), server(), self::server());
    log_in(&sandbox, &server);
    let ran = sandbox.pic(&["whoami", "--url", &other.url]);
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains(&format!("run `pic login --url {}`", other.url)), "{}", ran.stderr);
    assert!(other.asked().is_empty());
}

#[test]
fn the_environment_overrides_the_login() {
    let (sandbox, server, other) = (Sandbox::new(), server(), self::server());
    log_in(&sandbox, &server);
    assert_eq!(sandbox.pic_at(&other.url, &["whoami"]).code, 0);
    assert_eq!(other.asked()[0].header("authorization"), Some("Bearer t0ken"));
}

#[test]
fn a_logout_ends_the_session_and_forgets_it() {
    let (sandbox, server) = (Sandbox::new(), server());
    log_in(&sandbox, &server);
    let ran = sandbox.pic(&["logout"]);
    assert_eq!((ran.code, ran.stdout), (0, format!("Logged out of {}.\n", server.url)));
    assert_eq!(server.asked()[1].header("authorization"), Some("Bearer s3cret"));
    assert!(!std::fs::read_to_string(sandbox.credentials()).unwrap().contains("s3cret"));
    assert_eq!(sandbox.pic(&["whoami", "--url", &server.url]).code, 3);
}

#[test]
fn a_logout_forgets_even_when_the_server_does_not_answer() {
    let (sandbox, server) = (Sandbox::new(), server());
    log_in(&sandbox, &server);
    let file = std::fs::read_to_string(sandbox.credentials()).unwrap();
    // Nothing listens on port 1.
    std::fs::write(sandbox.credentials(), file.replace(&server.url, "http://127.0.0.1:1")).unwrap();
    let ran = sandbox.pic(&["logout"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("the server did not end it"), "{}", ran.stderr);
    assert!(!std::fs::read_to_string(sandbox.credentials()).unwrap().contains("s3cret"));
}

#[test]
fn a_refused_password_leaves_nothing_behind() {
    let refusal =
        problem(401, "unauthenticated", "A valid credential is needed", "wrong user name or password");
    let (sandbox, server) = (Sandbox::new(), Server::default().on("POST /auth/login", 401, refusal).start());
    let ran = sandbox.pic_with_input(&["login", "--url", &server.url, "-u", "ada", "--password-stdin"], "x");
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("wrong user name or password"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("pic login"), "{}", ran.stderr);
    assert!(!sandbox.credentials().exists());
}

#[test]
fn without_a_terminal_a_password_is_not_waited_for() {
    let (sandbox, server) = (Sandbox::new(), server());
    let ran = sandbox.pic(&["login", "--url", &server.url, "--username", "ada"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("--password-stdin"), "{}", ran.stderr);
    assert_eq!(sandbox.pic(&["login", "--url", &server.url, "--password-stdin"]).code, 2);
}

#[test]
fn a_damaged_file_is_named() {
    let (sandbox, server) = (Sandbox::new(), server());
    log_in(&sandbox, &server);
    std::fs::write(sandbox.credentials(), "current = [").unwrap();
    let ran = sandbox.pic(&["whoami"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("credentials.toml is damaged"), "{}", ran.stderr);
}
