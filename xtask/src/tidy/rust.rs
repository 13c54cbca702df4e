//! Rules about Rust files: who prints, where unsafe code may be, how a module begins, how long it gets.

use super::{Finding, finding};
use crate::repository::Repository;
use crate::source::{code_only, has_word, test_lines};

/// No file is longer than this.
const HARD_LENGTH: usize = 600;
/// Longer files are named, so that they get split when they are next worked on.
const SOFT_LENGTH: usize = 400;
/// What only `cli` may do; libraries hand values back.
const TERMINAL: [&str; 10] = [
    "println!",
    "print!",
    "eprintln!",
    "eprint!",
    "process::exit",
    "env::var",
    "env::set_var",
    "env::remove_var",
    "env::args",
    "env::current_dir",
];
/// Where unsafe code may be: kernels, the mapping of files, and the allocator with which tests count.
const UNSAFE_ROOMS: [&str; 3] =
    ["crates/tensor/src/", "crates/model/src/gguf/mod.rs", "crates/testkit/src/allocations.rs"];
/// Marks of work that is not finished, or of a test that does not run.
const UNFINISHED: [&str; 4] = ["todo!", "unimplemented!", "dbg!", "#[ignore"];
/// Randomness that no seed decides.
const UNSEEDED: [&str; 5] = ["thread_rng", "from_entropy", "from_os_rng", "getrandom", "RandomState"];

/// The one library file that reads a variable: which instruction sets may be used, so that tests reach every path.
const SWITCH: &str = "crates/tensor/src/cpu.rs";

/// Only `cli`, this tool, tests and examples speak to the terminal, end the process or read the environment.
pub fn terminal(repository: &Repository) -> Vec<Finding> {
    let libraries = |path: &str| {
        path.starts_with("crates/")
            && !path.starts_with("crates/cli/")
            && !is_test_file(path)
            && path != SWITCH
    };
    matching(repository, libraries, false, &TERMINAL, "it in crates/cli only")
}

/// `unsafe` is written in few places.
pub fn unsafe_rooms(repository: &Repository) -> Vec<Finding> {
    let elsewhere = |path: &str| !UNSAFE_ROOMS.iter().any(|room| path.starts_with(room));
    let expected = format!("it only in {}", UNSAFE_ROOMS.join(", "));
    matching(repository, elsewhere, true, &["unsafe "], &expected)
}

/// Every `unsafe` has a comment right above it that says why it is sound.
pub fn unsafe_reasons(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in repository.texts(".rs") {
        let lines: Vec<&str> = text.lines().collect();
        for (i, code) in code_only(text).lines().enumerate() {
            // `unsafe_op_in_unsafe_fn` and its like are names of lints.
            if has_word(code, "unsafe ") && !has_reason(&lines[..=i]) {
                findings.push(finding(
                    path,
                    Some(i + 1),
                    "unsafe code without a reason",
                    "a `// SAFETY:` comment above it",
                ));
            }
        }
    }
    findings
}

/// Whether the last of `lines` has the comment: on it, or above it with nothing but comments, attributes and the
/// beginning of the same statement between.
fn has_reason(lines: &[&str]) -> bool {
    for (distance, line) in lines.iter().rev().map(|line| line.trim()).enumerate() {
        if line.contains("// SAFETY:") || line.contains("# Safety") {
            return true;
        }
        let goes_on =
            line.starts_with("//") || line.starts_with("#[") || !line.ends_with([';', '{', '}', ',']);
        if distance > 0 && (!goes_on || line.is_empty()) {
            return false;
        }
    }
    false
}

/// The first line of every Rust file is its description.
pub fn heads(repository: &Repository) -> Vec<Finding> {
    let says = |line: &str| line.strip_prefix("//!").is_some_and(|rest| !rest.trim().is_empty());
    repository
        .texts(".rs")
        .filter(|(_, text)| !text.lines().next().is_some_and(says))
        .map(|(path, _)| {
            finding(path, Some(1), "a module that does not say what it is for", "a `//!` comment first")
        })
        .collect()
}

/// No Rust file is longer than [`HARD_LENGTH`].
pub fn length(repository: &Repository) -> Vec<Finding> {
    repository
        .texts(".rs")
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > HARD_LENGTH)
        .map(|(path, lines)| finding(path, None, format!("{lines} lines"), format!("at most {HARD_LENGTH}")))
        .collect()
}

/// The files that are longer than they should be, and still allowed.
pub fn long(repository: &Repository) -> Vec<String> {
    repository
        .texts(".rs")
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| (SOFT_LENGTH + 1..=HARD_LENGTH).contains(lines))
        .map(|(path, lines)| format!("{path} has {lines} lines, more than {SOFT_LENGTH}"))
        .collect()
}

/// No stand-ins for code, and no test that is switched off.
pub fn unfinished(repository: &Repository) -> Vec<Finding> {
    matching(repository, |_| true, true, &UNFINISHED, "finished code and tests that run")
}

/// Randomness is a function of a seed in the settings.
pub fn seeds(repository: &Repository) -> Vec<Finding> {
    matching(
        repository,
        |path| path.starts_with("crates/"),
        true,
        &UNSEEDED,
        "a generator made from a seed in the settings",
    )
}

