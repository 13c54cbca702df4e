//! What the verbs print and write when all is well: `--json` is one object with the fields that scripts rely on.

use super::home::{Home, rows};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const EVAL: &str = "task candidate split n score metrics rows_per_s prompt_tokens computed_tokens new_tokens seconds \
                    peak_rss_mib record";
const TRAIN: &str = "method steps rows epochs rows_per_s flat_tokens tree_tokens seconds loss_first loss_last peak_rss_mib adapter";
const METRICS: &str =
    "step epoch loss grad_norm learning_rate mean_token_accuracy num_tokens tree_tokens seconds";

fn has_exactly(object: &Value, keys: &str) {
    let found: BTreeSet<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(found, keys.split_whitespace().collect());
}

/// The ids in a record, in the order of the file's rows.
fn ids(home: &Home, record: &str) -> Vec<usize> {
    let id = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        row["id"].as_str().unwrap().trim_start_matches("row-").parse().unwrap()
    };
    let mut ids: Vec<usize> = home.text(record).lines().skip(1).map(id).collect();
    ids.sort();
    ids
}

#[test]
fn eval_prints_one_object_and_keeps_every_sample() {
    let home = Home::new();
    let done = home.run("eval task --model TINY --out e --json");
    let object = done.json();
    has_exactly(&object, EVAL);
    assert_eq!(
        (object["task"].as_str(), object["split"].as_str(), object["n"].as_u64()),
        (Some("numbers"), Some("test"), Some(12))
    );
    for name in ["right", "answered"] {
        has_exactly(&object["metrics"][name], "value low high n");
        assert_eq!(object["metrics"][name]["n"], 12);
    }
    assert_eq!(object["metrics"]["answered"]["value"], 1.0);
    assert_eq!(object["score"], object["metrics"]["right"]["value"]);
    assert!(
        object["computed_tokens"].as_u64() < object["prompt_tokens"].as_u64(),
        "the system prompt is computed once"
    );
    assert_eq!(object["record"], "e/record.jsonl");
    assert_eq!(ids(&home, "e/record.jsonl"), (30..42).collect::<Vec<_>>());
    assert!(done.stderr.contains("12/12"), "progress is on stderr: {}", done.stderr);
}

