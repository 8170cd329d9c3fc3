//! How large an app is: whole as a manifest, or made piece by piece. What is larger than a manifest could neither be
//! exported nor planned.

use super::BUNDLE_BYTES_MAX;

/// A whole app as one manifest, as JSON with its sources: a hundred ordinary scripts fit many times, and it is in memory.
pub const MANIFEST_BYTES_MAX: usize = 16 << 20;
/// Scripts of a manifest: each is compiled, at about 10 ms.
pub const MANIFEST_SCRIPTS_MAX: usize = 1_000;
/// Routes of a manifest.
pub const MANIFEST_ROUTES_MAX: usize = 10_000;

/// Scripts of an app.
pub const SCRIPTS_MAX: usize = MANIFEST_SCRIPTS_MAX;
/// The sources of an app's scripts together, as they are live: they are in memory together when the app is exported,
/// planned or applied.
pub const SOURCES_BYTES_MAX: usize = MANIFEST_BYTES_MAX;
/// Routes of an app: each is in memory, and read again when any route of any app changes.
pub const ROUTES_MAX: usize = MANIFEST_ROUTES_MAX;

/// Versions that are kept of a script, the newest: far more than anybody goes back.
pub const VERSIONS_MAX: u32 = 100;
/// What the code of all versions of an app takes, each with its modules, as the database stores it: the disk is
/// everybody's. Equal code is there once.
pub const VERSIONS_BYTES_MAX: i64 = 1 << 30;
/// What each counts at least: to count many small ones is work as well.
pub const VERSION_BYTES_MIN: i64 = 32 << 10;

// One script with all its modules has room, live and while it is replaced.
const _: () =
    assert!(BUNDLE_BYTES_MAX < SOURCES_BYTES_MAX && 2 * BUNDLE_BYTES_MAX as i64 <= VERSIONS_BYTES_MAX);
