//! Everything that is written to disk has a version, and every version that was ever written has a sample in the
//! tests that is still read.

use super::{Finding, finding};
use crate::repository::Repository;
use crate::source::{code_only, test_lines};

/// A type that is written to disk.
struct OnDisk {
    /// What it is called.
    name: &'static str,
    /// Where its version is.
    file: &'static str,
    /// The constant.
    constant: &'static str,
    /// Where its samples are, `{}` standing for the version.
    sample: &'static str,
}

/// All types that are written to disk. A file that does not exist is passed over.
const TYPES: [OnDisk; 7] = [
    OnDisk {
        name: "record",
        file: "crates/eval/src/record.rs",
        constant: "RECORD_VERSION",
        sample: "crates/eval/tests/data/record.v{}.jsonl",
    },
    OnDisk {
        name: "task",
        file: "crates/eval/src/task.rs",
        constant: "TASK_VERSION",
        sample: "crates/eval/tests/data/task.v{}.toml",
    },
    // Part of the task and of the record; its version is in its fingerprint.
    OnDisk {
        name: "harness",
        file: "crates/eval/src/harness.rs",
        constant: "HARNESS_VERSION",
        sample: "crates/eval/tests/data/harness.v{}.json",
    },
    OnDisk {
        name: "report",
        file: "crates/eval/src/report/mod.rs",
        constant: "REPORT_VERSION",
        sample: "crates/eval/tests/data/report.v{}.json",
    },
    OnDisk {
        name: "advice",
        file: "crates/eval/src/advise/mod.rs",
        constant: "ADVISE_VERSION",
        sample: "crates/eval/tests/data/advise.v{}.json",
    },
    OnDisk {
        name: "adapter",
        file: "crates/model/src/adapter.rs",
        constant: "VERSION",
        sample: "crates/model/tests/data/adapter.v{}",
    },
    OnDisk {
        name: "checkpoint",
        file: "crates/train/src/checkpoint.rs",
        constant: "VERSION",
        sample: "crates/train/tests/data/checkpoint.v{}",
    },
];

/// Every type of the table has its constant and its samples, and every such constant is in the table.
pub fn versions(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for kind in &TYPES {
        let Some(text) = repository.get(kind.file).and_then(|file| file.text.as_deref()) else { continue };
        let Some((line, _, version)) = constants(text).into_iter().find(|(_, name, _)| name == kind.constant)
        else {
            findings.push(finding(
                kind.file,
                None,
                format!("the {} has no version", kind.name),
                format!("`const {}: u32`", kind.constant),
            ));
            continue;
        };
        for sample in (1..=version).map(|version| kind.sample.replace("{}", &version.to_string())) {
            if !repository.exists(&sample) {
                let what = format!("the {} has no sample", kind.name);
                findings.push(finding(kind.file, Some(line), what, sample));
            }
        }
    }
    findings.extend(unlisted(repository));
    findings
}

/// Versions of types that the table lacks.
fn unlisted(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    let libraries = |path: &str| {
        path.starts_with("crates/") && path.contains("/src/") && !path.starts_with("crates/testkit/")
    };
    for (path, text) in repository.texts(".rs").filter(|(path, _)| libraries(path)) {
        for (line, name, _) in constants(text) {
            if !TYPES.iter().any(|kind| kind.file == path && kind.constant == name) {
                findings.push(finding(
                    path,
                    Some(line),
                    format!("an on-disk version `{name}`"),
                    "a line for it in xtask/src/tidy/disk.rs",
                ));
            }
        }
    }
    findings
}

/// Line, name and value of every constant called `VERSION` or `…_VERSION` outside of tests.
fn constants(text: &str) -> Vec<(usize, String, u64)> {
    let code = code_only(text);
    let tests = test_lines(&code);
    let mut found = Vec::new();
    for (i, line) in code.lines().enumerate().filter(|(i, _)| !tests[*i]) {
        let Some((_, rest)) = line.split_once("const ") else { continue };
        let Some((name, rest)) = rest.split_once(':') else { continue };
        let value =
            rest.split_once('=').and_then(|(_, value)| value.trim().trim_end_matches(';').parse().ok());
        if let (true, Some(value)) = (name == "VERSION" || name.ends_with("_VERSION"), value) {
            found.push((i + 1, name.to_string(), value));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = "crates/eval/src/record.rs";

    #[test]
    fn a_version_without_its_samples_is_found() {
        let text = "//! x\n/// x\npub const RECORD_VERSION: u32 = 2;\n";
        let repository = Repository::of(&[(RECORD, text), ("crates/eval/tests/data/record.v2.jsonl", "")]);
        assert_eq!(
            versions(&repository),
            [finding(RECORD, Some(3), "the record has no sample", "crates/eval/tests/data/record.v1.jsonl")]
        );
    }

    #[test]
    fn a_type_without_a_version_is_found() {
        let repository = Repository::of(&[(RECORD, "//! const RECORD_VERSION: u32 = 1;\n")]);
        assert_eq!(versions(&repository)[0].what, "the record has no version");
    }

    #[test]
    fn a_version_that_is_not_listed_is_found() {
        let path = "crates/train/src/new.rs";
        let repository = Repository::of(&[(
            path,
            "//! x\nconst NEW_VERSION: u32 = 1;\n#[cfg(test)]\nconst VERSION: u32 = 1;\n",
        )]);
        let findings = versions(&repository);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].what, "an on-disk version `NEW_VERSION`");
    }
}
