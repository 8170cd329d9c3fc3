//! Looks at a new worker from outside, before it gets any work. What a worker says of itself is
//! compared with what the kernel says of it; whoever lies is no worker of ours.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use shared::wire::process_limits::{Bound, PROCESS_LIMITS, ProcessLimit, address_bytes};
use shared::wire::worker::Layers;

use super::mode::Mode;

/// Standard input, output and error, and the socket.
const DESCRIPTORS: [&str; 4] = ["0", "1", "2", "3"];

/// The walls around a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isolation {
    /// What the worker says it has.
    pub claimed: Layers,
    /// What of it the kernel confirms. The rest cannot be seen from outside, or not by this user.
    pub confirmed: Layers,
}

impl Isolation {
    #[cfg(test)]
    pub(super) const NONE: Self = Self { claimed: Layers::NONE, confirmed: Layers::NONE };

    /// What two workers both have.
    pub(super) fn common(self, other: Self) -> Self {
        let both = |one: Layers, other: Layers| one.without(one.without(other));
        Self { claimed: both(self.claimed, other.claimed), confirmed: both(self.confirmed, other.confirmed) }
    }

    /// Which of these layers are not there. Of a user namespace and a user of its own one is enough: then neither is
    /// missing.
    pub fn lacking(self, needed: Layers) -> Layers {
        let missing = self.missing();
        missing.without(missing.without(needed))
    }

    /// Usual layers that are not there and that nothing makes up for. Of a user of its own and a user
    /// namespace one is enough, and who has no rights may not empty a bounding set.
    pub fn missing(self) -> Layers {
        let users = Layers::OWN_USER | Layers::USER_NAMESPACE;
        let has_one = users.without(self.claimed) != users;
        let made_up_for = Layers::EMPTY_BOUNDING_SET | if has_one { users } else { Layers::OWN_USER };
        Layers::USUAL.without(self.claimed).without(made_up_for)
    }
}

/// A worker that is not what it says, or not what it must be.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("it has no system-call filter")]
    Unfiltered,
    #[error("it says that it has {layer}, but {evidence}")]
    Untrue { layer: Layers, evidence: String },
    #[error("it holds the descriptor {0}")]
    Descriptor(String),
    #[error("it has {0} threads")]
    Threads(String),
}

/// Compares what a worker claims with `/proc`. `data_bytes` is the writable memory that its slots can need.
pub(super) fn verify(
    pid: u32,
    claimed: Layers,
    mode: Mode,
    data_bytes: u64,
) -> Result<Isolation, VerifyError> {
    if mode.has_walls() && !claimed.contains(Layers::SYSTEM_CALL_FILTER) {
        return Err(VerifyError::Unfiltered);
    }
    let process = Process { dir: PathBuf::from(format!("/proc/{pid}")), data_bytes };
    let Ok(status) = process.read("status") else {
        // Mounted so that users see only processes they may trace, and nobody may trace a worker.
        return Ok(Isolation { claimed, confirmed: Layers::NONE });
    };
    match field(&status, "Threads") {
        Some("1") => {}
        threads => return Err(VerifyError::Threads(threads.unwrap_or("no").to_owned())),
    }
    process.check_descriptors()?;
    let mut confirmed = Layers::NONE;
    for (layer, _) in Layers::NAMED.iter().filter(|(layer, _)| claimed.contains(*layer)) {
        match process.look(&status, *layer) {
            Seen::Confirmed => confirmed |= *layer,
            Seen::Hidden => {}
            Seen::Contradicted(evidence) => return Err(VerifyError::Untrue { layer: *layer, evidence }),
        }
    }
    Ok(Isolation { claimed, confirmed })
}

/// Ids of the groups that a process is in besides its user's own.
pub(super) fn groups(pid: u32) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    other_groups(&status)
}

fn other_groups(status: &str) -> Vec<u32> {
    let numbers = |name| field(status, name).unwrap_or_default().split_whitespace();
    let own = numbers("Gid").next();
    numbers("Groups").filter(|group| Some(*group) != own).filter_map(|group| group.parse().ok()).collect()
}

/// How soon the kernel ends a process for want of memory.
pub(super) fn out_of_memory_score(pid: u32) -> Option<i32> {
    fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).ok()?.trim().parse().ok()
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Confirmed,
    Contradicted(String),
    /// It leaves no trace in `/proc`, or not for this user.
    Hidden,
}

struct Process {
    dir: PathBuf,
    data_bytes: u64,
}

impl Process {
    fn read(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(self.dir.join(file))
    }