#[test]
fn train_prints_one_object_and_writes_an_adapter_that_eval_takes() {
    let home = Home::new();
    let object = home.run("train task --model TINY --out t --json --set steps=12 --set rank=4").json();
    has_exactly(&object, TRAIN);
    assert_eq!(
        (object["method"].as_str(), object["steps"].as_u64(), object["rows"].as_u64()),
        (Some("sft"), Some(12), Some(8))
    );
    assert_eq!(object["epochs"], 6.0);
    assert!(object["loss_last"].as_f64() < object["loss_first"].as_f64(), "{object}");
    assert!(object["tree_tokens"].as_u64() < object["flat_tokens"].as_u64(), "{object}");
    let metrics: Vec<Value> =
        home.text("t/metrics.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(metrics.len(), 12);
    metrics.iter().for_each(|line| has_exactly(line, METRICS));
    assert_eq!(metrics[11]["loss"], object["loss_last"]);
    let config: Value = serde_json::from_slice(&home.read("t/adapter/adapter_config.json")).unwrap();
    assert_eq!((config["peft_type"].as_str(), config["r"].as_u64()), (Some("LORA"), Some(4)));
    let base = home.run("eval task --model TINY --out base --split train --json").json();
    let tuned = home.run("eval task --model TINY+t/adapter --out tuned --split train --json").json();
    assert!(tuned["candidate"].as_str().unwrap().ends_with("+t/adapter"));
    assert_ne!(home.text("base/record.jsonl"), home.text("tuned/record.jsonl"));
    assert_eq!(base["n"], tuned["n"]);
    let inspected = home.run("models inspect TINY+t/adapter --json").json();
    assert_eq!((&inspected["architecture"], &inspected["adapter_rank"]), (&json!("llama"), &json!(4)));
    let weights = home.read("t/adapter/adapter_model.safetensors").len() as u64;
    let numbers = inspected["adapter_parameters"].as_u64().unwrap();
    assert!((4 * numbers..5 * numbers).contains(&weights), "{inspected}, {weights} bytes");
}

#[test]
fn run_learns_the_task_and_reports_it() {
    let home = Home::new();
    // Measured on the rows it learns from: the tiny model cannot do more than learn by heart.
    let arguments =
        "run task --model TINY --data task/train.jsonl --allow-leakage --set steps=150 --out r --json";
    let object = home.run(arguments).json();
    has_exactly(&object, "task report candidates train claims");
    has_exactly(&object["candidates"], "base tuned majority");
    has_exactly(&object["candidates"]["base"], EVAL);
    has_exactly(&object["candidates"]["tuned"], EVAL);
    has_exactly(&object["train"], TRAIN);
    assert_eq!(object["candidates"]["base"]["score"], 0.0);
    assert_eq!(object["candidates"]["tuned"]["score"], 1.0, "eight rows are learnt by heart in 150 steps");
    // However clear the difference: it is measured on what was learnt.
    assert_eq!(object["claims"][0]["supported"], false, "{}", object["claims"]);
    let sentence = object["claims"][0]["sentence"].as_str().unwrap();
    assert!(sentence.contains("8 of the 8 measured inputs stand in the training rows"), "{sentence}");
    assert_eq!(object["report"], "r/report.html");
    let page = home.text("r/report.html");
    assert!(
        page.contains(object["claims"][0]["sentence"].as_str().unwrap().split(':').next().unwrap()),
        "{page}"
    );
    let report: Value = serde_json::from_slice(&home.read("r/report.json")).unwrap();
    assert_eq!(report["claims"], object["claims"]);
    assert_eq!(report["loss_curve"].as_array().unwrap().len(), 150);
    assert!(report["notes"].to_string().contains("8 of the 8 measured inputs"), "{}", report["notes"]);
    assert!(report["notes"].to_string().contains("were allowed"), "{}", report["notes"]);
    let again = report["commands"][0]["command"].as_str().unwrap();
    assert!(again.contains("--allow-leakage") && again.contains("--set steps=150"), "{again}");
    assert!(again.contains(" --set precision="), "the one that was used: {again}");
}

#[test]
fn allowed_but_absent_leakage_does_not_take_a_claim_away() {
    let home = Home::new();
    let object = home.run("run task --model TINY --allow-leakage --set steps=1 --out r --json").json();
    let sentence = object["claims"][0]["sentence"].as_str().unwrap();
    assert!(!sentence.contains("training rows"), "{sentence}");
    let report: Value = serde_json::from_slice(&home.read("r/report.json")).unwrap();
    assert!(!report["notes"].to_string().contains("measured inputs stand"), "{}", report["notes"]);
}

#[test]
fn a_stage_that_was_finished_earlier_has_no_memory_of_its_own() {
    let home = Home::new();
    let run = "run task --model TINY --set steps=2 --out r --json";
    let first = home.run(run).json();
    let again = home.run(&format!("{run} --resume")).json();
    for path in ["/candidates/base/peak_rss_mib", "/train/peak_rss_mib", "/candidates/tuned/peak_rss_mib"] {
        assert!(first.pointer(path).unwrap().as_f64() > Some(0.0), "{path}");
        assert!(again.pointer(path).unwrap().is_null(), "{path}: {again}");
    }
    assert_eq!(again["train"]["seconds"], first["train"]["seconds"]);
    assert_eq!(again["candidates"]["tuned"]["seconds"], first["candidates"]["tuned"]["seconds"]);
}

#[test]
fn the_commands_in_the_report_give_the_same_score_again() {
    let home = Home::new();
    let object =
        home.run("run task --model TINY --split validation --limit 3 --set seed=5 --out r --json").json();
    let report: Value = serde_json::from_slice(&home.read("r/report.json")).unwrap();
    let command = report["commands"][1]["command"].as_str().unwrap();
    let again =
        home.run(&format!("{} --json --out again", command.strip_prefix("underdog ").unwrap())).json();
    assert_eq!(again["metrics"], object["candidates"]["tuned"]["metrics"]);
    assert_eq!(ids(&home, "again/record.jsonl"), ids(&home, "r/tuned.jsonl"));
}

#[test]
fn with_other_training_rows_the_command_looks_for_leakage_in_those() {
    let home = Home::new();
    home.write("mine.jsonl", rows(50..58));
    // These rows are the task's own training rows, but nothing was trained on them.
    let data = "--data task/train.jsonl --train-data mine.jsonl --set steps=1";
    let object = home.run(&format!("run task --model TINY {data} --out r --json")).json();
    let report: Value = serde_json::from_slice(&home.read("r/report.json")).unwrap();
    let command = report["commands"][1]["command"].as_str().unwrap().strip_prefix("underdog ").unwrap();
    let again = home.run(&format!("{command} --json --out again")).json();
    assert_eq!(again["metrics"], object["candidates"]["tuned"]["metrics"]);
    let without = command.replace(" --train-data mine.jsonl", "");
    home.run(&without).fails(3, &["8 in common"]);
}

#[test]
fn without_json_the_score_card_is_on_stdout_and_talk_on_stderr() {
    let home = Home::new();
    let done = home.run("run task --model TINY --out r");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    for text in ["right", "base", "tuned", "95 % interval", "may be claimed", "r/report.html", "loss "] {
        assert!(done.stdout.contains(text), "`{text}` is not in:\n{}", done.stdout);
    }
    assert!(done.stderr.contains("8 rows to learn from"), "{}", done.stderr);
}

#[test]
fn the_other_verbs_print_one_object_too() {
    let home = Home::new();
    let list = home.run("models list --json").json();
    let names: Vec<&str> =
        list["models"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"smollm2-135m-instruct") && names.contains(&"gemma-3-270m"), "{names:?}");
    assert!(list["models"][0]["path"].is_null(), "the cache of the test is empty");
    let inspected = home.run("models inspect TINY --json").json();
    assert_eq!(inspected["architecture"], "llama");
    let encoder = underdog_testkit::golden("models/tiny-bert").display().to_string();
    let inspected = home.run(&format!("models inspect {encoder} --json")).json();
    has_exactly(&inspected, "format architecture layers width heads ffn vocab context bytes fingerprint");
    assert_eq!(inspected["architecture"], "bert");
    let text = home.run(&format!("models inspect {encoder}")).stdout;
    assert!(text.lines().any(|line| line == "architecture       bert"), "{text}");
    let answer = home.run_with("chat TINY --max-new-tokens 5 --json", "hello").json();
    has_exactly(&answer, "model text finish prompt_tokens new_tokens seconds");
    assert!(answer["new_tokens"].as_u64().unwrap() <= 6);
    let text = home.run_with("chat TINY --max-new-tokens 5", "hello");
    assert_eq!(text.stdout.trim_end_matches('\n'), answer["text"].as_str().unwrap().trim_end_matches('\n'));
}

