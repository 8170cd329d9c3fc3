//! Where the server's Unix socket is: a private directory with a path short enough for a socket.

use std::path::{Path, PathBuf};

use anyhow::bail;
use nix::unistd::geteuid;
use sha2::{Digest, Sha256};

use super::account::Account;
use super::settings::PORT;

/// A socket's address has 108 bytes, the last of them zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Creates the socket's directory: beside the cluster, or, when that path is too long, under the
/// directory for run-time files.
pub(super) fn directory(account: Account, cluster: &Path) -> anyhow::Result<PathBuf> {
    let mut beside = cluster.as_os_str().to_owned();
    beside.push("-socket");
    let short = format!("picloud-{}", short_hash(cluster));
    let me = geteuid();
    let run = if me.is_root() { PathBuf::from("/run") } else { PathBuf::from(format!("/run/user/{me}")) };
    let candidates = [
        PathBuf::from(beside),
        run.join(&short),
        std::env::temp_dir().join(&short),
        Path::new("/tmp").join(&short),
    ];
    for dir in candidates {
        let is_usable = dir.parent().is_some_and(Path::is_dir)
            && dir.join(format!(".s.PGSQL.{PORT}")).as_os_str().len() <= SOCKET_PATH_BYTES_MAX;
        if is_usable && account.private_dir(&dir).is_ok() && account.can_enter(&dir) {
            return Ok(dir);
        }
    }
    bail!(
        "found no place for PostgreSQL's socket: the path of {} is too long, and /tmp is not usable",
        cluster.display()
    )
}

/// 16 hexadecimal digits that stand for a path.
pub(super) fn short_hash(path: &Path) -> String {
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
