//! For the tests of this crate: a small task in a temporary folder and evaluations of it by the mock.

use crate::mock::MockModel;
use crate::runner::{EvalSettings, Evaluation, evaluate};
use crate::split::{EvalSet, ReadOptions, Split};
use crate::task::Task;
use std::ops::ControlFlow;
use std::path::Path;

pub const TASK: &str = r#"
version = 1
name = "receipts"
description = "Two fields."
max_new_tokens = 30
score = "fields"
[prompt]
system = "Extract."
[data]
test = "test.jsonl"
[[check]]
name = "valid"
kind = "json_valid"
[[check]]
name = "field"
kind = "field_exact"
fields = ["a", "b"]
[[metric]]
name = "fields"
description = "Fields right"
checks = ["field.*"]
[[metric]]
name = "valid"
checks = ["valid"]
"#;

/// A task of `n` samples with inputs `input 0`, … and expected `{"a": "a0", "b": "b0"}`, ….
pub fn task(folder: &Path, n: usize) -> (Task, EvalSet) {
    let rows: String = (0..n)
        .map(|i| {
            format!(
                "{{\"id\":\"r{i}\",\"input\":\"input {i}\",\"expected\":{{\"a\":\"a{i}\",\"b\":\"b{i}\"}}}}\n"
            )
        })
        .collect();
    std::fs::write(folder.join("task.toml"), TASK).unwrap();
    std::fs::write(folder.join("test.jsonl"), rows).unwrap();
    let task = Task::load(folder).unwrap();
    let set = task.eval_set(Split::Test, &ReadOptions::default()).unwrap();
    (task, set)
}

pub fn settings(record: &Path) -> EvalSettings {
    EvalSettings { record_path: record.to_owned(), resume: false, limit: None, seed: 1 }
}

/// Measures `model` to the end.
pub fn measure(task: &Task, set: &EvalSet, model: &mut MockModel, record: &Path) -> Evaluation {
    evaluate(task, set, model, &settings(record), &mut |_| ControlFlow::Continue(())).unwrap()
}

/// A mock that gets `right` of the `n` samples of [`task`] right and answers `no` to the others.
pub fn mock(task: &Task, set: &EvalSet, right: impl Fn(usize) -> bool) -> MockModel {
    let mut model = MockModel::expected(task, &set.samples).unwrap();
    for i in (0..set.samples.len()).filter(|&i| !right(i)) {
        model = model.answering(&format!("input {i}"), "no");
    }
    model
}

/// An embedder that counts the letters a to h.
pub(crate) struct Letters;

impl crate::embedder::Embedder for Letters {
    fn identity(&self) -> crate::model::Identity {
        crate::model::Identity { name: "letters".into(), fingerprint: "1".into() }
    }

    fn embed(&mut self, texts: &[&str]) -> crate::Result<Vec<Vec<f32>>> {
        let count = |text: &str, letter: char| text.matches(letter).count() as f32;
        let vector = |text: &&str| {
            let counts: Vec<f32> = ('a'..='h').map(|letter| count(text, letter)).collect();
            let length = counts.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-9);
            counts.into_iter().map(|x| x / length).collect()
        };
        Ok(texts.iter().map(vector).collect())
    }
}
