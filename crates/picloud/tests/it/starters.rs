//! Who may start PiCloud: root, anybody, and anybody on a machine that lets nobody make namespaces. The
//! walls differ, `picloud doctor` says by what, and strict isolation does without none.

use std::os::unix::fs::chown;
use std::process::Command;
use std::sync::Arc;

use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::Value;

use crate::harness::{Disk, NO_LIMITS, TestServer, process};

const PICLOUD: &str = env!("CARGO_BIN_EXE_picloud");
/// Debian's and everybody else's `nobody`.
const NOBODY: u32 = 65_534;

/// In front of a command, for it to run as a plain user.
const AS_NOBODY: &[&str] = &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
/// The same where no further user namespace can be made, and so none of the other kinds: the one in which
/// the command runs uses up the last one.
const WITHOUT_NAMESPACES: &[&str] = &[
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--",
    "unshare",
    "--user",
    "--map-root-user",
    "--",
    "sh",
    "-c",
    "echo 1 > /proc/sys/user/max_user_namespaces && \
     exec unshare --user --map-user=65534 --map-group=65534 -- \"$@\"",
    "sh",
];

/// In a control group of its own on machines that give one, and nowhere else.
pub(crate) const STRICT: &[(&str, &str)] = &[("PICLOUD_ISOLATION", "strict")];

/// Walls that stand on namespaces.
const BY_NAMESPACES: [&str; 4] = ["file system", "network", "other processes", "namespaces"];
/// Walls that every user of a recent kernel can put up.
const BY_ANYBODY: [&str; 3] = ["system-call filter", "rights", "memory and core files"];

fn by(starter: &[&str], arguments: &[&str]) -> Command {
    let words: Vec<_> = starter.iter().copied().chain([PICLOUD]).chain(arguments.iter().copied()).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env_clear().current_dir("/");
    command
}

/// Whether this machine lets the tests be somebody else, and that somebody see the program.
fn can_be(starter: &[&str]) -> bool {
    let is_possible = geteuid().is_root()
        && by(starter, &["--version"]).output().is_ok_and(|output| output.status.success());
    if !is_possible {
        eprintln!("SKIPPED: this machine or this user cannot run {PICLOUD} by {starter:?}");
    }
    is_possible
}

pub(crate) struct Doctor {
    report: Value,
    text: String,
}

impl Doctor {
    pub(crate) fn asked(starter: &[&str], settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        chown(dir.path(), Some(NOBODY), None).ok();
        let ask = |arguments: &[&str]| {
            let mut command = by(starter, arguments);
            command.env("PICLOUD_DATA_DIR", dir.path()).envs(settings.iter().copied());
            String::from_utf8(command.output().unwrap().stdout).unwrap()
        };
        let (json, text) = (ask(&["doctor", "--json"]), ask(&["doctor"]));
        eprintln!("{text}");
        Self { report: serde_json::from_str(&json).unwrap(), text }
    }

    fn checks(&self) -> &[Value] {
        self.report["checks"].as_array().unwrap()
    }

    #[track_caller]
    fn check(&self, name: &str) -> &Value {
        let check = self.checks().iter().find(|check| check["name"] == name);
        check.unwrap_or_else(|| panic!("nothing is said of {name}"))
    }

    #[track_caller]
    pub(crate) fn verdict(&self, name: &str) -> &str {
        self.check(name)["verdict"].as_str().unwrap()
    }

    #[track_caller]
    pub(crate) fn found(&self, name: &str) -> &str {
        self.check(name)["found"].as_str().unwrap()
    }

    /// Whatever is not as it should be comes with what would help, in both forms.
    #[track_caller]
    fn is_complete(&self) {
        for name in
            ["kernel", "architecture", "page size", "addresses", "isolation", "worker", "slots", "user"]
                .iter()
                .chain(&BY_NAMESPACES)
                .chain(&BY_ANYBODY)
                .chain(&["Landlock", "no new code", "sealed code", "side channels", "side channels (strict)"])
                .chain(&["judged", "control groups", "PostgreSQL", "row security", "clock", "disk"])
        {
            self.verdict(name);
            assert!(self.text.contains(name), "{name} is not in:\n{}", self.text);
        }
        for check in self.checks() {
            let is_bad = matches!(check["verdict"].as_str(), Some("degraded" | "fails"));
            assert!(!is_bad || check["advice"].is_string(), "no advice: {check}");
        }
    }
}

