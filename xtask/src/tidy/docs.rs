//! Rules about the documents: what they point to exists, and what they tell to type works.

use super::{Finding, finding};
use crate::repository::Repository;

/// Documents whose file names in backticks are checked too. The change log and the log of experiments speak of the past.
const NAMED: [&str; 5] =
    ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "reference/README.md", ".ci/README.md"];
/// A name in backticks is a file of the repository when it starts with one of these.
const FOLDERS: [&str; 8] =
    ["crates/", "xtask/", "reference/", "tasks/", "docs/", ".ci/", ".cargo/", "bench/"];
/// The crates, for names like `eval/runner.rs`.
const ROOMS: [&str; 6] = ["tensor", "model", "eval", "train", "cli", "testkit"];
/// How a command in a document may begin.
const COMMANDS: [&str; 3] = ["cargo run --release -- ", "underdog ", "target/release/underdog "];

/// Relative links lead to files, and files that the main documents name exist.
pub fn links(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in repository.texts(".md") {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (line, text) in prose(text) {
            for target in targets(text).filter(|target| !is_remote(target)) {
                let file = target.split('#').next().unwrap_or_default();
                if !resolve(folder, file).is_some_and(|file| repository.exists(&file)) {
                    findings.push(finding(
                        path,
                        Some(line),
                        format!("a link to `{target}`"),
                        "a file that exists",
                    ));
                }
            }
            let named = text.split('`').skip(1).step_by(2).filter(|_| NAMED.contains(&path));
            for (name, file) in named.filter_map(|name| Some((name, file_named(name)?))) {
                if !repository.exists(&file) {
                    findings.push(finding(path, Some(line), format!("`{name}`"), "a file that exists"));
                }
            }
        }
    }
    findings
}

/// The verbs in commands are verbs of the built program.
pub fn commands(repository: &Repository) -> Vec<Finding> {
    let Some(verbs) = &repository.verbs else { return Vec::new() };
    let mut findings = Vec::new();
    for (path, text) in repository.texts(".md") {
        for (i, line) in code_blocks(text).lines().enumerate() {
            let line = line.trim().trim_start_matches("$ ");
            let Some(rest) = COMMANDS.iter().find_map(|start| line.strip_prefix(start)) else { continue };
            let verb = rest.split_whitespace().next().unwrap_or_default();
            if !verb.starts_with('-') && !verbs.iter().any(|known| known == verb) {
                findings.push(finding(
                    path,
                    Some(i + 1),
                    format!("a command with the verb `{verb}`"),
                    format!("one of {}", verbs.join(", ")),
                ));
            }
        }
    }
    findings
}

/// The lines inside fenced blocks of commands and settings (`sh`, `toml`, unmarked); all other lines are empty.
pub fn code_blocks(text: &str) -> String {
    let mut kept = String::new();
    let mut inside = None;
    for line in text.lines() {
        match (line.trim().strip_prefix("```"), &inside) {
            (Some(language), None) => inside = Some(matches!(language.trim(), "sh" | "" | "toml")),
            (Some(_), Some(_)) => inside = None,
            (None, Some(true)) => kept.push_str(line),
            (None, _) => {}
        }
        kept.push('\n');
    }
    kept
}

/// Number and text of the lines outside of fenced blocks.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut inside = false;
    let mut lines = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if !inside {
            lines.push((i + 1, line));
        }
    }
    lines
}

/// The targets of `[text](target)` and `![text](target)`.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', ' ']).next())
        .filter(|target| !target.is_empty())
}

fn is_remote(target: &str) -> bool {
    target.starts_with('#') || target.contains("://") || target.starts_with("mailto:")
}

/// The file or folder that a text in backticks names; `None` for patterns, commands and words. `eval/runner.rs` is short
/// for `crates/eval/src/runner.rs`.
fn file_named(name: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
    if !name.chars().all(plain) {
        return None;
    }
    if FOLDERS.iter().any(|folder| name.starts_with(folder)) {
        return Some(name.to_string());
    }
    let (room, rest) = name.split_once('/')?;
    (ROOMS.contains(&room) && rest.ends_with(".rs")).then(|| format!("crates/{room}/src/{rest}"))
}

/// `file` as seen from `folder`; `None` when it leads out of the repository.
fn resolve(folder: &str, file: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whats(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.what.as_str()).collect()
    }

    #[test]
    fn a_dead_link_is_found() {
        let text = "[a](b.md) [c](../README.md#top) [d](https://example.com) [e](#f)\n![g](none.png) [h](../../out.md)\n```\n[i](code)\n```\n";
        let repository = Repository::of(&[("docs/a.md", text), ("docs/b.md", ""), ("README.md", "")]);
        let findings = links(&repository);
        assert_eq!(whats(&findings), ["a link to `none.png`", "a link to `../../out.md`"]);
        assert_eq!(findings[0].line, Some(2));
    }

    #[test]
    fn a_named_file_that_is_gone_is_found() {
        let text = "`crates/eval/src/old.rs`, `eval/gone.rs`, `crates/eval`, `eval/lib.rs`, `crates/*/src`, `eval`, `a/b.rs`\n";
        let files = [("ARCHITECTURE.md", text), ("CHANGELOG.md", text), ("crates/eval/src/lib.rs", "")];
        assert_eq!(whats(&links(&Repository::of(&files))), ["`crates/eval/src/old.rs`", "`eval/gone.rs`"]);
    }

    #[test]
    fn a_command_that_does_not_exist_is_found() {
        let text = "underdog fly\n```sh\n$ underdog eval x\nunderdog --help\ncargo run --release -- fly\ncargo test\n```\n";
        let mut repository = Repository::of(&[("README.md", text)]);
        assert_eq!(commands(&repository), [], "without the binary nothing is known");
        repository.verbs = Some(vec!["eval".to_string()]);
        let findings = commands(&repository);
        assert_eq!(findings, [finding("README.md", Some(5), "a command with the verb `fly`", "one of eval")]);
    }
}
