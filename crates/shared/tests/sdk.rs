//! The SDK's declarations: that they are those of the guest, that the pages are theirs, and that what
//! was once promised is still there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use shared::SDK_VERSION;
use shared::sdk::{self, NAMESPACES};

/// Before the version in `docs/sdk/contract.txt`.
const VERSION: &str = "# Version ";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn writes() -> bool {
    std::env::var_os("PICLOUD_WRITE_DOCS").is_some()
}

/// The names of a folder's files that end so, without the ending.
fn stems(folder: &Path, ending: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let entries = entries.map(|entry| {
        entry.expect("the folder can be read").file_name().into_string().expect("names are UTF-8")
    });
    entries.filter_map(|name| name.strip_suffix(ending).map(str::to_owned)).collect()
}

#[test]
fn every_definition_file_is_listed_under_its_own_name() {
    let listed: Vec<&str> = NAMESPACES.iter().map(|namespace| namespace.name.as_str()).collect();
    assert!(listed.is_sorted());
    let files = stems(&root().join("sandbox-wasm/sdk/src"), ".d.rhai");
    assert_eq!(listed.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), files);
}

/// How many functions there are of each name.
fn counted<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

/// What the guest registers by a literal name.
fn registered(source: &str) -> BTreeMap<&str, usize> {
    let calls = ["set_native_fn(", "register_fn("];
    let after = calls.iter().flat_map(|call| source.split(call).skip(1));
    counted(after.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next()))
}

#[test]
fn a_second_function_of_a_name_is_seen() {
    let source = "module.set_native_fn(\"get\", one);\nmodule\n    .set_native_fn(\n\"get\", two);";
    assert_eq!(registered(source), BTreeMap::from([("get", 2)]));
}

#[test]
fn what_the_guest_registers_is_declared_and_nothing_else() {
    let folder = root().join("sandbox-wasm/sdk/src");
    for name in stems(&folder, ".rs").into_iter().filter(|name| name != "lib") {
        let source = fs::read_to_string(folder.join(format!("{name}.rs"))).unwrap();
        let registered = registered(&source);
        let declared = sdk::namespace(&name).map(|namespace| &namespace.functions).into_iter().flatten();
        let declared = counted(declared.map(|function| function.name.as_str()));
        assert_eq!(registered, declared, "in {name}.rs and in {name}.d.rhai");
    }
}

#[test]
fn each_declaration_has_an_example_that_calls_it() {
    for function in NAMESPACES.iter().flat_map(|namespace| &namespace.functions) {
        // What is called by its name alone has nothing before it.
        let start = function.call.find([':', '.']).unwrap_or_default();
        let name =
            format!("{}(", function.call[start..].split('(').next().unwrap().trim_start_matches([':', '.']));
        let is_called = |example: &sdk::Example| example.as_str().contains(&name);
        assert!(function.examples.iter().any(is_called), "no example of {} calls it", function.signature);
    }
}

#[test]
fn the_pages_are_those_of_the_declarations() {
    let folder = root().join("docs/sdk");
    let pages = NAMESPACES.iter().map(|namespace| (namespace.name.clone(), sdk::page(namespace)));
    for (name, page) in pages.chain([("README".to_owned(), sdk::index())]) {
        let path = folder.join(format!("{name}.md"));
        if writes() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &page).unwrap();
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == page, "docs/sdk/{name}.md is stale: run this test with PICLOUD_WRITE_DOCS=1");
    }
}

/// `docs/sdk/contract.txt` has every signature that was ever published in this major version, and the version
/// that has them all.
#[test]
fn no_signature_is_changed_or_taken_away_and_none_is_added_without_a_new_version() {
    let path = root().join("docs/sdk/contract.txt");
    let signatures = NAMESPACES.iter().flat_map(|namespace| &namespace.functions);
    let declared: BTreeSet<&str> = signatures.map(|function| function.signature.as_str()).collect();
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let promised: BTreeSet<&str> = kept.lines().filter(|line| !line.starts_with('#')).collect();
    let version = kept.lines().find_map(|line| line.strip_prefix(VERSION)).unwrap_or_default();
    let broken: Vec<_> = promised.difference(&declared).collect();
    assert!(broken.is_empty(), "scripts rely on {broken:?}: keep them, and add others beside them");
    let new: Vec<_> = declared.difference(&promised).collect();
    assert!(
        new.is_empty() || version != SDK_VERSION,
        "{new:?} are not in version {version}: raise the minor number of shared::SDK_VERSION"
    );
    if writes() {
        let head = "# Every signature of the SDK. Lines are added here, never changed or removed.\n";
        let lines: Vec<&str> = declared.iter().copied().collect();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("{head}{VERSION}{SDK_VERSION}\n{}\n", lines.join("\n"))).unwrap();
        return;
    }
    assert!(new.is_empty(), "{new:?} are not promised yet: run this test with PICLOUD_WRITE_DOCS=1");
    assert_eq!(version, SDK_VERSION, "the contract is stale: run this test with PICLOUD_WRITE_DOCS=1");
}
