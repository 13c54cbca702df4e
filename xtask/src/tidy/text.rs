//! Rules about any text in the repository: what it must not name, and how large a file may be.
//!
//! The forbidden words are put together from halves, so that this file does not hold them.

use super::{Finding, finding};
use crate::repository::Repository;

/// Hosts of package registries and model hubs: their clients know them, with mirrors and credentials.
const HOSTS: [&str; 9] = [
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("huggingface", ".co"),
    concat!("//hf", ".co"),
    concat!("crates", ".io"),
    concat!("npmjs", ".org"),
    concat!("deb.debian", ".org"),
    concat!("proxy.golang", ".org"),
    concat!("modelscope", ".cn"),
];
/// Written by cargo, which names the registry in it.
const LOCK: &str = "Cargo.lock";
/// Folders that exist on one machine and not on the next.
const MACHINE: [&str; 5] = [
    concat!("/wo", "rk/"),
    concat!("/tm", "p/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Use", "rs/"),
];
/// Builds for the CPU at hand; dispatch is at run time.
const NATIVE: [&str; 2] = [concat!("target-cpu", "=native"), concat!("march", "=native")];
/// Larger files are fetched or generated.
const LARGEST: u64 = 1_500_000;
/// Data of built-in tasks that may be larger than that.
const LARGE_DATA: &[&str] = &[];

/// No file names the host of a registry.
pub fn hosts(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in repository.texts("").filter(|(path, _)| *path != LOCK) {
        each_line(path, text, &HOSTS, |_, _| true, "the client's name, which knows its host", &mut findings);
    }
    findings
}

/// No file names an absolute path of one machine. Rows of data are what people wrote, and stay as they are.
pub fn machine_paths(repository: &Repository) -> Vec<Finding> {
    let starts_here = |line: &str, at: usize| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '}' | '~' | '*'))
    };
    let mut findings = Vec::new();
    for (path, text) in repository.texts("").filter(|(path, _)| !path.ends_with(".jsonl")) {
        each_line(path, text, &MACHINE, starts_here, "a path relative to the repository", &mut findings);
    }
    findings
}

/// Nothing is built for one CPU only. Prose may say so; blocks of code in it may not.
pub fn native(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in repository.texts("") {
        let text = if path.ends_with(".md") { &super::docs::code_blocks(text) } else { text };
        each_line(path, text, &NATIVE, |_, _| true, "run-time dispatch", &mut findings);
    }
    findings
}

/// No file is larger than [`LARGEST`], listed data aside.
pub fn large(repository: &Repository) -> Vec<Finding> {
    repository
        .files
        .iter()
        .filter(|file| file.bytes > LARGEST && !LARGE_DATA.contains(&file.path.as_str()))
        .map(|file| {
            finding(
                &file.path,
                None,
                format!("{} bytes", file.bytes),
                format!("at most {LARGEST}, or the file listed in xtask/src/tidy/text.rs"),
            )
        })
        .collect()
}

/// One finding for each line that holds one of `words` at a place that `counts`.
fn each_line(
    path: &str,
    text: &str,
    words: &[&str],
    counts: impl Fn(&str, usize) -> bool,
    expected: &str,
    findings: &mut Vec<Finding>,
) {
    for (i, line) in text.lines().enumerate() {
        for word in words {
            if line.match_indices(word).any(|(at, _)| counts(line, at)) {
                findings.push(finding(path, Some(i + 1), format!("`{word}`"), expected));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::File;

    #[test]
    fn a_host_is_found_and_the_lock_file_is_cargos() {
        let line = format!("one\nsee https://{}/simple\n", HOSTS[0]);
        let repository = Repository::of(&[("docs/a.md", &line), (LOCK, &line)]);
        let findings = hosts(&repository);
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].path.as_str(), findings[0].line), ("docs/a.md", Some(2)));
    }

    #[test]
    fn a_path_of_a_machine_is_found_and_the_end_of_another_path_is_not() {
        let bad = format!("open(\"{}data\")\n", MACHINE[0]);
        let good = format!("docs{0}a ..{0}b https://example.com{0}c\n", MACHINE[0]);
        let repository = Repository::of(&[("a.py", &bad), ("b.py", &good), ("rows.jsonl", &bad)]);
        let findings = machine_paths(&repository);
        assert_eq!(findings.iter().map(|finding| finding.path.as_str()).collect::<Vec<_>>(), ["a.py"]);
    }

    #[test]
    fn a_build_for_one_cpu_is_found() {
        let flags = format!("rustflags = [\"-C\", \"{}\"]\n", NATIVE[0]);
        let prose = format!("`{}` is committed nowhere\n", NATIVE[0]);
        let block = format!("one\n```sh\nRUSTFLAGS=-C{} cargo build\n```\n", NATIVE[0]);
        let repository =
            Repository::of(&[(".cargo/config.toml", &flags), ("a.md", &prose), ("b.md", &block)]);
        let findings = native(&repository);
        assert_eq!(
            findings.iter().map(|f| (f.path.as_str(), f.line)).collect::<Vec<_>>(),
            [(".cargo/config.toml", Some(1)), ("b.md", Some(3))]
        );
    }

    #[test]
    fn a_large_file_is_found_even_when_it_is_no_text() {
        let file = |path: &str, bytes| File { path: path.to_string(), bytes, text: None };
        let repository =
            Repository { files: vec![file("a.bin", LARGEST), file("b.bin", LARGEST + 1)], verbs: None };
        let findings = large(&repository);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].path, "b.bin");
    }
}