    fn look(&self, status: &str, layer: Layers) -> Seen {
        match layer {
            Layers::SYSTEM_CALL_FILTER => fs::read_to_string("/proc/self/status")
                .map_or(Seen::Hidden, |ours| compare_filters(status, &ours)),
            Layers::NO_NEW_PRIVILEGES => expect(status, "NoNewPrivs", |set| set == "1"),
            Layers::EMPTY_BOUNDING_SET => expect(status, "CapBnd", is_zero),
            Layers::NO_CAPABILITIES => ["CapInh", "CapPrm", "CapEff", "CapAmb"]
                .iter()
                .map(|set| expect(status, set, is_zero))
                .find(|seen| *seen != Seen::Confirmed)
                .unwrap_or(Seen::Confirmed),
            Layers::OWN_USER => self.own_user(status),
            Layers::NOT_DUMPABLE => self.not_dumpable(status),
            Layers::LIMITS => self.limits(),
            Layers::PROCESS_NAMESPACE => match expect(status, "NSpid", is_first) {
                Seen::Confirmed => self.namespace("pid").or(Seen::Confirmed),
                seen => seen,
            },
            Layers::EMPTY_ROOT => self.empty_root(),
            Layers::MOUNT_NAMESPACE => self.namespace("mnt"),
            Layers::NETWORK_NAMESPACE => self.namespace("net"),
            Layers::IPC_NAMESPACE => self.namespace("ipc"),
            Layers::UTS_NAMESPACE => self.namespace("uts"),
            Layers::CGROUP_NAMESPACE => self.namespace("cgroup"),
            Layers::USER_NAMESPACE => self.user_namespace(),
            Layers::NO_SPECULATION => ["Speculation_Store_Bypass", "SpeculationIndirectBranch"]
                .iter()
                .map(|control| expect(status, control, is_off_for_good))
                .find(|seen| *seen != Seen::Confirmed)
                .unwrap_or(Seen::Confirmed),
            _ => Seen::Hidden,
        }
    }

    /// Four numbers, none of them this process's: real, effective, saved, of files.
    fn own_user(&self, status: &str) -> Seen {
        let ours = fs::read_to_string("/proc/self/status");
        let Some(ours) = ours.ok().as_deref().and_then(|own| field(own, "Uid")).map(str::to_owned) else {
            return Seen::Hidden;
        };
        let is_shared =
            |uids: &str| uids.split_whitespace().any(|uid| ours.split_whitespace().any(|o| o == uid));
        expect(status, "Uid", |uids| !is_shared(uids))
    }

    /// The kernel gives the files about a process that is not dumpable to root.
    fn not_dumpable(&self, status: &str) -> Seen {
        let user = field(status, "Uid").and_then(|uids| uids.split_whitespace().next());
        match fs::metadata(self.dir.join("status")) {
            Ok(metadata) if user.is_some_and(|user| user != "0") => match metadata.uid() {
                0 => Seen::Confirmed,
                // In a user namespace that does not know root, such as a container's, this is root.
                nobody if nobody == overflow_uid() => Seen::Hidden,
                uid => Seen::Contradicted(format!("user {uid} owns its /proc files")),
            },
            _ => Seen::Hidden,
        }
    }

    fn limits(&self) -> Seen {
        self.read("limits").map_or(Seen::Hidden, |limits| compare_limits(&limits, self.data_bytes))
    }

    /// One mount, read-only, in memory.
    fn empty_root(&self) -> Seen {
        let Ok(mounts) = self.read("mountinfo") else {
            return Seen::Hidden;
        };
        let mut lines = mounts.lines();
        let (first, more) = (lines.next().unwrap_or_default(), lines.count());
        let fields: Vec<&str> = first.split(' ').collect();
        let is_root = fields.get(4) == Some(&"/");
        let is_read_only =
            fields.get(5).is_some_and(|options| options.split(',').any(|option| option == "ro"));
        if more == 0 && is_root && is_read_only && first.contains(" - tmpfs ") {
            return Seen::Confirmed;
        }
        Seen::Contradicted(format!("its mounts are {first:?} and {more} more"))
    }

    fn namespace(&self, kind: &str) -> Seen {
        let theirs = fs::read_link(self.dir.join("ns").join(kind));
        match (theirs, fs::read_link(format!("/proc/self/ns/{kind}"))) {
            (Ok(theirs), Ok(ours)) if theirs == ours => {
                Seen::Contradicted(format!("it shares {}", ours.display()))
            }
            (Ok(_), Ok(_)) => Seen::Confirmed,
            _ => Seen::Hidden,
        }
    }

