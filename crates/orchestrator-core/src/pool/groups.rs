//! Control groups: where the machine has given PiCloud one of its own (version 2, delegated), each worker gets
//! a group below it, whose limits the kernel holds it to whatever the worker does to itself. Elsewhere its own
//! limits, step 13 of the jail, are all there is; the doctor says so.
//!
//! ```text
//! the group that was given     no process: only such a group may limit those below it
//! ├─ supervisor                this process and the private PostgreSQL
//! └─ workers
//!    ├─ 4711                   one worker, by its process id
//!    └─ …
//! ```

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

/// Where the parent stays. systemd puts it there by itself with `DelegateSubgroup=supervisor`.
const SUPERVISOR: &str = "supervisor";
const WORKERS: &str = "workers";
/// What of the kernel's controllers is used where it is given: memory and processes for limits, CPU because
/// workers that are groups of their own get equal shares of it.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];
/// The worker itself. One process has one thread here, and the kernel counts threads.
const TASKS_MAX: &str = "1";

/// Why workers get no groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ungrouped {
    #[error("this machine has no control groups of version 2")]
    None,
    #[error("PiCloud is in no control group of its own")]
    Root,
    #[error("this user may not make control groups below the one that PiCloud is in")]
    NotDelegated,
    #[error("other programs are in the same control group as PiCloud")]
    Crowded,
    #[error("the control group of PiCloud is given no controller of memory and processes")]
    NoControllers,
    #[error("the kernel refuses to divide up the control group of PiCloud; the log says why")]
    Refused,
    #[error("a worker is in no control group of its own, as the log says")]
    Outside,
    #[error("nobody asked for them")]
    Unwanted,
}

/// Which of the kernel's controllers limit a worker by its group, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controllers(Vec<&'static str>);

impl Controllers {
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains(&name)
    }
}

impl FromIterator<&'static str> for Controllers {
    fn from_iter<I: IntoIterator<Item = &'static str>>(names: I) -> Self {
        Self(names.into_iter().collect())
    }
}

impl fmt::Display for Controllers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// A group that PiCloud may divide up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegated {
    base: PathBuf,
    /// Those of the controllers in use that it was given.
    pub controllers: Controllers,
}

impl Delegated {
    /// Looks, and changes nothing.
    pub fn look() -> Result<Self, Ungrouped> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let root = mount_point(&mounts).ok_or(Ungrouped::None)?;
        let path = own.lines().find_map(|line| line.strip_prefix("0::")).ok_or(Ungrouped::None)?;
        Self::at(&root, path, &is_ours)
    }

    fn at(root: &Path, own: &str, is_ours: &dyn Fn(u32) -> bool) -> Result<Self, Ungrouped> {
        let own = root.join(own.trim_start_matches('/'));
        let base = match own.file_name() {
            Some(name) if name == SUPERVISOR => own.parent().unwrap_or(root).to_owned(),
            _ => own,
        };
        // The topmost group of the machine has no kind. One of a container has, and looks like the topmost.
        if !base.join("cgroup.type").exists() {
            return Err(Ungrouped::Root);
        }
        let may_write = |file: &str| access(&base.join(file), AccessFlags::W_OK).is_ok();
        if !["", "cgroup.procs", "cgroup.subtree_control"].into_iter().all(may_write) {
            return Err(Ungrouped::NotDelegated);
        }
        if !members(&base).into_iter().all(is_ours) {
            return Err(Ungrouped::Crowded);
        }
        let given = fs::read_to_string(base.join("cgroup.controllers")).unwrap_or_default();
        let is_given = |name: &&str| given.split_whitespace().any(|given| given == *name);
        let controllers: Controllers = CONTROLLERS.into_iter().filter(is_given).collect();
        if controllers.0.is_empty() {
            return Err(Ungrouped::NoControllers);
        }
        Ok(Self { base, controllers })
    }
}

/// The group above the workers'.
#[derive(Debug)]
pub(super) struct Groups {
    dir: PathBuf,
    controllers: Controllers,
    memory_bytes: u64,
}

