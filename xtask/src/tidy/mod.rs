//! The rules of the house that a program can check, as stated in ARCHITECTURE.md. Each check is one function from the
//! files to what is wrong with them, and has a test in which it finds something.
//!
//! What the compiler, rustfmt and clippy check already is not repeated here.

mod claims;
mod crates;
mod disk;
mod docs;
mod rust;
mod text;

use std::fmt;
use std::path::Path;

use crate::repository::Repository;

/// Something that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub path: String,
    /// The line, counted from 1; `None` where the file as a whole is meant.
    pub line: Option<usize>,
    /// What is there.
    pub what: String,
    /// What should be.
    pub expected: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}; expected {}", self.path, self.what, self.expected),
            None => write!(f, "{}: {}; expected {}", self.path, self.what, self.expected),
        }
    }
}

/// A finding in `path`, at a line where one is known.
pub fn finding(
    path: &str,
    line: Option<usize>,
    what: impl Into<String>,
    expected: impl Into<String>,
) -> Finding {
    Finding { path: path.to_string(), line, what: what.into(), expected: expected.into() }
}

/// One check: what it looks after, and the function.
type Check = (&'static str, fn(&Repository) -> Vec<Finding>);

/// All checks, in the order in which they run.
const CHECKS: [Check; 19] = [
    ("crates depend on each other in one direction", crates::order),
    ("only `cli` parses arguments", crates::arguments),
    ("only `cli` prints, exits and reads the environment", rust::terminal),
    ("unsafe code stays in its rooms", rust::unsafe_rooms),
    ("unsafe code says why it is sound", rust::unsafe_reasons),
    ("every module says what it is for", rust::heads),
    ("no file is too long", rust::length),
    ("nothing unfinished is left", rust::unfinished),
    ("every draw comes from a seed", rust::seeds),
    ("only `compare` words a claim", claims::elsewhere),
    ("every on-disk type has a version", disk::versions),
    ("no registry is named", text::hosts),
    ("no path of one machine", text::machine_paths),
    ("no build for one machine", text::native),
    ("no large file", text::large),
    ("links and named files exist", docs::links),
    ("quoted commands exist", docs::commands),
    ("every reference script has its step", crate::reference::unlisted),
    ("docs/results.md is what the summaries give", crate::results::drift),
];

/// Runs all checks and prints what they find. `Ok(true)` when they find nothing.
pub fn run(root: &Path) -> Result<bool, String> {
    let repository = Repository::read(root)?;
    let mut total = 0;
    for (name, check) in CHECKS {
        let findings = check(&repository);
        if !findings.is_empty() {
            eprintln!("{name}:");
        }
        for finding in &findings {
            eprintln!("  {finding}");
        }
        total += findings.len();
    }
    for note in rust::long(&repository) {
        println!("note: {note}");
    }
    if repository.verbs.is_none() {
        println!(
            "note: `underdog` is not built, so the commands in the documents were not compared with its help"
        );
    }
    println!("tidy: {} files, {} checks, {total} findings", repository.files.len(), CHECKS.len());
    Ok(total == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_as_file_line_what_expected() {
        let with = finding("a.rs", Some(3), "a thing", "another");
        assert_eq!(with.to_string(), "a.rs:3: a thing; expected another");
        assert_eq!(
            finding("a.rs", None, "a thing", "another").to_string(),
            "a.rs: a thing; expected another"
        );
    }

    #[test]
    fn an_empty_repository_has_nothing_wrong() {
        let empty = Repository::default();
        for (name, check) in CHECKS {
            assert_eq!(check(&empty), [], "{name}");
        }
    }
}