    /// Seen by everybody: no id is mapped in it.
    fn user_namespace(&self) -> Seen {
        match self.read("uid_map") {
            Ok(map) if map.trim().is_empty() => self.namespace("user").or(Seen::Confirmed),
            Ok(map) => Seen::Contradicted(format!(
                "it maps {}",
                map.split_whitespace().collect::<Vec<_>>().join(" ")
            )),
            Err(_) => self.namespace("user"),
        }
    }

    fn check_descriptors(&self) -> Result<(), VerifyError> {
        let Ok(entries) = fs::read_dir(self.dir.join("fd")) else {
            return Ok(());
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if !DESCRIPTORS.iter().any(|known| name.as_os_str() == *known) {
                let target = fs::read_link(entry.path()).unwrap_or_default();
                return Err(VerifyError::Descriptor(format!("{} to {}", name.display(), target.display())));
            }
        }
        Ok(())
    }
}

impl Seen {
    /// This, unless nothing could be seen.
    fn or(self, other: Self) -> Self {
        if self == Self::Hidden { other } else { self }
    }
}

/// Whoever starts in a container, or as a service, has filters from there, and its workers inherit them: only one more
/// than this process has is theirs. Before Linux 5.9 nobody says how many there are.
fn compare_filters(status: &str, ours: &str) -> Seen {
    let seen = expect(status, "Seccomp", |mode| mode == "2");
    if seen != Seen::Confirmed || field(ours, "Seccomp") == Some("0") {
        return seen;
    }
    let count = |status: &str| field(status, "Seccomp_filters").and_then(|count| count.parse::<u32>().ok());
    match (count(status), count(ours)) {
        (Some(theirs), Some(own)) if theirs > own => Seen::Confirmed,
        (Some(theirs), Some(own)) => Seen::Contradicted(format!("it has {theirs} filters, its parent {own}")),
        _ => Seen::Hidden,
    }
}

/// All limits of the table.
fn compare_limits(limits: &str, data_bytes: u64) -> Seen {
    let line = |limit: ProcessLimit| limits.lines().find(|line| line.starts_with(limit.line()));
    let is_right = |limit: ProcessLimit, bound: Bound| {
        let mut values = line(limit)?[limit.line().len()..].split_whitespace();
        // "unlimited" is no number.
        let soft: u64 = values.next()?.parse().ok()?;
        let hard: u64 = values.next()?.parse().ok()?;
        // What only the soft limit forbids, a process may allow itself again.
        Some(match bound {
            Bound::Exactly(most) => (soft, hard) == (most, most),
            Bound::AtMost(most) => hard <= most,
            Bound::BySlots => (soft, hard) == (data_bytes, data_bytes),
            Bound::AddressesBySlots => hard <= address_bytes(data_bytes),
        })
    };
    let wrong = PROCESS_LIMITS.iter().find(|(limit, bound)| is_right(*limit, *bound) != Some(true));
    wrong.map_or(Seen::Confirmed, |(limit, _)| {
        Seen::Contradicted(match line(*limit) {
            Some(line) => line.split_whitespace().collect::<Vec<_>>().join(" "),
            None => format!("the kernel does not say its {:?}", limit.line()),
        })
    })
}

/// As whom users are shown who have no id in this namespace.
fn overflow_uid() -> u32 {
    /// The kernel's own default.
    const NOBODY: u32 = 65_534;
    let set = fs::read_to_string("/proc/sys/kernel/overflowuid");
    set.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(NOBODY)
}

