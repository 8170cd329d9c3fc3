//! An app as a folder: `picloud.toml`, and the scripts beside it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use shared::limits::{LimitsPatch, SOURCE_BYTES_MAX};
use shared::manifest::{Manifest, ManifestRoute, ManifestScript, ManifestTopic, ManifestTrigger};
use shared::name::{AppSlug, ScriptName, SecretName};
use shared::script::ScriptKind;

use crate::failure::Failure;

const FILE: &str = "picloud.toml";
const ENDING: &str = "rhai";
/// Scripts that only `pic test` runs.
const TEST_ENDING: &str = ".test";

/// What a folder says an app is to be.
#[derive(Debug)]
pub(crate) struct Folder {
    /// The app it is of, unless the command line names another.
    pub(crate) app: Option<AppSlug>,
    pub(crate) manifest: Manifest,
    /// Where each script came from, for messages.
    pub(crate) files: BTreeMap<ScriptName, PathBuf>,
}

/// `picloud.toml`. Everything in it may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Toml {
    app: Option<AppSlug>,
    name: Option<String>,
    description: Option<String>,
    #[serde(default)]
    scripts: BTreeMap<ScriptName, Script>,
    #[serde(default)]
    routes: Vec<ManifestRoute>,
    #[serde(default)]
    triggers: Vec<ManifestTrigger>,
    #[serde(default)]
    topics: Vec<ManifestTopic>,
    #[serde(default)]
    secrets: Vec<SecretName>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Script {
    /// `<name>.rhai` unless given.
    file: Option<PathBuf>,
    kind: ScriptKind,
    description: String,
    limits: LimitsPatch,
}

impl Folder {
    pub(crate) fn read(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join(FILE);
        let text = read_text(&path)?;
        let toml: Toml =
            toml::from_str(&text).map_err(|error| Failure::Source(format!("{}: {error}", path.display())))?;
        let mut scripts = toml.scripts;
        let mut named = Vec::with_capacity(scripts.len());
        for (name, script) in &mut scripts {
            let file = script.file.get_or_insert_with(|| format!("{name}.{ENDING}").into());
            refuse_outside(file)?;
            named.push(file.clone());
        }
        for (name, file) in unnamed(folder, &named)? {
            let known =
                scripts.insert(name.clone(), Script { file: Some(file.clone()), ..Script::default() });
            if known.is_some() {
                let detail = format!(
                    "{FILE} takes another file for the script {name}; {} would be it too",
                    file.display()
                );
                return Err(Failure::Source(detail));
            }
        }
        let mut files = BTreeMap::new();
        let mut wanted = BTreeMap::new();
        for (name, Script { file, kind, description, limits }) in scripts {
            let file = folder.join(file.unwrap_or_default());
            let source = read_text(&file)?;
            wanted.insert(name.clone(), ManifestScript { source, kind, limits, description });
            files.insert(name, file);
        }
        let Toml { app, name, description, routes, triggers, topics, secrets, .. } = toml;
        let manifest = Manifest { name, description, scripts: wanted, routes, triggers, topics, secrets };
        Ok(Self { app, manifest, files })
    }
}

/// What is deployed is in the folder: a manifest of somebody else must not send one's other files.
fn refuse_outside(file: &Path) -> Result<(), Failure> {
    if file.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Ok(());
    }
    Err(Failure::Source(format!("{FILE} names {}, which is not below its folder", file.display())))
}

/// Scripts beside the manifest that it does not name: endpoints without anything said of them.
fn unnamed(folder: &Path, named: &[PathBuf]) -> Result<Vec<(ScriptName, PathBuf)>, Failure> {
    let failed = |source| Failure::File { path: folder.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = PathBuf::from(entry.map_err(failed)?.file_name());
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let is_script =
            path.extension().is_some_and(|ending| ending == ENDING) && !stem.ends_with(TEST_ENDING);
        if !is_script || named.iter().any(|file| file.strip_prefix(".").unwrap_or(file) == path) {
            continue;
        }
        let name = stem.parse().map_err(|error| Failure::Source(format!("{}: {error}", path.display())))?;
        found.push((name, path));
    }
    found.sort();
    Ok(found)
}

fn read_text(path: &Path) -> Result<String, Failure> {
    let failed = |source: io::Error| Failure::File { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    // One byte over the limit is enough to know.
    let file = fs::File::open(path).map_err(failed)?;
    file.take(SOURCE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > SOURCE_BYTES_MAX {
        let limit = SOURCE_BYTES_MAX >> 20;
        return Err(Failure::Source(format!("{} is over the limit of {limit} MiB", path.display())));
    }
    String::from_utf8(bytes).map_err(|_| Failure::Source(format!("{} is not UTF-8 text", path.display())))
}

#[cfg(test)]
mod tests {
    use shared::topic::TopicAuth;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, Result<Folder, Failure>) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            fs::write(dir.path().join(name), text).unwrap();
        }
        let folder = Folder::read(dir.path());
        (dir, folder)
    }

    #[test]
    fn a_folder_is_its_manifest_and_the_scripts_beside_it() {
        let toml = "app = 'blog'\n[scripts.base]\nfile = 'lib/base.rhai'\nkind = 'module'\n[scripts.page.limits]\n\
                    fuel = 5\n[[routes]]\npath = '/'\nscript = 'page'\n[[topics]]\nname = 'news.local'\nexternal = true\n";
        let (_dir, read) = folder(&[
            (FILE, toml),
            ("lib/base.rhai", "fn f() {}"),
            ("page.rhai", "1"),
            ("more.rhai", "2"),
            ("page.test.rhai", "no"),
            ("notes.txt", "no"),
        ]);
        let Folder { app, manifest, files } = read.unwrap();
        assert_eq!(app.unwrap().as_str(), "blog");
        let names: Vec<_> = manifest.scripts.keys().map(ScriptName::as_str).collect();
        assert_eq!(names, ["base", "more", "page"]);
        assert_eq!(manifest.scripts["base"].kind, ScriptKind::Module);
        assert_eq!(manifest.scripts["page"].limits.fuel, Some(5));
        assert_eq!((manifest.routes.len(), files.len()), (1, 3));
        let topic = &manifest.topics[0];
        assert_eq!(
            (topic.name.as_str(), topic.external, topic.auth_mode),
            ("news.local", true, TopicAuth::Token)
        );
    }

    #[test]
    fn attack_a_strangers_manifest_sends_no_file_from_elsewhere() {
        for file in ["../secret.rhai", "/etc/passwd", "a/../../secret.rhai"] {
            let (_dir, read) = folder(&[(FILE, &format!("[scripts.a]\nfile = '{file}'\n"))]);
            assert!(read.unwrap_err().to_string().contains("not below its folder"), "{file}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (files, reason) in [
            (&[][..], "picloud.toml"),
            (&[(FILE, "[[triggers]]\nkind = 'cron'\n")][..], "missing field `script`"),
            (&[(FILE, "[scripts.a]\n")][..], "a.rhai"),
            (&[(FILE, ""), ("a b.rhai", "1")][..], "a b.rhai"),
            (
                &[(FILE, "[scripts.a]\nfile = 'b.rhai'\n"), ("a.rhai", "1"), ("b.rhai", "1")][..],
                "another file",
            ),
        ] {
            let (_dir, read) = folder(files);
            let text = read.unwrap_err().to_string();
            assert!(text.contains(reason), "{text}");
        }
    }
}
