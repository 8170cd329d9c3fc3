//! Objects of a directory that were not written to their end. Each is written beside its place, as `0#1` for `0`, and
//! renamed; when the process is killed before that, it stays, and nobody else lists or removes it.

use std::fs::{self, DirEntry};
use std::path::Path;
use std::time::SystemTime;

use uuid::Uuid;

/// Removes those that are older than this; answers how many.
pub(super) fn remove(directory: &Path, before: SystemTime) -> usize {
    // It may itself be a link, to another disk.
    let Ok(directory) = directory.canonicalize() else { return 0 };
    let blobs = entries(&directory).flat_map(|beginning| entries(&beginning.path()));
    // What is not ours stays as it is.
    let blobs =
        blobs.filter(|blob| blob.file_name().to_str().is_some_and(|name| Uuid::parse_str(name).is_ok()));
    blobs.map(|blob| remove_of(&blob.path(), before)).sum()
}

fn remove_of(blob: &Path, before: SystemTime) -> usize {
    let mut removed = 0;
    for entry in entries(blob).filter(|entry| entry.file_name().to_str().is_some_and(is_half)) {
        // Neither asks where a link leads.
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        if modified.is_ok_and(|modified| modified <= before) && fs::remove_file(entry.path()).is_ok() {
            removed += 1;
        }
    }
    if removed > 0 {
        // One that has something in it stays.
        let _ = fs::remove_dir(blob);
    }
    removed
}

/// What is in a folder; nothing where there is none. No link is followed.
fn entries(folder: &Path) -> impl Iterator<Item = DirEntry> + use<> {
    let is_folder = folder.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    let entries = is_folder.then(|| fs::read_dir(folder).ok()).flatten();
    entries.into_iter().flatten().filter_map(Result::ok)
}

fn is_half(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.split_once('#').is_some_and(|(chunk, attempt)| is_number(chunk) && is_number(attempt))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    #[test]
    fn what_was_not_written_to_its_end_is_removed_when_it_is_old_and_nothing_else_is() {
        let directory = tempfile::tempdir().unwrap();
        let before = SystemTime::UNIX_EPOCH + NOW;
        let plant = |name: &str, modified: SystemTime| {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            File::create(&path).unwrap().set_modified(modified).unwrap();
            path
        };
        let blob = |digit: &str| format!("aa/{}", digit.repeat(32));
        let half = plant(&format!("{}/0#1", blob("a")), before);
        let beside = plant(&format!("{}/12#3", blob("b")), before);
        let kept = [
            plant(&format!("{}/0", blob("b")), before),
            plant(&format!("{}/0#x", blob("b")), before),
            plant(&format!("{}/0#1", blob("c")), before + Duration::from_secs(1)),
            plant("aa/notes/0#1", before),
            plant("0#1", before),
        ];
        assert_eq!(remove(directory.path(), before), 2);
        assert!(!half.exists() && !half.parent().unwrap().exists() && !beside.exists());
        assert!(kept.iter().all(|path| path.exists()), "{kept:?}");
        assert_eq!(remove(&directory.path().join("none"), before), 0);
    }
}