fn expect(status: &str, name: &str, is_fine: impl Fn(&str) -> bool) -> Seen {
    match field(status, name) {
        Some(value) if is_fine(value) => Seen::Confirmed,
        // Kernels leave out what they were built without.
        None => Seen::Hidden,
        Some(value) => Seen::Contradicted(format!("{name} is {value}")),
    }
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

/// An id outside, and inside the first.
fn is_first(ids: &str) -> bool {
    let mut ids = ids.split_whitespace().rev();
    ids.next() == Some("1") && ids.next().is_some()
}

/// Switched off by the process, or nothing that could be on.
fn is_off_for_good(state: &str) -> bool {
    ["force", "not ", "always disabled", "globally mitigated", "unknown"]
        .iter()
        .any(|word| state.contains(word))
}

fn is_zero(set: &str) -> bool {
    set.bytes().all(|digit| digit == b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tpicloud\nUid:\t2000000042\t2000000042\t2000000042\t2000000042\nThreads:\t1\n\
                          CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
                          CapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t0\n";

    #[test]
    fn of_the_groups_the_users_own_is_no_other() {
        let status = "Gid:\t1000\t1000\t1000\t1000\nGroups:\t4 999 1000 \nNStgid:\t7\n";
        assert_eq!(other_groups(status), [4, 999]);
        assert_eq!(other_groups(STATUS), [0; 0]);
    }

    fn look(layer: Layers) -> Seen {
        look_at(STATUS, layer)
    }

    fn look_at(status: &str, layer: Layers) -> Seen {
        Process { dir: PathBuf::from("/proc/self"), data_bytes: DATA_BYTES }.look(status, layer)
    }

    #[test]
    fn what_the_status_confirms_is_confirmed() {
        assert_eq!(look(Layers::NO_CAPABILITIES), Seen::Confirmed);
        assert_eq!(look(Layers::NO_NEW_PRIVILEGES), Seen::Confirmed);
        assert_eq!(look(Layers::OWN_USER), Seen::Confirmed);
        assert!(is_first("4242\t1") && !is_first("4242") && !is_first("1") && !is_first("4242\t2"));
    }

    #[test]
    fn what_the_status_contradicts_is_said_with_its_value() {
        assert_eq!(look(Layers::SYSTEM_CALL_FILTER), Seen::Contradicted("Seccomp is 0".to_owned()));
        assert_eq!(
            look(Layers::EMPTY_BOUNDING_SET),
            Seen::Contradicted("CapBnd is 000001ffffffffff".to_owned())
        );
    }

    #[test]
    fn each_line_that_says_otherwise_contradicts_its_layer() {
        const RIGHT: &str = "0000000000000400";
        for (layer, line, value) in [
            (Layers::NO_CAPABILITIES, "CapInh", RIGHT),
            (Layers::NO_CAPABILITIES, "CapPrm", RIGHT),
            (Layers::NO_CAPABILITIES, "CapEff", RIGHT),
            (Layers::NO_CAPABILITIES, "CapAmb", RIGHT),
            (Layers::NO_NEW_PRIVILEGES, "NoNewPrivs", "0"),
            (Layers::NO_SPECULATION, "Speculation_Store_Bypass", "thread vulnerable"),
            (Layers::NO_SPECULATION, "Speculation_Store_Bypass", "thread mitigated"),
            (Layers::NO_SPECULATION, "SpeculationIndirectBranch", "conditional enabled"),
        ] {
            let honest = format!(
                "{STATUS}Speculation_Store_Bypass:\tthread force mitigated\n\
                 SpeculationIndirectBranch:\tconditional force disabled\n"
            );
            assert_eq!(look_at(&honest, layer), Seen::Confirmed, "{layer}");
            let said = format!("{line}:\t{value}");
            let lines =
                honest.lines().map(|other| if field(other, line).is_some() { said.as_str() } else { other });
            let lie = lines.collect::<Vec<_>>().join("\n");
            assert_eq!(look_at(&lie, layer), Seen::Contradicted(format!("{line} is {value}")), "{layer}");
        }
    }

    #[test]
    fn a_filter_that_was_inherited_is_no_filter_of_its_own() {
        let filtered = STATUS.replace("Seccomp:\t0", "Seccomp:\t2");
        let with = |filters: u32| format!("{filtered}Seccomp_filters:\t{filters}\n");
        let said = "it has 1 filters, its parent 1".to_owned();
        assert_eq!(compare_filters(&with(1), &with(1)), Seen::Contradicted(said));
        assert_eq!(compare_filters(&with(2), &with(1)), Seen::Confirmed);
        assert_eq!(compare_filters(&filtered, &filtered), Seen::Hidden, "nobody says how many");
        assert_eq!(compare_filters(&filtered, STATUS), Seen::Confirmed, "there is none to inherit");
        assert_eq!(compare_filters(STATUS, &with(1)), Seen::Contradicted("Seccomp is 0".to_owned()));
    }

    /// Files as the kernel would show them of a process that is dumpable.
    #[test]
    fn files_that_belong_to_the_process_itself_contradict_that_it_is_not_dumpable() {
        let dir = std::env::temp_dir().join(format!("picloud-verify-owner-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("status"), STATUS).unwrap();
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(dir.join("status"), Some(1), None).unwrap();
        }
        let owner = fs::metadata(dir.join("status")).unwrap().uid();
        let process = Process { dir: dir.clone(), data_bytes: DATA_BYTES };
        let said = format!("user {owner} owns its /proc files");
        assert_eq!(process.look(STATUS, Layers::NOT_DUMPABLE), Seen::Contradicted(said));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn one_wall_around_the_user_is_enough() {
        let missing = |claimed| Isolation { claimed, confirmed: Layers::NONE }.missing();
        assert_eq!(missing(Layers::ALL.without(Layers::OWN_USER)), Layers::NONE);
        assert_eq!(missing(Layers::ALL.without(Layers::USER_NAMESPACE)), Layers::NONE);
        let neither = Layers::ALL.without(Layers::OWN_USER | Layers::USER_NAMESPACE);
        assert_eq!(missing(neither), Layers::USER_NAMESPACE);
        assert_eq!(missing(Layers::ALL.without(Layers::LANDLOCK)), Layers::LANDLOCK);
    }

    const DATA_BYTES: u64 = 5 << 30;

    fn most(bound: Bound) -> u64 {
        match bound {
            Bound::Exactly(most) | Bound::AtMost(most) => most,
            Bound::BySlots => DATA_BYTES,
            Bound::AddressesBySlots => address_bytes(DATA_BYTES),
        }
    }

    /// As the kernel writes it, of a worker that has all limits but this one, of which there is another line.
    fn limits(but: ProcessLimit, line: &str) -> String {
        let others = PROCESS_LIMITS.iter().filter(|(limit, _)| *limit != but);
        let lines = others.map(|(limit, bound)| {
            let (name, most) = (limit.line(), most(*bound));
            format!("{name:<25} {most:<20} {most:<20} units     \n")
        });
        let unlimited = "Max cpu time              unlimited            unlimited            seconds   \n";
        lines.chain([unlimited.to_owned(), line.to_owned()]).collect()
    }

    #[test]
    fn each_limit_that_is_soft_alone_or_higher_or_not_there_is_found_out() {
        for (limit, bound) in PROCESS_LIMITS {
            let (name, most) = (limit.line(), most(*bound));
            let seen = |line: &str| compare_limits(&limits(*limit, line), DATA_BYTES);
            assert_eq!(seen(&format!("{name} {most} {most} units\n")), Seen::Confirmed);
            let (soft, without) = (format!("{most} {}", most + 1), format!("{most} unlimited"));
            for wrong in [soft.as_str(), without.as_str(), "unlimited unlimited"] {
                let line = format!("{name} {wrong} units");
                assert_eq!(seen(&line), Seen::Contradicted(line.clone()));
            }
            assert!(matches!(seen(""), Seen::Contradicted(said) if said.contains(name)));
            let higher = format!("{name} {0} {0} units", most + 1);
            assert_ne!(seen(&higher), Seen::Confirmed, "{higher}");
        }
    }

    #[test]
    fn a_parent_with_less_priority_to_give_is_no_fault_of_the_worker() {
        let nice = ProcessLimit::NicePriority;
        let lower = format!("{} 0 0\n", nice.line());
        assert_eq!(compare_limits(&limits(nice, &lower), DATA_BYTES), Seen::Confirmed);
    }

    /// Descriptors as the kernel would show them.
    #[test]
    fn a_descriptor_beside_the_four_is_named_with_what_it_leads_to() {
        let dir = std::env::temp_dir().join(format!("picloud-verify-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("fd")).unwrap();
        let open = |name: &str| std::os::unix::fs::symlink("/dev/null", dir.join("fd").join(name)).unwrap();
        DESCRIPTORS.iter().for_each(|name| open(name));
        let process = Process { dir: dir.clone(), data_bytes: DATA_BYTES };
        let honest = process.check_descriptors();
        assert!(honest.is_ok(), "{honest:?}");
        open("4");
        let seen = process.check_descriptors();
        assert!(matches!(&seen, Err(VerifyError::Descriptor(said)) if said == "4 to /dev/null"), "{seen:?}");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_process_that_only_claims_its_walls_is_found_out() {
        let pid = std::process::id();
        for mode in [Mode::Shared, Mode::Pinned, Mode::Strict] {
            assert!(matches!(verify(pid, Layers::NONE, mode, DATA_BYTES), Err(VerifyError::Unfiltered)));
        }
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let another = std::thread::spawn(move || ended.recv().is_err());
        let seen = verify(pid, Layers::SYSTEM_CALL_FILTER, Mode::Shared, DATA_BYTES);
        assert!(matches!(&seen, Err(VerifyError::Threads(count)) if count != "1"), "{seen:?}");
        drop(end);
        assert!(another.join().unwrap());
        // Nor has it an empty root, whatever it runs in.
        let us = Process { dir: PathBuf::from("/proc/self"), data_bytes: DATA_BYTES };
        assert!(matches!(us.look("", Layers::EMPTY_ROOT), Seen::Contradicted(_)));
        assert!(matches!(us.look("", Layers::LIMITS), Seen::Contradicted(_)));
        assert!(matches!(us.look("", Layers::NETWORK_NAMESPACE), Seen::Contradicted(_)));
    }
}
