//! `advise`, its learning curve in the report, and answers chosen by log-probability.

use super::home::{Home, rows};
use serde_json::Value;

/// Two answers that come back, in every split.
fn labelled(home: &Home) {
    let row = |i: usize| {
        format!("{{\"id\": \"r{i}\", \"input\": \"n{i}\", \"expected\": \"answer {}\"}}\n", [30, 31][i % 2])
    };
    for (name, range) in [("train", 0..12), ("validation", 20..32), ("test", 40..46)] {
        home.write(&format!("task/{name}.jsonl"), range.map(row).collect::<String>());
    }
}

fn numbers(value: &Value) -> Vec<u64> {
    let points = value["points"].as_array().unwrap();
    points.iter().map(|point| point["rows"].as_u64().unwrap()).collect()
}

#[test]
fn advice_measures_curves_on_validation_rows_and_goes_on_where_it_was_cut_off() {
    let home = Home::new();
    labelled(&home);
    let command = "advise task --model TINY --shares 25,50,100 --steps-cap 3 --out a --json";
    let object = home.run(command).json();
    assert_eq!((object["split"].as_str(), object["n"].as_u64()), (Some("validation"), Some(12)));
    let roles: Vec<&str> = object["candidates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|candidate| candidate["role"].as_str().unwrap())
        .collect();
    // Without the encoder there are no examples, no nearest row and no linear classifier; a note says so.
    assert_eq!(roles, ["base", "constrained", "majority", "tuned"]);
    assert!(object["notes"].to_string().contains("few-shot, nearest and linear were left out"));
    assert!(object["notes"].to_string().contains("cut at 3 steps"));
    assert_eq!(object["curves"].as_array().unwrap().len(), 1);
    assert_eq!(numbers(&object["curves"][0]), [3, 6, 12]);
    assert!(object["recommendation"].is_string() && !object["claims"].as_array().unwrap().is_empty());
    let page = home.text("a/advise.html");
    assert!(
        page.contains("Should you fine-tune at all?") && page.contains(object["headline"].as_str().unwrap())
    );
    // A part lies inside the next one, and nothing is measured on test rows.
    let ids = |name: &str| home.text(name).matches("\"id\":\"r4").count();
    assert_eq!(ids("a/tuned.jsonl"), 0);
    // The last point is measured again from its half record; nothing else changes.
    let record = home.text("a/tuned.jsonl");
    let half: Vec<&str> = record.split_inclusive('\n').take(5).collect();
    home.write("a/tuned.jsonl", half.concat());
    let before = home.read("a/points/tuned-6.jsonl");
    let again = home.run(&format!("{command} --resume")).json();
    assert_eq!(again["curves"], object["curves"]);
    assert_eq!(home.read("a/points/tuned-6.jsonl"), before);
    home.run("report a").fails(0, &[]);
    let report = home.text("a/report.html");
    assert!(
        report.contains("class=\"learning\"")
            && report.contains("by underdog advise on 12 validation samples")
    );
}

#[test]
fn advice_is_never_on_training_rows_and_on_test_rows_only_when_asked() {
    let home = Home::new();
    home.run("advise task --model TINY --split train --out x").fails(2, &["validation or test"]);
    home.run("advise task --model TINY --shares 0,50 --out x").fails(2, &["--shares"]);
    let toml = home.text("task/task.toml").replace("validation = \"validation.jsonl\"\n", "");
    home.write("task/task.toml", toml);
    home.run("advise task --model TINY --out x").fails(2, &["no validation rows", "--data"]);
    home.write("mine.jsonl", rows(60..66));
    let command = "advise task --model TINY --curve linear --data mine.jsonl --out m --json";
    let object = home.run(command).json();
    assert_eq!((object["n"].as_u64(), object["recommendation"].as_str()), (Some(6), Some("undecided")));
    assert!(!home.path("m/points").exists(), "nothing was trained");
    home.run("report m --advice task").fails(2, &["no advice on this task"]);
}

#[test]
fn answers_are_chosen_among_the_labels_by_log_probability() {
    let home = Home::new();
    labelled(&home);
    let object = home.run("eval task --model TINY --choose log-prob --out c --json").json();
    assert!(object["candidate"].as_str().unwrap().ends_with("?choose=log-prob"), "{object}");
    assert_eq!(
        (object["new_tokens"].as_u64(), object["metrics"]["answered"]["value"].as_f64()),
        (Some(0), Some(1.0))
    );
    let record = home.text("c/record.jsonl");
    let lines: Vec<Value> = record.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines[0]["how"].as_str().unwrap().contains("the most probable of 2 labels"), "{}", lines[0]);
    for line in &lines[1..] {
        assert!(["answer 30", "answer 31"].contains(&line["output"].as_str().unwrap()), "{line}");
    }
    let again = home.run("eval task --model TINY?choose=log-prob --out d --json").json();
    assert_eq!(again["metrics"], object["metrics"]);
    home.run("eval task --model TINY --choose letter --out x").fails(2, &["log-prob-sum"]);
    let free = Home::new();
    free.run("eval task --model TINY --choose log-prob --out x").fails(2, &["no labels to choose among"]);
}

#[test]
fn options_of_a_choice_are_chosen_by_log_probability() {
    let home = Home::new();
    let toml = home.text("task/task.toml").replace("kind = \"exact\"", "kind = \"choice\"\noptions = 3");
    home.write("task/task.toml", toml);
    let row = |i: usize| {
        format!("{{\"id\": \"{i}\", \"input\": \"{i}? A) one B) two C) three\", \"expected\": \"B\"}}\n")
    };
    home.write("task/test.jsonl", (0..4).map(row).collect::<String>());
    let object = home.run("eval task --model TINY --choose log-prob --out c --json").json();
    assert_eq!(object["metrics"]["right"]["n"].as_u64(), Some(4), "{object}");
    let record = home.text("c/record.jsonl");
    let lines: Vec<Value> = record.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines[0]["how"].as_str().unwrap().contains("the most probable of 3 labels"), "{}", lines[0]);
    for line in &lines[1..] {
        assert!(["A", "B", "C"].contains(&line["output"].as_str().unwrap()), "{line}");
    }
}