#[test]
fn a_limit_is_a_seeded_random_sample() {
    let home = Home::new();
    home.write("many.jsonl", rows(0..60));
    let picked = |seed: u64, out: &str| {
        let arguments = format!(
            "eval task --model TINY --data many.jsonl --allow-leakage --limit 6 --seed {seed} --json --out {out}"
        );
        assert_eq!(home.run(&arguments).json()["n"], 6);
        ids(&home, &format!("{out}/record.jsonl"))
    };
    let first = picked(0, "a");
    assert_eq!(first, picked(0, "b"), "the same seed gives the same rows");
    assert_ne!(first, picked(1, "c"));
    assert_ne!(first, (0..6).collect::<Vec<_>>(), "not the first rows");
    assert!(first.iter().any(|&id| id >= 30), "from the whole file: {first:?}");
}

#[test]
fn preview_shows_what_carries_loss_and_writes_nothing() {
    let home = Home::new();
    let done = home.run("train task --model TINY --preview");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(done.stdout.matches("── row-").count(), 3, "{}", done.stdout);
    let marked: String = done
        .stdout
        .split("── ")
        .nth(1)
        .unwrap()
        .split('⟦')
        .skip(1)
        .map(|part| part.split('⟧').next().unwrap())
        .collect();
    assert_eq!(marked, "answer 0<|im_end|>", "the completion and the end of the turn, and nothing else");
    assert!(done.stdout.contains("Write the number as a word."));
    let object = home.run("train task --model TINY --preview --json").json();
    assert_eq!((object["rows"].as_u64(), object["preview"].as_array().unwrap().len()), (Some(8), 3));
    assert!(!home.path("underdog-runs").exists());
}

