//! Which crate may depend on which, read from the manifests.

use super::{Finding, finding};
use crate::repository::Repository;

/// For each crate the crates of the house that it may depend on. `eval` stands alone, because a harness must judge
/// a candidate without knowing how it works; `model` sees `eval` for the trait that it implements.
const ORDER: [(&str, &[&str]); 6] = [
    ("tensor", &[]),
    ("eval", &[]),
    ("testkit", &[]),
    ("model", &["tensor", "eval"]),
    ("train", &["tensor", "model", "eval"]),
    ("cli", &["tensor", "model", "eval", "train"]),
];
/// May be a development dependency of any crate, and a real one of none.
const TESTS_ONLY: &str = "testkit";
/// Libraries that only `cli` may use.
const CLI_ONLY: [&str; 1] = ["clap"];

/// A dependency as a manifest states it.
struct Dependency {
    /// Package name.
    package: String,
    /// Whether it is under `dev-dependencies`.
    development: bool,
}

/// Every edge between crates of the house is one that [`ORDER`] allows.
pub fn order(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in manifests(repository) {
        let name = crate_of(path);
        let Some((_, allowed)) = ORDER.iter().find(|(known, _)| *known == name) else {
            findings.push(finding(
                path,
                None,
                format!("an unknown crate `{name}`"),
                "a line for it in xtask/src/tidy/crates.rs",
            ));
            continue;
        };
        for dependency in read(path, text, &mut findings) {
            let Some(target) = dependency.package.strip_prefix("underdog-") else { continue };
            if allowed.contains(&target) || (target == TESTS_ONLY && dependency.development) {
                continue;
            }
            let expected = match (target, *allowed) {
                (TESTS_ONLY, _) => "it under `dev-dependencies`".to_string(),
                (_, []) => "no other crate of the house".to_string(),
                (_, some) => format!("only {}", some.join(", ")),
            };
            findings.push(finding(
                path,
                line_of(text, &dependency.package),
                format!("`{name}` depends on `{target}`"),
                expected,
            ));
        }
    }
    findings
}

/// The libraries for command lines are `cli`'s.
pub fn arguments(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in manifests(repository).filter(|(path, _)| crate_of(path) != "cli") {
        for dependency in read(path, text, &mut Vec::new()) {
            if CLI_ONLY.contains(&dependency.package.as_str()) {
                let what = format!("a dependency on `{}`", dependency.package);
                findings.push(finding(
                    path,
                    line_of(text, &dependency.package),
                    what,
                    "it in crates/cli only",
                ));
            }
        }
    }
    findings
}

/// The manifests of the crates.
fn manifests(repository: &Repository) -> impl Iterator<Item = (&str, &str)> {
    repository.texts("Cargo.toml").filter(|(path, _)| path.starts_with("crates/"))
}

fn crate_of(path: &str) -> &str {
    path.split('/').nth(1).unwrap_or_default()
}

/// All dependencies of a manifest, those for single targets too.
fn read(path: &str, text: &str, findings: &mut Vec<Finding>) -> Vec<Dependency> {
    let manifest: toml::Table = match text.parse() {
        Ok(manifest) => manifest,
        Err(error) => {
            findings.push(finding(path, None, error.to_string(), "TOML"));
            return Vec::new();
        }
    };
    let mut tables = vec![&manifest];
    if let Some(targets) = manifest.get("target").and_then(toml::Value::as_table) {
        tables.extend(targets.values().filter_map(toml::Value::as_table));
    }
    let mut dependencies = Vec::new();
    for table in tables {
        for kind in ["dependencies", "build-dependencies", "dev-dependencies"] {
            let entries = table.get(kind).and_then(toml::Value::as_table);
            for (name, value) in entries.into_iter().flatten() {
                let package = value.get("package").and_then(toml::Value::as_str).unwrap_or(name).to_string();
                dependencies.push(Dependency { package, development: kind == "dev-dependencies" });
            }
        }
    }
    dependencies
}

fn line_of(text: &str, package: &str) -> Option<usize> {
    text.lines().position(|line| line.trim_start().starts_with(package)).map(|i| i + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whats(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.what.as_str()).collect()
    }

    #[test]
    fn a_crate_that_looks_up_is_found() {
        let repository = Repository::of(&[
            ("crates/eval/Cargo.toml", "[dependencies]\nserde = \"1\"\nunderdog-model.workspace = true\n"),
            (
                "crates/tensor/Cargo.toml",
                "[target.'cfg(unix)'.dependencies]\nx = { package = \"underdog-eval\", path = \"..\" }\n",
            ),
            ("crates/train/Cargo.toml", "[dependencies]\nunderdog-model.workspace = true\n"),
        ]);
        let findings = order(&repository);
        assert_eq!(whats(&findings), ["`eval` depends on `model`", "`tensor` depends on `eval`"]);
        assert_eq!(findings[0].line, Some(3));
    }

    #[test]
    fn the_test_crate_is_for_tests() {
        let good = Repository::of(&[(
            "crates/eval/Cargo.toml",
            "[dev-dependencies]\nunderdog-testkit.workspace = true\n",
        )]);
        assert_eq!(order(&good), []);
        let bad = Repository::of(&[(
            "crates/eval/Cargo.toml",
            "[dependencies]\nunderdog-testkit.workspace = true\n",
        )]);
        assert_eq!(order(&bad)[0].expected, "it under `dev-dependencies`");
    }

    #[test]
    fn an_unknown_crate_and_a_broken_manifest_are_found() {
        let repository =
            Repository::of(&[("crates/new/Cargo.toml", ""), ("crates/eval/Cargo.toml", "[dependencies\n")]);
        let findings = order(&repository);
        assert_eq!(findings.len(), 2);
        assert_eq!(findings[0].what, "an unknown crate `new`");
        assert_eq!(findings[1].expected, "TOML");
    }

    #[test]
    fn arguments_are_parsed_in_one_crate() {
        let manifest = "[dependencies]\nclap.workspace = true\n";
        let repository =
            Repository::of(&[("crates/cli/Cargo.toml", manifest), ("crates/train/Cargo.toml", manifest)]);
        let findings = arguments(&repository);
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].path.as_str(), findings[0].line), ("crates/train/Cargo.toml", Some(2)));
    }
}
