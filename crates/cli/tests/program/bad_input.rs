//! What is wrong is named, with what was expected and found and where, and every kind of fault has its exit code: 2 for a wrong
//! request, 3 for task and data, 4 for model files.

use super::home::{Home, rows};
use serde_json::{Value, json};
use std::path::Path;
use underdog_testkit::golden;

/// The error object on stdout has the facts that stderr shows.
#[test]
fn with_json_a_failure_is_one_object_too() {
    let done = Home::new().run("eval none --model TINY --json");
    done.fails(2, &["error: there is no task here", "expected", "hint"]);
    let error = &done.object()["error"];
    assert_eq!((error["kind"].as_str(), error["where"].as_str()), (Some("usage"), Some("none")));
    assert!(error["hint"].as_str().is_some() && error["expected"].as_str().is_some());
    let done = Home::new().run("eval task --json");
    done.fails(2, &["--model"]);
    assert_eq!(done.object()["error"]["kind"], "usage");
    for incomplete in ["--json", "models --json"] {
        let done = Home::new().run(incomplete);
        assert_eq!(done.fails(2, &[]).object()["error"]["what"], "the command lacks a verb");
    }
}

#[test]
fn wrong_requests_are_refused() {
    let home = Home::new();
    for (arguments, words) in [
        ("fly", vec!["fly"]),
        ("eval task", vec!["--model"]),
        ("eval task --model TINY --split dev", vec!["dev"]),
        ("eval task --model TINY --limit 0", vec!["limit", "1 or more"]),
        ("eval task --model nothing", vec!["catalogue", "nothing", "smollm2-135m-instruct"]),
        ("eval task --model openai:x", vec!["openai:x"]),
        ("eval task --model TINY --threads 0", vec!["--threads"]),
        ("eval task --model TINY --resume", vec!["to resume", "underdog-runs/numbers"]),
        ("train task --model TINY --set rnak=4", vec!["rnak", "rank"]),
        ("train task --model TINY --set rank", vec!["key=value"]),
        ("train task --model TINY --set lr=fast", vec!["fast"]),
        ("train task --model TINY --set precision=f8", vec!["precision", "f32", "f8"]),
        ("train task --model TINY+task", vec!["without an adapter"]),
        ("run task --model TINY --split train", vec!["validation or test"]),
        ("run task --model TINY+task", vec!["without an adapter"]),
    ] {
        home.run(arguments).fails(2, &words);
    }
    assert!(!home.path("underdog-runs/numbers/train-001").exists(), "a refused training leaves no folder");
}

#[test]
fn an_instruction_set_that_is_not_known_is_refused() {
    let home = Home::new();
    let with =
        |value: &str| home.end(home.start(home.command("models list --json").env("UNDERDOG_ISA", value)));
    for value in ["AVX2", "sse", "avx2 "] {
        let done = with(value);
        done.fails(2, &["UNDERDOG_ISA", "portable, avx2, avx512 or amx", value]);
        assert_eq!(done.object()["error"]["found"], value);
    }
    for value in ["portable", "avx2", "avx512", "amx", ""] {
        with(value).json();
    }
}

#[test]
fn a_folder_that_is_not_empty_is_left_alone() {
    let home = Home::new();
    home.write("mine/notes.txt", "keep");
    for verb in ["eval", "train", "run"] {
        home.run(&format!("{verb} task --model TINY --out mine"))
            .fails(2, &["not empty", "mine", "--resume", "--out"]);
    }
    assert_eq!(home.text("mine/notes.txt"), "keep");
    assert_eq!(std::fs::read_dir(home.path("mine")).unwrap().count(), 1);
}

/// A broken line, a missing field, an id twice and a null, each with its line.
#[test]
fn bad_rows_are_named_by_line_and_can_be_skipped() {
    let home = Home::new();
    for (bad, words) in [
        ("{\"input\": \"a\", \"expec", vec!["test.jsonl:3", "broken"]),
        ("[1, 2]", vec!["test.jsonl:3", "an array"]),
        ("{\"input\": \"a\"}", vec!["test.jsonl:3", "`expected` is missing"]),
        ("{\"input\": null, \"expected\": \"b\"}", vec!["test.jsonl:3", "`input` is null"]),
        (
            "{\"id\": \"row-30\", \"input\": \"a\", \"expected\": \"b\"}",
            vec!["test.jsonl:3", "`row-30` occurs twice", "line 1"],
        ),
    ] {
        home.write("task/test.jsonl", format!("{}{bad}\n{}", rows(30..32), rows(32..35)));
        home.run("eval task --model TINY").fails(3, &words).fails(3, &["--skip-bad-rows"]);
        let out = home.path("skipped");
        let done = home.run("eval task --model TINY --json --skip-bad-rows --out skipped");
        assert_eq!(done.json()["n"], 5, "the others are kept");
        assert!(
            done.stderr.contains("1 broken row") && done.stderr.contains("test.jsonl:3"),
            "counted: {}",
            done.stderr
        );
        std::fs::remove_dir_all(out).unwrap();
    }
    let done = home.run("run task --model TINY --skip-bad-rows --out r --json");
    done.json();
    let report: Value = serde_json::from_slice(&home.read("r/report.json")).unwrap();
    assert!(report["notes"].to_string().contains("1 broken row"), "the report says so: {}", report["notes"]);
}