#[test]
fn runs_get_folders_of_their_own() {
    let home = Home::new();
    let record = |_| home.run("eval task --model TINY --json").json()["record"].as_str().unwrap().to_string();
    let records: Vec<String> = (0..2).map(record).collect();
    assert_eq!(
        records,
        ["underdog-runs/numbers/eval-001/record.jsonl", "underdog-runs/numbers/eval-002/record.jsonl"]
    );
}

#[test]
fn the_same_training_gives_the_same_bytes_on_any_number_of_threads() {
    let home = Home::new();
    for (out, threads) in [("a", 1), ("b", 2), ("c", 2)] {
        home.run(&format!("train task --model TINY --json --out {out} --threads {threads}")).json();
    }
    let weights = |out: &str| home.read(&format!("{out}/adapter/adapter_model.safetensors"));
    assert_eq!(weights("b"), weights("c"));
    assert_eq!(weights("a"), weights("b"), "the tiny model's sums do not depend on threads");
}

#[test]
fn baselines_are_measured_like_any_candidate_and_by_a_run() {
    let home = Home::new();
    home.write(
        "task/train.jsonl",
        (0..8)
            .map(|i| format!("{{\"input\": \"n{i}\", \"expected\": \"answer {}\"}}\n", [30, 31][i / 5]))
            .collect::<String>(),
    );
    let object = home.run("eval task --model majority --out m --json").json();
    has_exactly(&object, EVAL);
    assert_eq!(
        (object["candidate"].as_str(), object["score"].as_f64()),
        (Some("majority"), Some(1.0 / 12.0))
    );
    let tiny = underdog_testkit::golden("models/tiny-bert");
    for kind in ["nearest", "linear"] {
        let name = format!("{kind}:{}", tiny.display());
        let object = home.run(&format!("eval task --model {name} --out {kind} --json")).json();
        assert_eq!(object["candidate"], name);
        assert_eq!(object["metrics"]["answered"]["value"], 1.0);
    }
    home.run("eval task --model nearest:no-such-encoder --out x").fails(2, &["no-such-encoder"]);
    home.run("eval task --model majority --shots 2 --out x").fails(2, &["takes no examples"]);
    home.run("eval task --model TINY?shots=x --out x").fails(2, &["?shots="]);
    let run = "run task --model TINY --set steps=1 --out r --json";
    let object = home.run(run).json();
    assert_eq!(object["candidates"]["majority"]["score"], 1.0 / 12.0);
    assert_eq!(home.lines("r/majority.jsonl"), 13);
    let report: Value = serde_json::from_slice(&home.read("r/report.json")).unwrap();
    let notes = report["notes"].to_string();
    assert!(notes.contains("nearest and linear were left out") && notes.contains("models pull"), "{notes}");
    assert!(
        object["candidates"]["constrained"]["candidate"].as_str().unwrap().ends_with("?constrain=labels")
    );
    let bare = home.run("run task --model TINY --set steps=1 --no-baselines --out b --json").json();
    has_exactly(&bare["candidates"], "base tuned");
}

