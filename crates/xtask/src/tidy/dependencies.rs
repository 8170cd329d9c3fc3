//! The dependency law: who may import whom. `docs/architecture.md` says why.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::Violation;

/// What one of our crates may and must not import.
struct Law {
    name: &'static str,
    /// Those of our crates it may import.
    ours: &'static [&'static str],
    /// Crates of others it must not import, except for tests.
    forbidden: &'static [&'static str],
}

/// What would bring a guest something from outside itself.
const OUTSIDE: &[&str] = &[
    "tokio",
    "axum",
    "sqlx",
    "wasmtime",
    "libc",
    "nix",
    "getrandom",
    "rand",
    "uuid",
    "wasi",
    "js-sys",
    "wasm-bindgen",
    "instant",
    "web-time",
];

const LAWS: &[Law] = &[
    // Builds for the guest too. `sqlx` is allowed as a feature, for the store's ids.
    Law {
        name: "shared",
        ours: &[],
        forbidden: &["tokio", "axum", "hyper", "wasmtime", "libc", "nix", "rhai"],
    },
    // Everything a guest observes comes through its three imports: no clock, entropy or system.
    Law { name: "sandbox-wasm", ours: &["shared", "sdk"], forbidden: OUTSIDE },
    // Compiled for size, where the interpreter is compiled for speed.
    Law { name: "sdk", ours: &["shared"], forbidden: OUTSIDE },
    // A pass over any module; used when the guest is built, and part of no binary.
    Law { name: "metering", ours: &[], forbidden: &["tokio", "wasmtime", "rhai"] },
    // One thread, few system calls, and no idea of what it runs.
    Law {
        name: "executor-core",
        ours: &["shared", "metering"],
        forbidden: &["tokio", "axum", "hyper", "sqlx", "rhai", "ureq"],
    },
    Law { name: "orchestrator-core", ours: &["shared"], forbidden: &["sqlx", "wasmtime", "rhai"] },
    Law { name: "manager-core", ours: &["shared"], forbidden: &["wasmtime", "rhai", "nix"] },
    Law {
        name: "picloud-executor",
        ours: &["shared", "executor-core"],
        forbidden: &["tokio", "axum", "sqlx"],
    },
    Law {
        name: "picloud-orchestrator",
        ours: &["shared", "orchestrator-core"],
        forbidden: &["sqlx", "wasmtime"],
    },
    Law { name: "picloud-manager", ours: &["shared", "manager-core"], forbidden: &["wasmtime"] },
    // The composition root.
    Law {
        name: "picloud",
        ours: &["shared", "executor-core", "orchestrator-core", "manager-core"],
        forbidden: &["wasmtime", "rhai"],
    },
    // Portable, and talks HTTP only.
    Law {
        name: "picloud-cli",
        ours: &["shared"],
        forbidden: &["tokio", "axum", "sqlx", "wasmtime", "rhai", "nix", "libc"],
    },
    // Measures from outside, beside baselines of its own, one of which asks a database; the router
    // also by itself.
    Law { name: "picloud-bench", ours: &["shared", "orchestrator-core"], forbidden: &["wasmtime"] },
    Law { name: "xtask", ours: &[], forbidden: &["tokio", "axum", "sqlx", "wasmtime", "rhai"] },
];

/// Reads the manifests of the workspace and of the guest.
pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Violation>> {
    let mut violations = Vec::new();
    for manifest in ["Cargo.toml", "sandbox-wasm/Cargo.toml"] {
        for package in packages(&root.join(manifest))? {
            let path = Path::new(package["manifest_path"].as_str().unwrap_or_default());
            let text =
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let relative = path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
            violations.extend(check_package(&package, &relative, &text));
        }
    }
    Ok(violations)
}

fn packages(manifest: &Path) -> anyhow::Result<Vec<Value>> {
    let mut command = Command::new("cargo");
    command.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(manifest);
    let output = command.output().context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: Value = serde_json::from_slice(&output.stdout)?;
    match metadata["packages"].take() {
        Value::Array(packages) => Ok(packages),
        _ => anyhow::bail!("cargo metadata has no packages"),
    }
}