#[test]
fn a_recipe_that_is_not_right_is_known_before_anything_is_measured() {
    let home = Home::new();
    home.write("task/task.toml", home.text("task/task.toml").replace("rank = 2", "rnak = 2"));
    for verb in ["eval", "train", "run"] {
        home.run(&format!("{verb} task --model TINY")).fails(2, &["`rnak`"]);
    }
}

#[test]
fn an_id_of_any_length_leaves_a_message_that_can_be_read() {
    let home = Home::new();
    let row = serde_json::json!({"id": "x".repeat(3_000), "input": "a", "expected": "b"});
    home.write("task/test.jsonl", format!("{row}\n{row}\n"));
    let done = home.run("eval task --model TINY");
    done.fails(3, &["occurs twice", "all with --json"]);
    assert!(done.stderr.chars().count() < 2_000);
    let done = home.run("eval task --model TINY --json");
    assert!(done.object()["error"]["what"].as_str().unwrap().chars().count() > 3_000);
}

#[test]
fn an_empty_or_missing_split_is_refused() {
    let home = Home::new();
    home.write("task/test.jsonl", "\n");
    home.run("eval task --model TINY").fails(3, &["no samples", "test.jsonl"]);
    home.run("eval task --model TINY --data none.jsonl").fails(3, &["none.jsonl", "does not exist"]);
    home.run("eval task --model TINY --data task").fails(3, &["a file of JSON Lines", "a folder"]);
    home.write("table.csv", "question,answer\nwhat is 1,one\n");
    home.run("eval task --model TINY --data table.csv")
        .fails(3, &["table.csv:1", "one JSON object a line", "`question,answer`"]);
    home.write("task/train.jsonl", "");
    home.run("train task --model TINY --allow-leakage").fails(3, &["no samples", "train.jsonl"]);
    let toml = home.text("task/task.toml").replace("validation = \"validation.jsonl\"\n", "");
    home.write("task/task.toml", toml);
    home.run("eval task --model TINY --split validation").fails(2, &["no validation split"]);
}

#[test]
fn a_task_file_that_is_wrong_is_named_by_line() {
    let home = Home::new();
    let right = home.text("task/task.toml");
    for (from, to, words) in [
        ("score = \"right\"", "score = \"left\"", vec!["`left`", "right"]),
        ("max_new_tokens = 8", "max_new_token = 8", vec!["task.toml:4", "max_new_token"]),
        ("kind = \"exact\"", "kind = \"nearly\"", vec!["nearly"]),
        ("version = 1", "version = 9", vec!["9"]),
        ("[prompt]", "[prompt", vec!["task.toml:6"]),
        ("system = \"Write", "user = \"{{ input }\"\nsystem = \"Write", vec!["task.toml"]),
    ] {
        home.write("task/task.toml", right.replace(from, to));
        home.run("eval task --model TINY").fails(3, &words);
    }
}

#[test]
fn the_same_input_in_train_and_test_is_refused_unless_allowed() {
    let home = Home::new();
    home.write("task/test.jsonl", format!("{}{}", rows(30..33), rows(5..6)));
    for verb in ["eval", "train", "run"] {
        let done = home.run(&format!("{verb} task --model TINY"));
        done.fails(3, &["train.jsonl:6", "test.jsonl:4", "1 in common", "--allow-leakage"]);
    }
    assert_eq!(home.run("eval task --model TINY --allow-leakage --json").json()["n"], 4);
}

#[test]
fn a_prompt_longer_than_the_context_is_wrong_in_eval_and_named_in_train() {
    let home = Home::new();
    let long = json!({"id": "novel", "input": "number ".repeat(700), "expected": "answer"});
    home.write("task/test.jsonl", format!("{}{long}\n", rows(30..33)));
    let object = home.run("eval task --model TINY --json --out e").json();
    assert_eq!(
        (object["n"].as_u64(), object["metrics"]["answered"]["value"].as_f64()),
        (Some(4), Some(0.75))
    );
    assert_eq!(object["metrics"]["right"]["n"], 4, "it counts as wrong");
    let record = home.text("e/record.jsonl");
    let row = record.lines().find(|line| line.contains("novel")).unwrap();
    assert!(row.contains("does not fit the model's context") && row.contains("no answer"), "{row}");
    home.write(
        "task/train.jsonl",
        format!("{}{}\n", rows(0..4), long.to_string().replace("answer", "other")),
    );
    let done = home.run("train task --model TINY --allow-leakage --out t");
    done.fails(3, &["`novel`", "at most 512 tokens", "1 longer row"]);
    assert!(!home.path("t").exists());
}