#[test]
fn a_similarity_check_gets_its_encoder_from_the_program() {
    let home = Home::new();
    let tiny = underdog_testkit::golden("models/tiny-bert");
    let task = home
        .text("task/task.toml")
        .replace("kind = \"exact\"", &format!("kind = \"similarity\"\nembedder = '{}'", tiny.display()));
    home.write("task/task.toml", &task);
    let object = home.run("eval task --model majority --out m --json").json();
    let score = object["score"].as_f64().unwrap();
    assert!((0.1..1.0).contains(&score), "{object}");
    home.write("task/task.toml", task.replace(&tiny.display().to_string(), "no-such-encoder"));
    home.run("eval task --model majority --out x").fails(2, &["no-such-encoder"]);
}

#[test]
fn constrained_answers_are_labels_of_the_training_rows() {
    let home = Home::new();
    let row = |i: usize| format!("{{\"input\": \"n{i}\", \"expected\": \"answer {}\"}}\n", [30, 31][i % 2]);
    home.write("task/train.jsonl", (0..8).map(row).collect::<String>());
    let object = home.run("eval task --model TINY --constrain auto --out c --json").json();
    assert!(object["candidate"].as_str().unwrap().ends_with("?constrain=labels"), "{object}");
    let record = home.text("c/record.jsonl");
    let outputs: Vec<Value> =
        record.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(outputs.len(), 12);
    for line in &outputs {
        assert!(["answer 30", "answer 31"].contains(&line["output"].as_str().unwrap()), "{line}");
    }
    let again = home.run("eval task --model TINY?constrain=labels --out d --json").json();
    assert_eq!(again["metrics"], object["metrics"]);
    home.run("eval task --model TINY --constrain schema --out x").fails(2, &["json_schema"]);
    home.run("eval task --model TINY --constrain words --out x").fails(2, &["labels, schema or auto"]);
}

/// With the tiny model, whose context most inputs do not fit: what is measured does not matter, that it is does.
#[test]
fn every_task_that_comes_with_the_source_can_be_measured() {
    let home = Home::new();
    let tasks = std::fs::canonicalize(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tasks")).unwrap();
    let mut folders: Vec<_> = std::fs::read_dir(tasks).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 9, "{folders:?}");
    let encoder = underdog_testkit::golden("models/tiny-bert");
    for folder in folders {
        let name = folder.file_name().unwrap().to_str().unwrap();
        // Where meaning is compared, a tiny encoder does it here.
        let text = std::fs::read_to_string(folder.join("task.toml")).unwrap();
        let with_tiny = format!("kind = \"similarity\"\nembedder = '{}'", encoder.display());
        home.write(&format!("{name}-task/task.toml"), text.replace("kind = \"similarity\"", &with_tiny));
        for file in ["dev.jsonl", "train.jsonl", "test_public.jsonl"] {
            home.write(&format!("{name}-task/{file}"), std::fs::read_to_string(folder.join(file)).unwrap());
        }
        let folder = format!("{name}-task");
        let object = home
            .run(&format!("eval {folder} --model TINY --split validation --limit 3 --out {name} --json"))
            .json();
        assert_eq!((object["task"].as_str(), object["n"].as_u64()), (Some(name), Some(3)));
        assert!(object["score"].as_f64().is_some_and(|score| (0.0..=1.0).contains(&score)), "{object}");
        let preview = home.run(&format!("train {folder} --model TINY --preview"));
        assert!(preview.code == Some(0) || preview.stderr.contains("tokens"), "{name}: {}", preview.stderr);
    }
}