#[test]
fn the_doctor_knows_every_wall_whoever_asks() {
    let everybody = Doctor::asked(&["env"], &[]);
    everybody.is_complete();
    for name in BY_ANYBODY {
        assert_eq!(everybody.verdict(name), "holds", "{name}");
    }
}

/// A service has a control group of its own, whatever the one is like in which somebody asks the doctor.
#[test]
fn the_doctor_of_a_shell_says_whom_it_judges_and_fails_nothing_for_the_shells_control_group() {
    for settings in [&[][..], STRICT] {
        let shell = Doctor::asked(&["env"], settings);
        assert!(shell.found("judged").contains("GET /api/v1/admin/system/isolation"), "{}", shell.text);
        match shell.verdict("control groups") {
            "note" => {
                let advice = shell.check("control groups")["advice"].as_str().unwrap();
                assert!(advice.contains("GET /api/v1/admin/system/isolation"), "{advice}");
            }
            // This group can be divided up, or no group of this machine can.
            "holds" => {}
            verdict => {
                let expected = if settings.is_empty() { "degraded" } else { "fails" };
                let is_machines = shell.found("control groups").starts_with("this machine has no");
                assert!(verdict == expected && is_machines, "{}", shell.text);
            }
        }
        let everything = shell.text.contains("Everything that PiCloud can put");
        assert_eq!(everything, shell.report["verdict"] == "holds", "{}", shell.text);
    }
}

/// Whichever of them this machine gives a worker: `strict` starts without them, so nothing else says it.
#[test]
fn the_doctor_says_of_strict_isolation_whether_its_two_layers_hold() {
    let name = "side channels (strict)";
    let strict = Doctor::asked(&["env"], STRICT);
    strict.is_complete();
    let found = strict.found(name);
    for layer in ["own-core", "no-speculation"] {
        let said = [format!("{layer} holds: "), format!("without {layer}: ")];
        assert!(said.iter().any(|words| found.contains(words)), "{layer} is not in: {found}");
        assert!(strict.text.contains(layer), "{}", strict.text);
    }
    assert_eq!(strict.verdict(name) == "holds", !found.contains("without"), "{found}");
    let pinned = Doctor::asked(&["env"], &[]);
    assert!(pinned.found(name).contains("in strict isolation alone"), "{}", pinned.found(name));
    assert_eq!(pinned.verdict(name), "note");
}

#[test]
fn the_doctor_asks_a_database_of_ones_own_whether_it_keeps_apps_apart() {
    let server = TestServer::shared();
    let doctor = Doctor::asked(&["env"], &[("DATABASE_URL", &server.disk.database_url())]);
    doctor.is_complete();
    assert_eq!(doctor.verdict("row security"), "holds");
}

#[test]
fn a_plain_user_has_namespaces_by_way_of_one_of_users() {
    if !can_be(AS_NOBODY) {
        return;
    }
    let nobody = Doctor::asked(AS_NOBODY, &[]);
    nobody.is_complete();
    for name in BY_NAMESPACES.iter().chain(&BY_ANYBODY).chain(&["user"]) {
        assert_eq!(nobody.verdict(name), "holds", "{name}");
    }
}

#[test]
fn without_user_namespaces_a_plain_user_is_told_what_is_missing_and_how_to_get_it() {
    if !can_be(WITHOUT_NAMESPACES) {
        return;
    }
    let nobody = Doctor::asked(WITHOUT_NAMESPACES, &[]);
    nobody.is_complete();
    for name in BY_NAMESPACES.iter().chain(&["user"]) {
        assert_eq!(nobody.verdict(name), "degraded", "{name}");
    }
    for name in BY_ANYBODY {
        assert_eq!(nobody.verdict(name), "holds", "{name}");
    }
    assert!(nobody.text.contains("user.max_user_namespaces"), "{}", nobody.text);
    let strict = Doctor::asked(WITHOUT_NAMESPACES, STRICT);
    assert_eq!((strict.verdict("isolation"), strict.report["verdict"].as_str()), ("fails", Some("fails")));
    let groups = (nobody.verdict("control groups"), strict.verdict("control groups"));
    assert!([("note", "note"), ("degraded", "fails"), ("holds", "holds")].contains(&groups), "{groups:?}");
}

