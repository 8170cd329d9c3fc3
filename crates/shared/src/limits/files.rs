//! Files that scripts keep.

/// A file.
pub const FILE_BYTES_MAX: u64 = 5 << 30;
/// Name of a file, as most file systems have it.
pub const FILE_NAME_BYTES_MAX: usize = 255;
/// All files of an app.
pub const FILES_BYTES_MAX: i64 = 20 << 30;
/// Files of one page.
pub const FILES_LIST_MAX: u32 = 1_000;
/// Contents that one execution sends in pieces at a time; all executions together: each has up to a megabyte
/// in memory; and those of one app, which leaves most of them to others.
pub const FILE_UPLOADS_MAX: usize = 4;
pub const FILES_UPLOADS_MAX: usize = 256;
pub const APP_UPLOADS_MAX: usize = FILES_UPLOADS_MAX / 4;
/// Time from a content's first byte to its last, in seconds: what has no file after a day is removed, and a content
/// has its file before that.
pub const FILE_UPLOAD_S_MAX: u64 = 20 * 60 * 60;
/// Longest time for which a link to a file is good: a week, in seconds.
pub const FILE_LINK_S_MAX: u32 = 7 * 24 * 60 * 60;
