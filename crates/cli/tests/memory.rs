//! The planned peak of a training against the peak that it really has, with a real model in every precision.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

#[path = "../../model/tests/common/mod.rs"]
mod common;

const TASK: &str = r#"
version = 1
name = "planned"
max_new_tokens = 8
score = "right"
[prompt]
[data]
train = "train.jsonl"
test = "test.jsonl"
[[check]]
name = "word"
kind = "exact"
[[metric]]
name = "right"
checks = ["word"]
[recipe]
batch = 4
steps = 1
"#;

fn object(folder: &Path, model: &Path, arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_underdog"));
    command.current_dir(folder).args(["train", "task", "--json", "--model"]).arg(model).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_planned_peak_is_near_the_real_one() {
    let Some(model) = common::weights("smollm2-135m-instruct") else { return };
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        std::fs::create_dir_all(folder.path().join("task")).unwrap();
        std::fs::write(folder.path().join("task").join(name), text).unwrap();
    };
    let row = |i: usize| {
        let input = format!("{i} times the quick brown fox jumps over the lazy dog. ").repeat(12);
        format!("{}\n", json!({"id": i.to_string(), "input": input, "expected": format!("fox {i}")}))
    };
    write("task.toml", TASK.into());
    write("train.jsonl", (0..8).map(row).collect());
    write("test.jsonl", (8..9).map(row).collect());
    let mut out = 0;
    let precisions = ["f32", "auto", "native"].map(|precision| format!("precision={precision}"));
    for (precision, memory) in precisions.iter().flat_map(|p| [(p, "memory_mib=100"), (p, "memory_mib=768")])
    {
        let set = ["--set", precision, "--set", memory];
        let mib = |value: &Value, key: &str| value[key].as_u64().unwrap() as f64;
        let planned =
            mib(&object(folder.path(), &model, &[&set[..], &["--preview"]].concat()), "planned_peak_mib");
        out += 1;
        let folder_of_run = format!("run-{out}");
        let real = object(folder.path(), &model, &[&set[..], &["--out", &folder_of_run]].concat());
        if real["peak_rss_mib"].is_null() {
            return;
        }
        let ratio = planned / mib(&real, "peak_rss_mib");
        eprintln!("{set:?}: planned {planned} MiB, {ratio:.2} of the real peak");
        assert!((1.0..1.35).contains(&ratio), "{set:?}: planned {planned} MiB, {ratio:.2} of the real peak");
    }
}
