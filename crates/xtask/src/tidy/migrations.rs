//! A migration never changes once it is committed: databases that have run it would not notice.

use std::path::Path;
use std::process::Command;

use super::Violation;

const DIRECTORY: &str = "migrations";

/// Compares every migration that was ever committed with its first version, and checks names.
pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Violation>> {
    let mut violations = Vec::new();
    for entry in std::fs::read_dir(root.join(DIRECTORY)).into_iter().flatten() {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".sql") && !has_valid_name(&name) {
            let advice = "name it YYYYMMDDHHMMSS_verb_noun.sql";
            violations.push(Violation::new(&format!("{DIRECTORY}/{name}"), 1, "migration", advice));
        }
    }
    for (path, commit) in committed(root) {
        let Some(first) = git(root, &["show", &format!("{commit}:{path}")]) else { continue };
        let now = std::fs::read(root.join(&path)).ok();
        violations.extend(compare(&path, &first, now.as_deref()));
    }
    Ok(violations)
}

fn has_valid_name(name: &str) -> bool {
    let Some((time, rest)) = name.strip_suffix(".sql").and_then(|stem| stem.split_once('_')) else {
        return false;
    };
    time.len() == 14
        && time.bytes().all(|byte| byte.is_ascii_digit())
        && rest.contains('_')
        && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn compare(path: &str, first: &[u8], now: Option<&[u8]>) -> Option<Violation> {
    let Some(now) = now else {
        return Some(Violation::new(path, 1, "migration", "a committed migration was removed: put it back"));
    };
    if now == first {
        return None;
    }
    let same =
        first.split(|byte| *byte == b'\n').zip(now.split(|byte| *byte == b'\n')).take_while(|(a, b)| a == b);
    let advice = "a committed migration was changed: put it back, and write another one";
    Some(Violation::new(path, same.count() + 1, "migration", advice))
}

/// The migrations in the history, each with the commit that added it; those of a branch that was merged with
/// the merge, since nobody's database had them before. Empty without git.
fn committed(root: &Path) -> Vec<(String, String)> {
    let arguments = [
        "log",
        "--first-parent",
        "--reverse",
        "--no-renames",
        "--diff-filter=A",
        "--name-only",
        "--format=commit %H",
        "--",
        DIRECTORY,
    ];
    let log = git(root, &arguments).unwrap_or_default();
    let (mut found, mut commit) = (Vec::<(String, String)>::new(), String::new());
    for line in String::from_utf8_lossy(&log).lines() {
        if let Some(hash) = line.strip_prefix("commit ") {
            hash.clone_into(&mut commit);
        } else if line.ends_with(".sql") && found.iter().all(|(path, _)| path != line) {
            found.push((line.to_owned(), commit.clone()));
        }
    }
    found
}

fn git(root: &Path, arguments: &[&str]) -> Option<Vec<u8>> {
    let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
    output.status.success().then_some(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repository in a directory of its own, removed when dropped.
    struct Repository(std::path::PathBuf);

    impl Repository {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("picloud-tidy-{name}-{}", std::process::id()));
            std::fs::create_dir_all(root.join(DIRECTORY)).unwrap();
            let repository = Self(root);
            repository.git(&["init", "-q"]);
            repository
        }

        fn git(&self, arguments: &[&str]) {
            let identity = ["-c", "user.name=tidy", "-c", "user.email=tidy@example.org"];
            let arguments: Vec<&str> = identity.iter().chain(arguments).copied().collect();
            assert!(git(&self.0, &arguments).is_some(), "git {arguments:?}");
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.0.join(DIRECTORY).join(name), text).unwrap();
        }
    }

    impl Drop for Repository {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    const NAME: &str = "20260101000000_create_app.sql";

    #[test]
    fn a_change_after_the_first_commit_is_found_even_when_committed() {
        let repository = Repository::new("changed");
        repository.write(NAME, "one\ntwo\n");
        assert_eq!(check(&repository.0).unwrap(), []);
        repository.git(&["add", "."]);
        repository.git(&["commit", "-q", "-m", "first"]);
        assert_eq!(check(&repository.0).unwrap(), []);
        repository.write(NAME, "one\n2\n");
        repository.git(&["commit", "-q", "-a", "-m", "second"]);
        let violations = check(&repository.0).unwrap();
        assert_eq!(violations.iter().map(|violation| violation.line).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_removed_migration_is_found() {
        let repository = Repository::new("removed");
        repository.write(NAME, "one\n");
        repository.git(&["add", "."]);
        repository.git(&["commit", "-q", "-m", "first"]);
        std::fs::remove_file(repository.0.join(DIRECTORY).join(NAME)).unwrap();
        assert_eq!(check(&repository.0).unwrap().len(), 1);
    }

    #[test]
    fn a_migration_of_a_branch_may_get_another_date_until_it_is_merged() {
        const LATER: &str = "20260102000000_create_app.sql";
        let repository = Repository::new("merged");
        repository.git(&["commit", "-q", "--allow-empty", "-m", "first"]);
        repository.git(&["branch", "-M", "main"]);
        repository.git(&["switch", "-q", "-c", "work"]);
        repository.write(NAME, "one\n");
        repository.git(&["add", "."]);
        repository.git(&["commit", "-q", "-m", "second"]);
        repository.git(&["switch", "-q", "main"]);
        repository.git(&["merge", "-q", "--no-ff", "--no-commit", "work"]);
        let directory = repository.0.join(DIRECTORY);
        std::fs::rename(directory.join(NAME), directory.join(LATER)).unwrap();
        repository.git(&["add", "."]);
        repository.git(&["commit", "-q", "-m", "merge"]);
        assert_eq!(check(&repository.0).unwrap(), []);
        std::fs::remove_file(directory.join(LATER)).unwrap();
        assert_eq!(check(&repository.0).unwrap().len(), 1);
    }

    #[test]
    fn a_name_says_when_and_what() {
        assert!(has_valid_name(NAME));
        for name in ["1_create_app.sql", "20260101000000_app.sql", "20260101000000-create_app.sql"] {
            assert!(!has_valid_name(name), "{name}");
        }
    }
}