/// One finding for each line that holds one of `words` as code, in files that `place` picks; lines of unit tests only
/// where `with_tests` is set.
fn matching(
    repository: &Repository,
    place: impl Fn(&str) -> bool,
    with_tests: bool,
    words: &[&str],
    expected: &str,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in repository.texts(".rs").filter(|(path, _)| place(path)) {
        let code = code_only(text);
        let tests = test_lines(&code);
        for (i, line) in code.lines().enumerate().filter(|(i, _)| with_tests || !tests[*i]) {
            for word in words.iter().filter(|word| has_word(line, word)) {
                findings.push(finding(path, Some(i + 1), format!("`{}`", word.trim()), expected));
            }
        }
    }
    findings
}

/// Whether the whole file is compiled for tests only: by its folder, or by the names that the house gives such files.
fn is_test_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    path.contains("/tests/")
        || path.contains("/examples/")
        || name.ends_with("tests.rs")
        || name == "test_support.rs"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(findings: &[Finding]) -> Vec<(&str, usize)> {
        findings.iter().map(|finding| (finding.path.as_str(), finding.line.unwrap())).collect()
    }

    #[test]
    fn a_library_that_speaks_is_found_and_its_tests_are_not() {
        let loud = "//! x\nfn a() {\n    println!(\"x\");\n    std::process::exit(1);\n    let _ = std::env::var_os(\"X\");\n}\n";
        let tests = "//! println!\n#[cfg(test)]\nmod tests {\n    fn a() { println!(); }\n}\n";
        let repository = Repository::of(&[
            ("crates/cli/src/main.rs", loud),
            ("crates/eval/src/loud.rs", loud),
            ("crates/eval/src/quiet.rs", tests),
            ("crates/eval/src/quiet_tests.rs", loud),
            ("crates/eval/tests/all.rs", loud),
            ("crates/eval/examples/all.rs", loud),
        ]);
        let place = "crates/eval/src/loud.rs";
        assert_eq!(lines(&terminal(&repository)), [(place, 3), (place, 4), (place, 5)]);
    }

    #[test]
    fn unsafe_code_elsewhere_is_found() {
        let text = "//! x\n// SAFETY: x\nlet a = unsafe { b() };\n";
        let repository = Repository::of(&[("crates/tensor/src/a.rs", text), ("crates/eval/src/a.rs", text)]);
        assert_eq!(lines(&unsafe_rooms(&repository)), [("crates/eval/src/a.rs", 3)]);
    }

    #[test]
    fn unsafe_code_without_a_reason_is_found() {
        let bare = "//! x\nfn a() {\n    b();\n    unsafe { c() };\n}\n";
        let stale = "//! x\n// SAFETY: of another line\na();\nunsafe { c() };\n";
        let good = "//! x\n// SAFETY: two\n// lines\n#[inline]\nlet long =\n    unsafe { c() };\n/// # Safety\n/// x\nunsafe fn d() {}\n";
        let repository = Repository::of(&[("a.rs", bare), ("b.rs", stale), ("c.rs", good)]);
        assert_eq!(lines(&unsafe_reasons(&repository)), [("a.rs", 4), ("b.rs", 4)]);
    }

    #[test]
    fn a_module_without_a_head_is_found() {
        let repository = Repository::of(&[
            ("a.rs", "use b;\n"),
            ("b.rs", "//! What it is for.\n"),
            ("c.rs", "//!\n"),
            ("d.rs", ""),
        ]);
        assert_eq!(lines(&heads(&repository)), [("a.rs", 1), ("c.rs", 1), ("d.rs", 1)]);
    }

    #[test]
    fn long_files_are_found_or_named() {
        let [short, soft, hard] =
            [SOFT_LENGTH, HARD_LENGTH, HARD_LENGTH + 1].map(|lines| "x\n".repeat(lines));
        let repository = Repository::of(&[("a.rs", &short), ("b.rs", &soft), ("c.rs", &hard)]);
        assert_eq!(length(&repository), [finding("c.rs", None, "601 lines", "at most 600")]);
        assert_eq!(long(&repository), ["b.rs has 600 lines, more than 400"]);
    }

    #[test]
    fn unfinished_work_is_found_in_code_only() {
        let text =
            "//! todo!\nfn a() { todo!() }\n// dbg!\nlet b = \"unimplemented!\";\n#[ignore = \"slow\"]\n";
        let repository = Repository::of(&[("crates/eval/tests/a.rs", text)]);
        assert_eq!(
            lines(&unfinished(&repository)),
            [("crates/eval/tests/a.rs", 2), ("crates/eval/tests/a.rs", 5)]
        );
    }

    #[test]
    fn randomness_without_a_seed_is_found() {
        let text = "//! x\nlet a = rand::thread_rng();\nlet b = Random::new(seed);\n";
        let repository = Repository::of(&[("crates/train/src/a.rs", text)]);
        assert_eq!(lines(&seeds(&repository)), [("crates/train/src/a.rs", 2)]);
    }
}
