//! The user PostgreSQL runs as: never root, because PostgreSQL refuses that, and so should we.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use nix::unistd::{Uid, User, getegid, geteuid};

/// Where programs are looked for. The environment itself is not handed down: it may hold the
/// master key, and PostgreSQL's user could read it from `/proc`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A user without privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    gid: u32,
    /// True when we are root and have to change to this user.
    is_other: bool,
}

impl Account {
    /// The owner of the cluster, if there is one already. Else this user, or, for root, `postgres`
    /// or `nobody`.
    pub(super) fn for_cluster(cluster: &Path) -> anyhow::Result<Self> {
        let me = geteuid();
        if let Ok(metadata) = std::fs::metadata(cluster) {
            let (uid, gid) = (metadata.uid(), metadata.gid());
            ensure!(
                me.is_root() || uid == me.as_raw(),
                "{} belongs to another user ({}): start picloud as that user or as root",
                cluster.display(),
                name_of(uid)
            );
            ensure!(uid != 0, "{} belongs to root, as whom PostgreSQL never runs", cluster.display());
            return Ok(Self { uid, gid, is_other: me.is_root() });
        }
        if !me.is_root() {
            return Ok(Self { uid: me.as_raw(), gid: getegid().as_raw(), is_other: false });
        }
        for name in ["postgres", "nobody"] {
            if let Some(user) = User::from_name(name)?.filter(|user| !user.uid.is_root()) {
                return Ok(Self { uid: user.uid.as_raw(), gid: user.gid.as_raw(), is_other: true });
            }
        }
        bail!("PostgreSQL must not run as root, and this machine has neither a user postgres nor nobody")
    }

    /// A command that runs as this user, with an empty environment, outside the terminal's
    /// process group: Ctrl-C is for PiCloud, which stops PostgreSQL when it has drained.
    pub(super) fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", PATH).env("LC_ALL", "C").current_dir("/");
        command.stdin(Stdio::null()).process_group(0);
        if self.is_other {
            // For root, setting the uid also drops every supplementary group.
            command.gid(self.gid).uid(self.uid);
        }
        command
    }

    /// Whether this user can reach what is in a directory. Asked of the kernel, which knows about
    /// access lists and mounts as well as about modes.
    pub(super) fn can_enter(self, dir: &Path) -> bool {
        let mut command = self.command(Path::new("/bin/sh"));
        command.args(["-c", "cd -- \"$1\"", "sh"]).arg(dir).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// Creates a directory that this user alone can use; one that exists must already be theirs.
    pub(super) fn private_dir(self, dir: &Path) -> anyhow::Result<()> {
        match DirBuilder::new().mode(0o700).create(dir) {
            Ok(()) => self.own(dir)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let metadata = std::fs::symlink_metadata(dir)?;
                ensure!(
                    metadata.is_dir() && metadata.uid() == self.uid,
                    "{} exists and is not a directory of the user {self}: remove it",
                    dir.display(),
                );
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot create {}", dir.display()));
            }
        }
        std::fs::set_permissions(dir, Permissions::from_mode(0o700))
            .with_context(|| format!("cannot set the mode of {}", dir.display()))
    }

    /// Gives a file of ours to this user.
    pub(super) fn own(self, path: &Path) -> anyhow::Result<()> {
        if self.is_other {
            chown(path, Some(self.uid), Some(self.gid))
                .with_context(|| format!("cannot give {} to the user {self}", path.display()))?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&name_of(self.uid))
    }
}

fn name_of(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}
