//! The claims gate: the words of a claim, and signs before a difference, stand in `compare`, where sentences are made from
//! tests, and in no other text that the program could print. Comments, tests and documents may use them.

use super::{Finding, finding};
use crate::repository::Repository;
use crate::source::{code_only, test_lines, without_comments};

/// Where sentences of claims are made.
const ROOM: &str = "crates/eval/src/compare/";
/// The words of claims.
const WORDS: [&str; 11] = [
    "better",
    "worse",
    "beats",
    "beat",
    "outperforms",
    "outperform",
    "superior",
    "inferior",
    "matches",
    "surpasses",
    "wins",
];
/// What is printed besides Rust: the report's page.
const PAGES: [&str; 3] = [".html", ".js", ".svg"];

/// Literals of Rust files and lines of pages that hold a word of a claim, outside of `compare` and of tests.
pub fn elsewhere(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    let product =
        |path: &str| path.starts_with("crates/") && path.contains("/src/") && !path.starts_with(ROOM);
    for (path, text) in repository.texts(".rs").filter(|(path, _)| product(path) && !is_test(path)) {
        let (code, commented) = (code_only(text), without_comments(text));
        let tests = test_lines(&code);
        let lines = commented.lines().zip(code.lines()).zip(&tests).enumerate();
        for (i, ((line, code), _)) in lines.filter(|(_, (_, test))| !**test) {
            // What `code_only` blanks of a line without comments is the inside of its literals.
            let literals: String =
                line.chars().zip(code.chars()).map(|(c, code)| if code == ' ' { c } else { ' ' }).collect();
            findings.extend(word_in(&literals).map(|word| claim(path, i, word)));
            if literals.contains(":+") {
                findings.push(finding(
                    path,
                    Some(i + 1),
                    "a number that is written with its sign, as differences are",
                    format!("differences in words of {ROOM} only"),
                ));
            }
        }
    }
    for ending in PAGES {
        for (path, text) in repository.texts(ending).filter(|(path, _)| product(path)) {
            for (i, line) in text.lines().enumerate() {
                findings.extend(word_in(line).map(|word| claim(path, i, word)));
            }
        }
    }
    findings
}

fn claim(path: &str, line: usize, word: &str) -> Finding {
    finding(path, Some(line + 1), format!("the word `{word}` in text"), format!("claims only in {ROOM}"))
}

/// The first word of a claim in `text`, as a whole word and in any case.
fn word_in(text: &str) -> Option<&'static str> {
    let lower = text.to_lowercase();
    let mut found = lower.split(|c: char| !c.is_alphanumeric());
    found.find_map(|word| WORDS.into_iter().find(|known| *known == word))
}

fn is_test(path: &str) -> bool {
    path.ends_with("tests.rs") || path.ends_with("test_support.rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_elsewhere_is_found_and_comments_tests_and_code_are_not() {
        let text = "//! better\nfn better() {} // \"beats\"\nlet a = \"x\";\nlet b = format!(\"{a} is Better than b\");\n\
                    let c = \"a long\n  text that beats\";\nlet e = format!(\"{d:+.1}\");\nmatches!(a, b);\n#[cfg(test)]\nmod tests {\n let d = \"worse\";\n}\n";
        let repository = Repository::of(&[
            ("crates/eval/src/report/a.rs", text),
            ("crates/eval/src/compare/claim.rs", text),
            ("crates/eval/src/report/a_tests.rs", text),
            ("crates/cli/tests/a.rs", text),
            ("crates/eval/src/report/page.html", "<p>\n{{ a }} wins"),
        ]);
        let found = elsewhere(&repository);
        let places: Vec<(&str, usize)> = found.iter().map(|f| (f.path.as_str(), f.line.unwrap())).collect();
        let (code, page) = ("crates/eval/src/report/a.rs", "crates/eval/src/report/page.html");
        assert_eq!(places, [(code, 4), (code, 6), (code, 7), (page, 2)]);
    }
}