impl Groups {
    /// Moves this process, and those it has started so far, out of the way, and makes the group of groups.
    pub(super) fn make(delegated: Delegated, memory_bytes: u64) -> io::Result<Self> {
        let Delegated { base, mut controllers } = delegated;
        let supervisor = base.join(SUPERVISOR);
        make_dir(&supervisor)?;
        for pid in members(&base) {
            fs::write(supervisor.join("cgroup.procs"), pid.to_string())?;
        }
        let dir = base.join(WORKERS);
        make_dir(&dir)?;
        // One by one: a controller that is refused must not cost the others.
        controllers.0.retain(|name| {
            let enable = |group: &Path| fs::write(group.join("cgroup.subtree_control"), format!("+{name}"));
            enable(&base).and_then(|()| enable(&dir)).is_ok()
        });
        // Of three quarters of the machine, where one worker has half: PostgreSQL and this process are never without.
        let all_bytes = (memory_bytes / 2).saturating_mul(3).to_string();
        limit(&dir, &controllers, &[("memory", "memory.max", &all_bytes)])?;
        let groups = Self { dir, controllers, memory_bytes };
        groups.clear();
        Ok(groups)
    }

    pub(super) const fn controllers(&self) -> &Controllers {
        &self.controllers
    }

    /// Puts a worker, which has done nothing yet, into a group of its own.
    pub(super) fn add(&self, pid: u32) -> io::Result<Group> {
        let group = Group { dir: self.dir.join(pid.to_string()), oom_before: oom_of_all(&self.dir) };
        make_dir(&group.dir)?;
        let memory = self.memory_bytes.to_string();
        let limits = [
            ("memory", "memory.max", memory.as_str()),
            // What a worker holds is never written to disk.
            ("memory", "memory.swap.max", "0"),
            ("memory", "memory.oom.group", "1"),
            ("pids", "pids.max", TASKS_MAX),
        ];
        limit(&group.dir, &self.controllers, &limits)?;
        fs::write(group.dir.join("cgroup.procs"), pid.to_string())?;
        Ok(group)
    }

    /// Removes what workers of an earlier process left behind; a group that has processes stays.
    fn clear(&self) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// One worker's group; gone when it is dropped after its process has been waited for.
#[derive(Debug)]
pub(super) struct Group {
    dir: PathBuf,
    /// How often all workers together had no memory left before it was made.
    oom_before: u64,
}

impl Group {
    /// Whether the kernel says that the process is in it.
    pub(super) fn holds(&self, pid: u32) -> bool {
        members(&self.dir).contains(&pid)
    }

    /// Whether the kernel has killed its process because it, or all workers together, had no memory left. The kernel
    /// counts whom it kills when the whole machine has none left as well, which may be anybody's doing.
    pub(super) fn was_out_of_memory(&self) -> bool {
        let events = self.dir.join("memory.events");
        let were_all = || self.dir.parent().is_some_and(|all| oom_of_all(all) > self.oom_before);
        events_of(&events, "oom_kill") > 0 && (events_of(&events, "oom") > 0 || were_all())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.dir) {
            tracing::debug!(%error, "a worker's control group is left behind: {}", self.dir.display());
        }
    }
}

/// Sets limits of a group, each by its controller, file and value, as far as controllers are given.
fn limit(group: &Path, given: &Controllers, limits: &[(&str, &str, &str)]) -> io::Result<()> {
    for (controller, file, value) in limits {
        let path = group.join(file);
        // Kernels without swap have no limit of it.
        if given.contains(controller) && path.exists() {
            fs::write(path, value)?;
        }
    }
    Ok(())
}

fn make_dir(dir: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o755).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// How often the group above the workers' came to its own limit.
fn oom_of_all(group: &Path) -> u64 {
    events_of(&group.join("memory.events.local"), "oom")
}

/// How often something has happened to a group's memory; never where the kernel does not count it.
fn events_of(file: &Path, name: &str) -> u64 {
    let events = fs::read_to_string(file).unwrap_or_default();
    let count = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<u64>().ok();
    events.lines().find_map(count).unwrap_or(0)
}

fn members(group: &Path) -> Vec<u32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Where the unified hierarchy is mounted.
fn mount_point(mountinfo: &str) -> Option<PathBuf> {
    let mount = mountinfo.lines().find(|line| line.contains(" - cgroup2 "))?;
    mount.split(' ').nth(4).map(PathBuf::from)
}