/// Starts a server with a private database, as there is no other that a plain user may use here.
fn serve(starter: &[&str], settings: &[(&str, &str)]) -> Result<TestServer, String> {
    let disk = Arc::new(Disk::new());
    chown(disk.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut command = by(starter, &["serve"]);
    command.envs(settings.iter().copied());
    TestServer::try_launch(command, Arc::clone(&disk))
        .map_err(|status| format!("{status}: {}", std::fs::read_to_string(disk.path().join("log")).unwrap()))
}

#[test]
fn a_server_of_a_plain_user_without_namespaces_serves_and_says_what_it_lacks() {
    if !can_be(WITHOUT_NAMESPACES) {
        return;
    }
    let mut server = serve(WITHOUT_NAMESPACES, &[]).unwrap();
    let app = server.app();
    app.run("hello", "40 + 2", &NO_LIMITS).is(200);
    let isolation = server.admin("GET", "/system/isolation", &Value::Null).is(200).json();
    let missing = isolation["missing"].to_string();
    for wall in ["empty-root", "network-namespace", "process-namespace", "user-namespace"] {
        assert!(missing.contains(wall), "{missing}");
    }
    assert!(isolation["layers"].to_string().contains("system-call-filter"));
    assert!(server.log().contains("without process-namespace"), "{}", server.log());
    server.signal(Signal::SIGTERM);
    assert!(server.wait().success());
}

#[test]
fn a_server_of_a_plain_user_puts_its_workers_into_namespaces() {
    if !can_be(AS_NOBODY) {
        return;
    }
    let server = serve(AS_NOBODY, &[]).unwrap();
    let isolation = server.admin("GET", "/system/isolation", &Value::Null).is(200).json();
    assert_eq!(isolation["missing"], Value::Array(Vec::new()), "{isolation}");
    let wall = isolation["checks"].as_array().unwrap().iter().find(|check| check["name"] == "row security");
    assert_eq!(wall.unwrap()["verdict"], "holds", "the private database is asked: {isolation}");
    let app = server.app();
    app.run("hello", "40 + 2", &NO_LIMITS).is(200);
    assert!(process::workers(server.pid()).iter().any(|pid| process::is_filtered(*pid)));
}

#[test]
fn strict_isolation_refuses_to_start_where_it_cannot_isolate() {
    if !can_be(WITHOUT_NAMESPACES) {
        return;
    }
    let refused = serve(WITHOUT_NAMESPACES, STRICT).err().unwrap();
    assert!(
        refused.contains("PICLOUD_ISOLATION=strict does not start here") && refused.contains("empty-root"),
        "{refused}"
    );
}

#[test]
fn strict_isolation_starts_with_control_groups_and_refuses_without_naming_the_mend() {
    if !can_be(AS_NOBODY) {
        return;
    }
    let doctor = Doctor::asked(AS_NOBODY, STRICT);
    match (serve(AS_NOBODY, STRICT), doctor.verdict("control groups")) {
        (Ok(server), "holds") => {
            for worker in server.workers() {
                let group = std::fs::read_to_string(format!("/proc/{worker}/cgroup")).unwrap();
                assert!(group.contains(&format!("/workers/{worker}\n")), "{group}");
            }
        }
        (Err(refused), "note" | "fails") => {
            let wanted = ["strict does not start here", "control group", "Delegate=memory pids cpu"];
            assert!(wanted.into_iter().all(|words| refused.contains(words)), "{refused}");
        }
        (started, verdict) => panic!("the doctor says {verdict}, but it started: {}", started.is_ok()),
    }
}
