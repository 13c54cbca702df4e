//! Task files right and wrong, the splits, and the tasks that come with the source.

use super::*;
use std::path::Path;

const TASK: &str = r#"
version = 1
name = "t"
max_new_tokens = 8
score = "accuracy"
[prompt]
system = "Answer."
[data]
train = "train.jsonl"
test = "test.jsonl"
[[check]]
name = "right"
kind = "exact"
[[metric]]
name = "accuracy"
checks = ["right"]
[recipe]
method = "sft"
"#;

fn folder(task: &str, train: &str, test: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("task.toml", task), ("train.jsonl", train), ("test.jsonl", test)] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn row(input: &str, expected: &str) -> String {
    serde_json::json!({"input": input, "expected": expected}).to_string() + "\n"
}

#[test]
fn a_task_is_loaded_and_its_parts_can_be_read() {
    let folder = folder(TASK, &row("a", "b"), &row("c", "d"));
    for path in [folder.path().to_owned(), folder.path().join("task.toml")] {
        let task = Task::load(&path).unwrap();
        let rows = task.test(&ReadOptions::default()).unwrap();
        let messages = task.messages(&rows.samples()[0]).unwrap();
        assert_eq!((messages[0].role, messages[0].content.as_str()), (Role::System, "Answer."));
        assert_eq!((messages[1].role, messages[1].content.as_str()), (Role::User, "c"));
        assert_eq!(task.completion(&rows.samples()[0]).unwrap(), "d");
        assert_eq!(task.recipe["method"].as_str(), Some("sft"));
        assert_eq!(task.max_new_tokens, 8);
        assert!(
            task.validation(&ReadOptions::default()).unwrap_err().to_string().contains("no validation split")
        );
    }
}

#[test]
fn the_same_input_on_both_sides_is_refused_from_either_side_unless_allowed() {
    let folder = folder(TASK, &(row("a", "b") + &row("c", "d")), &row("c", "d"));
    let task = Task::load(folder.path()).unwrap();
    let strict = ReadOptions::default();
    for error in [task.train(&strict).unwrap_err(), task.test(&strict).unwrap_err()] {
        let text = error.to_string();
        assert!(text.contains("train.jsonl:2") && text.contains("test.jsonl:1"), "{text}");
    }
    let allowed = ReadOptions { allow_leakage: true, ..strict };
    assert_eq!(task.eval_set(Split::Test, &allowed).unwrap().samples.len(), 1);
    let other = folder.path().join("other.jsonl");
    std::fs::write(&other, row("e", "f")).unwrap();
    let task = task.with_data(Split::Test, &other);
    assert_eq!(task.test(&strict).unwrap().samples()[0].input_text(), "e");
    assert_eq!(task.train(&strict).unwrap().samples().len(), 2, "the replaced file is what counts");
}

#[test]
fn mistakes_in_the_file_are_named_with_their_place() {
    for (from, to, parts) in [
        ("score = \"accuracy\"", "score = \"f1\"", &["score names no metric", "`f1`", "task.toml"][..]),
        ("max_new_tokens = 8", "max_tokens = 8", &["max_tokens", "task.toml:4"]),
        ("version = 1", "version = 2", &["another version", "expected 1, found 2"]),
        ("kind = \"exact\"", "kind = \"exactly\"", &["exactly", "task.toml:"]),
        (
            "system = \"Answer.\"",
            "system = \"{{ expected }}\"",
            &["`expected`", "system template, line 1", "task.toml"],
        ),
        ("name = \"t\"", "name = \" \"", &["lacks a name"]),
        ("max_new_tokens = 8", "max_new_tokens = 0", &["max_new_tokens"]),
        ("[data]", "[data", &["task.toml:8"]),
    ] {
        let folder = folder(&TASK.replace(from, to), "", "");
        let error = Task::load(folder.path()).expect_err(to).to_string();
        parts.iter().for_each(|part| assert!(error.contains(part), "{to}: {part}: {error}"));
    }
    let error = Task::load(Path::new("no/such/folder")).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    let folder = folder(TASK, &row("a", "b"), "");
    std::fs::remove_file(folder.path().join("train.jsonl")).unwrap();
    let error = Task::load(folder.path()).unwrap().train(&ReadOptions::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Data);
}

#[test]
fn the_prompt_fingerprint_follows_the_prompt() {
    let load = |text: &str| {
        let folder = folder(text, "", "");
        Task::load(folder.path()).unwrap().prompt_fingerprint().to_owned()
    };
    assert_eq!(load(TASK), load(&TASK.replace("method = \"sft\"", "method = \"dpo\"")));
    assert_ne!(load(TASK), load(&TASK.replace("Answer.", "Answer!")));
    assert_ne!(load(TASK), load(&TASK.replace("= 8", "= 9")));
}

fn shipped(name: &str) -> Task {
    Task::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tasks").join(name)).unwrap()
}

#[test]
fn invoices_is_whole_and_its_expected_answers_are_right() {
    let task = shipped("invoices");
    let strict = ReadOptions::default();
    let (train, validation, test) =
        (task.train(&strict).unwrap(), task.validation(&strict).unwrap(), task.test(&strict).unwrap());
    assert_eq!((train.samples().len(), validation.samples().len(), test.samples().len()), (355, 62, 100));
    for sample in train.samples().iter().chain(test.samples()) {
        let completion = task.completion(sample).unwrap();
        let verdicts = task.harness.judge(sample, &completion);
        assert!(
            verdicts.values().all(|verdict| verdict.number() == Some(1.0)),
            "{}: {verdicts:?}",
            sample.id
        );
    }
    let metrics: Vec<_> = task.harness.metrics().iter().map(|metric| metric.name.as_str()).collect();
    assert_eq!(metrics[..4], ["field_accuracy", "fields_byte_exact", "all_fields_right", "valid_json"]);
    assert_eq!(task.harness.score(), "field_accuracy");
}

#[test]
fn banking77_asks_with_all_sorted_intents() {
    let task = shipped("banking77");
    let strict = ReadOptions::default();
    let train = task.train(&strict).unwrap();
    assert_eq!((train.samples().len(), task.test(&strict).unwrap().samples().len()), (1995, 2570));
    let messages = task.messages(&train.samples()[0]).unwrap();
    let (instruction, list) = messages[0].content.split_once('\n').unwrap();
    let mut intents: Vec<String> = train.samples().iter().map(Sample::expected_text).collect();
    intents.sort_unstable();
    intents.dedup();
    assert_eq!(intents.len(), 77);
    assert_eq!(list, format!("Intents: {}", intents.join(", ")));
    assert!(instruction.ends_with("exactly one of these intents. Answer with the intent name only."));
    assert_eq!(messages[1].content, train.samples()[0].input_text());
    assert_eq!(task.max_new_tokens, 24);
}