/// This process, or one that it has started, or one of those.
fn is_ours(pid: u32) -> bool {
    let (own, mut pid) = (std::process::id(), pid);
    // Deeper than anything PiCloud starts.
    for _ in 0..8 {
        if pid == own {
            return true;
        }
        let Some(parent) = parent_of(pid) else { return false };
        pid = parent;
    }
    false
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before the last bracket may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    /// Files as the kernel would show them; that it acts on them can be tried only where it gives a group.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("picloud-groups-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&root);
            let tree = Self(root);
            tree.group("unit", "cpu memory pids io");
            tree
        }

        fn group(&self, path: &str, controllers: &str) {
            let dir = self.0.join(path);
            fs::create_dir_all(&dir).unwrap();
            for (file, text) in [
                ("cgroup.type", "domain\n"),
                ("cgroup.procs", ""),
                ("cgroup.subtree_control", ""),
                ("cgroup.controllers", controllers),
            ] {
                fs::write(dir.join(file), text).unwrap();
            }
        }

        fn read(&self, path: &str) -> String {
            fs::read_to_string(self.0.join(path)).unwrap_or_default()
        }

        fn look(&self, own: &str) -> Result<Delegated, Ungrouped> {
            Delegated::at(&self.0, own, &|pid| pid < 100)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_group_that_is_ours_alone_is_divided_up() {
        let tree = Tree::new("divided");
        fs::write(tree.0.join("unit/cgroup.procs"), "7\n8\n").unwrap();
        let delegated = tree.look("/unit").unwrap();
        assert_eq!(delegated.controllers.to_string(), "memory, pids, cpu");
        let workers = tree.0.join("unit/workers");
        fs::create_dir(&workers).unwrap();
        fs::write(workers.join("memory.max"), "max").unwrap();
        let groups = Groups::make(delegated, 1 << 30).unwrap();
        assert_eq!(tree.read("unit/workers/memory.max"), "1610612736", "half as much again for all of them");
        assert_eq!(tree.read("unit/supervisor/cgroup.procs"), "8", "each was written, the last one last");
        assert_eq!(tree.read("unit/workers/cgroup.subtree_control"), "+cpu");
        let dir = tree.0.join("unit/workers/4711");
        fs::create_dir(&dir).unwrap();
        for file in ["memory.max", "memory.swap.max", "memory.oom.group", "pids.max"] {
            fs::write(dir.join(file), "max").unwrap();
        }
        let all = workers.join("memory.events.local");
        fs::write(&all, "low 0\nhigh 0\nmax 9\noom 3\noom_kill 3\n").unwrap();
        let group = groups.add(4711).unwrap();
        assert!(group.holds(4711) && !group.holds(4712));
        let limits = ["memory.max", "memory.swap.max", "memory.oom.group", "pids.max"]
            .map(|file| tree.read(&format!("unit/workers/4711/{file}")));
        assert_eq!(limits, ["1073741824", "0", "1", "1"]);
        let was_out_of_memory = |oom: u32, kills: u32| {
            let events =
                format!("low 0\nhigh 0\nmax 9\noom {oom}\noom_kill {kills}\noom_group_kill {kills}\n");
            fs::write(dir.join("memory.events"), events).unwrap();
            group.was_out_of_memory()
        };
        assert!(!was_out_of_memory(1, 0) && was_out_of_memory(1, 1));
        assert!(!was_out_of_memory(0, 1), "the whole machine had none left");
        fs::write(&all, "low 0\nhigh 0\nmax 9\noom 4\noom_kill 4\n").unwrap();
        assert!(was_out_of_memory(0, 1), "all workers together had none left");
    }

    #[test]
    fn a_worker_that_the_kernel_does_not_take_in_is_in_no_group() {
        let tree = Tree::new("refused");
        let groups = Groups::make(tree.look("/unit").unwrap(), 1 << 30).unwrap();
        // As one that says it was, but where the process is not.
        let group = groups.add(4711).unwrap();
        fs::write(tree.0.join("unit/workers/4711/cgroup.procs"), "").unwrap();
        assert!(!group.holds(4711));
        fs::remove_dir_all(tree.0.join("unit/workers")).unwrap();
        assert!(groups.add(4712).is_err());
    }

    #[test]
    fn a_supervisor_that_was_put_aside_already_stays_there() {
        let tree = Tree::new("aside");
        tree.group("unit/supervisor", "");
        let delegated = tree.look("/unit/supervisor").unwrap();
        assert_eq!(delegated, tree.look("/unit").unwrap());
    }

    #[test]
    fn what_is_not_ours_to_divide_is_left_alone_and_said() {
        let tree = Tree::new("foreign");
        fs::write(tree.0.join("unit/cgroup.procs"), "7\n4000\n").unwrap();
        assert_eq!(tree.look("/unit"), Err(Ungrouped::Crowded));
        assert_eq!(tree.look("/"), Err(Ungrouped::Root));
        assert_eq!(tree.look("/gone"), Err(Ungrouped::Root));
        tree.group("bare", "io cpuset");
        assert_eq!(tree.look("/bare"), Err(Ungrouped::NoControllers));
        fs::remove_file(tree.0.join("bare/cgroup.procs")).unwrap();
        assert_eq!(tree.look("/bare"), Err(Ungrouped::NotDelegated));
    }

    /// Without controllers, which a machine that has control groups of version 1 gives to those.
    #[test]
    fn a_worker_is_in_its_group_until_it_ends_and_then_the_group_is_gone() {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let base = mount_point(&mounts).map(|root| root.join(format!("picloud-test-{}", std::process::id())));
        let Some(base) = base.filter(|base| fs::create_dir(base).is_ok()) else {
            eprintln!("SKIPPED: this user may make no control group here");
            return;
        };
        let groups =
            Groups::make(Delegated { base: base.clone(), controllers: Controllers(Vec::new()) }, 1 << 30)
                .unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let group = groups.add(child.id()).unwrap();
        let dir = base.join(WORKERS).join(child.id().to_string());
        assert!(group.holds(child.id()) && dir.exists());
        child.kill().unwrap();
        child.wait().unwrap();
        drop(group);
        assert!(!dir.exists());
        for dir in [base.join(WORKERS), base.join(SUPERVISOR), base] {
            fs::remove_dir(dir).unwrap();
        }
    }

    /// A shell in a group of its own that does what it is told only once it is there: how it ended, and whether for want
    /// of memory.
    fn told(groups: &Groups, words: &str) -> (std::process::ExitStatus, bool) {
        let script = format!("read -r go && {words}");
        let mut shell = std::process::Command::new("sh")
            .args(["-c", &script])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let group = groups.add(shell.id()).unwrap();
        assert!(group.holds(shell.id()));
        shell.stdin.take().unwrap().write_all(b"go\n").unwrap();
        (shell.wait().unwrap(), group.was_out_of_memory())
    }

    /// Needs a group for this process alone, as docs/operation.md says how to make one.
    #[test]
    fn attack_50_who_takes_more_than_the_group_may_have_is_killed_alone_and_makes_no_other_process() {
        let delegated = Delegated::look().ok();
        let is_given = |delegated: &Delegated| {
            ["memory", "pids"].into_iter().all(|name| delegated.controllers.contains(name))
        };
        let Some(delegated) = delegated.filter(is_given) else {
            eprintln!("SKIPPED: this machine gives no control group of memory and processes");
            return;
        };
        let groups = Groups::make(delegated, 64 << 20).unwrap();
        let copy = |size: &str| format!("exec dd if=/dev/zero of=/dev/null count=1 bs={size}");
        let (fits, was_out_of_memory) = told(&groups, &copy("16777216"));
        assert!(fits.success() && !was_out_of_memory);
        let (killed, was_out_of_memory) = told(&groups, &copy("268435456"));
        assert_eq!((killed.signal(), was_out_of_memory), (Some(9), true), "256 MiB in a group of 64");
        assert!(!told(&groups, "(exit 0) && true").0.success(), "a second process in a group of one");
    }

    #[test]
    fn the_unified_hierarchy_is_found_among_others() {
        let mounts = "30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      31 25 0:27 / /sys/fs/cgroup/unified rw,relatime shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(mounts), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mount_point("30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"), None);
        assert!(is_ours(std::process::id()) && !is_ours(1));
    }
}
