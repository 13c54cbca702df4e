//! The tasks that come with the source: every folder in `tasks/` is whole, its SOURCE.md speaks of the files that are there, and
//! its harness gives the expected answers the highest score and nothing the lowest.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use underdog_eval::embedder::{Embedder, SharedEmbedder};
use underdog_eval::mock::MockModel;
use underdog_eval::model::Identity;
use underdog_eval::split::{EvalSet, ReadOptions};
use underdog_eval::{EvalSettings, Evaluation, Split, Task, evaluate};

const SPLITS: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

fn folders() -> Vec<PathBuf> {
    let tasks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tasks");
    let entries = std::fs::read_dir(tasks).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(folders.len() >= 9, "{folders:?}");
    folders
}

/// Stands for an encoder: the same text is the same in meaning, and no other is.
struct SameText;

impl Embedder for SameText {
    fn identity(&self) -> Identity {
        Identity { name: "same-text".into(), fingerprint: "1".into() }
    }

    fn embed(&mut self, texts: &[&str]) -> underdog_eval::Result<Vec<Vec<f32>>> {
        let vector = |text: &&str| {
            let sum = Sha256::digest(text.as_bytes());
            let mut vector = vec![0.0; 1 << 12];
            vector[usize::from(sum[0]) << 4 | usize::from(sum[1]) >> 4] = 1.0;
            vector
        };
        Ok(texts.iter().map(vector).collect())
    }
}

fn load(folder: &Path) -> Task {
    let task = Task::load(folder).unwrap();
    let encoder: SharedEmbedder = Arc::new(Mutex::new(SameText));
    for name in task.harness.missing_embedders() {
        task.harness.attach(name, &encoder);
    }
    task
}

fn rows(task: &Task, split: Split) -> EvalSet {
    task.eval_set(split, &ReadOptions::default()).unwrap_or_else(|error| panic!("{}: {error}", task.name))
}

fn measure(task: &Task, split: Split, model: &mut MockModel) -> Evaluation {
    let folder = tempfile::tempdir().unwrap();
    let settings =
        EvalSettings { record_path: folder.path().join("r.jsonl"), resume: false, limit: None, seed: 1 };
    evaluate(task, &rows(task, split), model, &settings, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// On all rows of all splits, by every metric, so that no row holds against a model what people themselves wrote.
#[test]
fn the_expected_answers_score_the_highest_in_every_task() {
    for folder in folders() {
        let task = load(&folder);
        for split in SPLITS {
            let set = rows(&task, split);
            let mut oracle = MockModel::expected(&task, &set.samples).unwrap();
            let evaluation = measure(&task, split, &mut oracle);
            let place = format!("{} {}", task.name, split.name());
            for sample in &evaluation.samples {
                let wrong = sample.verdicts.iter().find(|(_, verdict)| verdict.number() != Some(1.0));
                assert!(wrong.is_none(), "{place} {}: {wrong:?}", sample.id);
            }
            assert_eq!(evaluation.score, Some(1.0), "{place}");
            for (name, estimate) in &evaluation.metrics {
                assert_eq!((estimate.value, estimate.missing), (Some(1.0), 0), "{place}: {name}");
            }
            assert_eq!(evaluation.n, set.samples.len());
        }
    }
}

#[test]
fn an_empty_answer_scores_nothing_in_any_task() {
    for folder in folders() {
        let task = load(&folder);
        let evaluation = measure(&task, Split::Validation, &mut MockModel::constant("nothing", ""));
        assert_eq!(evaluation.score, Some(0.0), "{}", task.name);
    }
}

/// The way to state every fact without writing anything.
#[test]
fn repeating_the_facts_is_no_product_copy() {
    let folder = folders().into_iter().find(|folder| folder.ends_with("product-copy")).unwrap();
    let task = Task::load(&folder).unwrap();
    let set = rows(&task, Split::Validation);
    let answers: HashMap<String, String> =
        set.samples.iter().map(|sample| (sample.input_text(), sample.input_text())).collect();
    let evaluation = measure(&task, Split::Validation, &mut MockModel::table("echo", answers));
    assert_eq!(evaluation.score, Some(0.0));
    assert!(evaluation.metrics["facts"].value > Some(0.8), "{:?}", evaluation.metrics["facts"]);
}

/// Rows that resemble each other by their origin lie in one split, and comparisons see them as a group.
#[test]
fn no_group_is_in_two_splits() {
    for folder in folders() {
        let task = Task::load(&folder).unwrap();
        let mut split_of: BTreeMap<String, &str> = BTreeMap::new();
        for split in SPLITS {
            for sample in rows(&task, split).samples {
                let Some(group) = sample.meta.get("group") else { continue };
                let first = *split_of.entry(group.to_string()).or_insert(split.name());
                assert_eq!(first, split.name(), "{}: {group}", task.name);
            }
        }
        let grouped = ["invoices", "plain-english"].contains(&task.name.as_str());
        assert_eq!(!split_of.is_empty(), grouped, "{}", task.name);
    }
}

/// The table of SOURCE.md names each data file with its rows and its bytes, and the licence stands there.
#[test]
fn every_source_file_speaks_of_the_files_that_are_there() {
    for folder in folders() {
        let task = Task::load(&folder).unwrap();
        assert_eq!(folder.file_name().unwrap().to_str(), Some(task.name.as_str()));
        let source = std::fs::read_to_string(folder.join("SOURCE.md")).unwrap();
        assert!(source.contains("**Licence:**") && source.contains("**Changed:**"), "{}", task.name);
        for split in SPLITS {
            let file = task.data_file(split).unwrap();
            let bytes = std::fs::read(file).unwrap();
            let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
            let sum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            let name = file.file_name().unwrap().to_str().unwrap();
            let line = format!("| `{name}` | {} | {lines} | {sum} |", split.name());
            assert!(source.contains(&line), "{}: {line}", task.name);
        }
    }
}