/// Checks the direct dependencies of one package of `cargo metadata`.
fn check_package(package: &Value, path: &str, manifest: &str) -> Vec<Violation> {
    let name = package["name"].as_str().unwrap_or_default();
    let Some(law) = LAWS.iter().find(|law| law.name == name) else {
        let advice = format!("say in crates/xtask/src/tidy/dependencies.rs what the crate {name} may import");
        return vec![Violation::new(path, 1, "dependency", advice)];
    };
    let dependencies = package["dependencies"].as_array().map_or(&[][..], Vec::as_slice);
    dependencies
        .iter()
        .filter_map(|dependency| {
            let imported = dependency["name"].as_str().unwrap_or_default();
            let advice = broken(law, imported, dependency)?;
            Some(Violation::new(path, line_of(manifest, imported), "dependency", advice))
        })
        .collect()
}

fn broken(law: &Law, imported: &str, dependency: &Value) -> Option<String> {
    let Law { name, ours, forbidden } = law;
    if LAWS.iter().any(|law| law.name == imported) {
        // Itself, to switch on what only its tests have.
        let is_itself = *name == imported && dependency["kind"] == "dev";
        let is_allowed = is_itself || ours.contains(&imported);
        return (!is_allowed).then(|| format!("{name} must not import {imported}: meet in a port of shared"));
    }
    let kind = dependency["kind"].as_str();
    if forbidden.contains(&imported) && kind != Some("dev") {
        return Some(format!("{name} must not import {imported}: do it in the crate whose work that is"));
    }
    if imported == "sqlx" && *name == "shared" && dependency["optional"] != true {
        return Some(
            "shared may import sqlx only as an optional dependency: the guest builds without it".into(),
        );
    }
    let features = dependency["features"].as_array().map_or(&[][..], Vec::as_slice);
    let has_compiler = imported.starts_with("cranelift")
        || imported == "wasmtime-wizer"
        || (imported == "wasmtime"
            && features.iter().any(|feature| feature == "cranelift" || feature == "winch"));
    (has_compiler && kind != Some("build")).then(|| {
        format!("{imported} would bring a compiler into the binary: only build scripts may have one")
    })
}

/// The line of a manifest that names a dependency.
fn line_of(manifest: &str, dependency: &str) -> usize {
    let is_named = |line: &str| {
        line.trim_start().strip_prefix(dependency).is_some_and(|rest| rest.starts_with([' ', '.', '=']))
    };
    manifest.lines().position(is_named).map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn advice(name: &str, dependency: Value) -> Option<String> {
        let package = json!({"name": name, "dependencies": [dependency]});
        check_package(&package, "Cargo.toml", "").pop().map(|violation| violation.advice)
    }

    fn on(name: &str) -> Value {
        json!({"name": name, "kind": null, "optional": false, "features": []})
    }

    #[test]
    fn cores_never_import_each_other_not_even_for_tests() {
        assert!(advice("manager-core", on("orchestrator-core")).is_some());
        let dev = json!({"name": "executor-core", "kind": "dev", "features": []});
        assert!(advice("orchestrator-core", dev).is_some());
        assert_eq!(advice("manager-core", on("shared")), None);
        assert_eq!(advice("picloud", on("manager-core")), None);
    }

    #[test]
    fn a_forbidden_crate_is_allowed_for_tests_alone() {
        assert!(advice("executor-core", on("tokio")).is_some());
        assert_eq!(advice("executor-core", json!({"name": "tokio", "kind": "dev", "features": []})), None);
    }

    #[test]
    fn shared_has_sqlx_behind_a_feature_only() {
        assert!(advice("shared", on("sqlx")).is_some());
        let optional = json!({"name": "sqlx", "kind": null, "optional": true, "features": []});
        assert_eq!(advice("shared", optional), None);
    }

    #[test]
    fn a_compiler_belongs_to_build_scripts() {
        let with = |kind| json!({"name": "wasmtime", "kind": kind, "features": ["runtime", "cranelift"]});
        assert!(advice("executor-core", with(Value::Null)).is_some());
        assert_eq!(advice("executor-core", with(json!("build"))), None);
    }

    #[test]
    fn an_unknown_crate_needs_a_law() {
        assert!(check_package(&json!({"name": "new"}), "Cargo.toml", "")[0].advice.contains("new"));
    }

    #[test]
    fn the_line_is_the_dependencys() {
        assert_eq!(line_of("[dependencies]\nserde_json.workspace = true\nserde = \"1\"\n", "serde"), 3);
    }
}
