//! Baselines on a small task with an embedder that counts letters.

use super::*;
use crate::split::{ReadOptions, Split};
use crate::test_support::Letters;
use crate::{EvalSettings, evaluate};
use std::sync::{Arc, Mutex};

/// A task whose inputs begin with the letter of their class.
fn task(folder: &std::path::Path, expected: &dyn Fn(usize) -> String) -> Task {
    let toml = "version = 1\nname = \"t\"\nmax_new_tokens = 1\nscore = \"s\"\n\
                data = { train = \"train.jsonl\", validation = \"validation.jsonl\", test = \"test.jsonl\" }\n\
                prompt = { user = \"{{ input }}\" }\n\
                check = [{ name = \"c\", kind = \"exact\" }]\nmetric = [{ name = \"s\", checks = [\"c\"] }]\n";
    std::fs::write(folder.join("task.toml"), toml).unwrap();
    for (name, rows) in [("train", 0..60), ("validation", 60..80), ("test", 80..100)] {
        let row = |i: usize| {
            let word = ["aab", "bbc", "cca", "aac"][i % 4];
            format!("{{\"input\": \"{word} {i}\", \"expected\": {}}}\n", expected(i % 4))
        };
        std::fs::write(folder.join(format!("{name}.jsonl")), rows.map(row).collect::<String>()).unwrap();
    }
    Task::load(folder).unwrap()
}

fn embedder() -> SharedEmbedder {
    Arc::new(Mutex::new(Letters))
}

/// The score of a baseline on the test rows.
fn score(task: &Task, reference: &str, with_validation: bool) -> f64 {
    let options = ReadOptions::default();
    let (train, validation) = (task.train(&options).unwrap(), task.validation(&options).unwrap());
    let validation = with_validation.then_some(&validation);
    let lessons = Lessons { task, train: &train, validation, seed: 1, kind: None };
    let reference = BaselineReference::parse(reference).unwrap();
    let mut baseline = Baseline::learn(&reference, lessons, Some(&embedder())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let settings =
        EvalSettings { record_path: folder.path().join("record.jsonl"), resume: false, limit: None, seed: 1 };
    let set = task.eval_set(Split::Test, &options).unwrap();
    let evaluation =
        evaluate(task, &set, &mut baseline, &settings, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(evaluation.candidate, reference.to_string());
    evaluation.score.unwrap()
}

fn classes(class: usize) -> String {
    format!("\"class {}\"", ["a", "b", "c", "a"][class])
}

#[test]
fn each_baseline_answers_from_the_training_rows() {
    let folder = tempfile::tempdir().unwrap();
    let task = task(folder.path(), &classes);
    assert_eq!(score(&task, "majority", true), 0.5);
    assert_eq!(score(&task, "nearest:letters", true), 1.0);
    assert_eq!(score(&task, "linear:letters", true), 1.0);
    assert_eq!(score(&task, "linear:letters", false), 1.0);
}

#[test]
fn sets_of_labels_are_answered_as_lists() {
    let folder = tempfile::tempdir().unwrap();
    let sets = |class: usize| [r#"["x"]"#, r#"["y", "z"]"#, "[]", r#"["x"]"#][class].to_owned();
    let task = task(folder.path(), &sets);
    assert_eq!(score(&task, "linear:letters", true), 1.0);
    assert_eq!(score(&task, "nearest:letters", true), 1.0);
}

#[test]
fn references_are_read_and_others_are_not() {
    for text in ["majority", "nearest:all-minilm-l6-v2", "linear:some/folder"] {
        assert_eq!(BaselineReference::parse(text).unwrap().to_string(), text);
    }
    for text in ["majority2", "nearest:", "linear", "smollm2-135m-instruct", ""] {
        assert_eq!(BaselineReference::parse(text), None, "{text}");
    }
}

#[test]
fn what_cannot_be_learnt_is_refused_and_the_fingerprint_follows_the_rows() {
    let folder = tempfile::tempdir().unwrap();
    let learn = |task: &Task, reference: &str, embedder: Option<&SharedEmbedder>| {
        let train = task.train(&ReadOptions::default()).unwrap();
        let lessons = Lessons { task, train: &train, validation: None, seed: 1, kind: None };
        Baseline::learn(&BaselineReference::parse(reference).unwrap(), lessons, embedder)
    };
    let one = task(folder.path(), &classes);
    let error = learn(&one, "nearest:letters", None).unwrap_err();
    assert_eq!(error.facts().hint.as_deref(), Some("underdog models pull letters"));
    let first = learn(&one, "majority", None).unwrap().identity().fingerprint;
    assert_eq!(learn(&one, "majority", None).unwrap().identity().fingerprint, first);
    let other = task(folder.path(), &|class| format!("\"{class}\""));
    assert_ne!(learn(&other, "majority", None).unwrap().identity().fingerprint, first);
    let same = task(folder.path(), &|_| "\"always\"".into());
    let error = learn(&same, "linear:letters", Some(&embedder())).unwrap_err().to_string();
    assert!(error.contains("1 different answers in 60 rows"), "{error}");
    let free = std::cell::Cell::new(0);
    let free = task(folder.path(), &|_| {
        free.set(free.get() + 1);
        format!("\"{}\"", free.get())
    });
    let error = learn(&free, "linear:letters", Some(&embedder())).unwrap_err().to_string();
    assert!(error.contains("hardly come back"), "{error}");
}