#[test]
fn a_check_of_a_field_that_no_row_has_is_refused_before_a_model_is_opened() {
    let home = Home::new();
    let check = "[[check]]\nname = \"field\"\nkind = \"field_exact\"\nfields = [\"totl\"]\n";
    home.write("task/task.toml", format!("{}\n{check}", home.text("task/task.toml")));
    for verb in ["eval", "run"] {
        home.run(&format!("{verb} task --model none.gguf")).fails(3, &["`field`", "`totl`", "test.jsonl"]);
    }
}

#[test]
fn broken_model_files_are_refused() {
    let home = Home::new();
    let gguf = std::fs::read(golden("tokens/tiny-smollm.gguf")).unwrap();
    home.write("half.gguf", &gguf[..gguf.len() / 2]);
    home.write("text.gguf", "hello");
    home.run("eval task --model half.gguf").fails(4, &["half.gguf"]);
    home.run("models inspect text.gguf").fails(4, &["text.gguf"]);
    home.run("chat none.gguf").fails(4, &["does not exist", "none.gguf"]);
    let model = home.copy_of_tiny("model");
    let change = |from: &str, to: &str| {
        let config = std::fs::read_to_string(Path::new(&super::home::tiny()).join("config.json")).unwrap();
        assert!(config.contains(from));
        std::fs::write(model.join("config.json"), config.replace(from, to)).unwrap();
    };
    change("\"model_type\": \"llama\"", "\"model_type\": \"mamba\"");
    home.run("eval task --model model").fails(4, &["mamba", "config.json"]);
    change("\"rope_type\": \"default\"", "\"rope_type\": \"spiral\"");
    home.run("eval task --model model").fails(4, &["spiral"]);
    change("\"hidden_size\": 64", "\"hidden_size\": 4611686018427387904");
    home.run("eval task --model model").fails(4, &["model"]);
    change("\"hidden_size\": 64", "\"hidden_size\": 64");
    let weights = std::fs::read(model.join("model.safetensors")).unwrap();
    std::fs::write(model.join("model.safetensors"), &weights[..weights.len() - 100]).unwrap();
    home.run("eval task --model model").fails(4, &["model.safetensors"]);
}

#[test]
fn an_adapter_for_another_base_is_refused() {
    let home = Home::new();
    home.run("train task --model TINY --out t --json").json();
    let model = home.copy_of_tiny("other");
    let mut weights = std::fs::read(model.join("model.safetensors")).unwrap();
    let last = weights.len() - 1;
    weights[last] ^= 1;
    std::fs::write(model.join("model.safetensors"), weights).unwrap();
    home.run("eval task --model other+t/adapter").fails(4, &["another base", "fingerprint", "t/adapter"]);
    let weights = home.read("t/adapter/adapter_model.safetensors");
    home.write("t/adapter/adapter_model.safetensors", &weights[..weights.len() / 2]);
    home.run("eval task --model TINY+t/adapter").fails(4, &["broken", "adapter_model.safetensors"]);
    home.run("eval task --model TINY+none").fails(4, &["none"]);
}

#[test]
fn a_resume_takes_up_only_what_was_begun() {
    let home = Home::new();
    home.run("train task --model TINY --out t --json").json();
    home.run("train task --model TINY --out t --resume --set lr=1e-5")
        .fails(4, &["another run", "t/checkpoints"]);
    home.run("eval task --model TINY --out e --json").json();
    home.run("eval task --model TINY --out e --resume --limit 3").fails(2, &["another", "e/record.jsonl"]);
    // A checkpoint names the harness of the task and is not bound to it.
    let header: Value = serde_json::from_str(home.text("e/record.jsonl").lines().next().unwrap()).unwrap();
    let state: Value = serde_json::from_slice(&home.read("t/checkpoints/step-000006/state.json")).unwrap();
    assert!(state["harness_fingerprint"].is_string(), "{state}");
    assert_eq!(state["harness_fingerprint"], header["harness_fingerprint"]);
    home.write("task/task.toml", home.text("task/task.toml").replace("\"word\"", "\"same\""));
    home.run("train task --model TINY --out t --resume --json").json();
    std::fs::remove_dir_all(home.path("t/checkpoints")).unwrap();
    home.run("train task --model TINY --out t --resume --set lr=1e-5")
        .fails(2, &["finished adapter", "t/adapter"]);
}
