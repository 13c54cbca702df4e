//! `underdog compare` and `underdog plan`: records in, a table and sentences out.

use super::home::{Done, Home};
use serde_json::{Value, json};

/// A record of `n` samples of which `right` are, as if `eval` had written it.
fn record(home: &Home, name: &str, n: usize, right: impl Fn(usize) -> bool) {
    home.run(&format!("eval task --model TINY --out {name}")).fails(0, &[]);
    let text = home.text(&format!("{name}/record.jsonl"));
    let mut header: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    header["n"] = json!(n);
    header["candidate"]["name"] = json!(name);
    let sample: Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
    let verdict = |right: bool| {
        let key = sample["verdicts"]["word"].clone();
        match (right, key) {
            (true, _) => json!({"pass": true}),
            (false, found) => found,
        }
    };
    let mut lines = vec![header.to_string()];
    for i in 0..n {
        let mut sample = sample.clone();
        sample["id"] = json!(format!("s{i}"));
        sample["input"] = json!(format!("input {i}"));
        sample["meta"] = json!({"tier": (["easy", "hard"][i % 2]), "doc": i / 10});
        sample["verdicts"]["word"] = verdict(right(i));
        lines.push(sample.to_string());
    }
    home.write(&format!("{name}/record.jsonl"), lines.join("\n") + "\n");
}

fn home() -> Home {
    let home = Home::new();
    record(&home, "base", 100, |i| i < 20);
    record(&home, "good", 100, |i| i < 80);
    record(&home, "close", 100, |i| i < 21);
    home
}

#[test]
fn records_are_compared_and_only_what_is_shown_is_claimed() {
    let home = home();
    let object = home.run("compare base good close --by tier --json").json();
    assert_eq!((object["baseline"].as_str(), object["corrected_tests"].as_u64()), (Some("base"), Some(6)));
    let score = &object["candidates"][0]["comparisons"][0];
    assert_eq!((score["n"].as_u64(), score["verdict"]["kind"].as_str()), (Some(100), Some("better")));
    assert_eq!(object["candidates"][1]["comparisons"][0]["verdict"]["kind"], "nothing");
    assert_eq!(object["candidates"][0]["comparisons"][2]["slice"]["value"], "hard");
    let done = home.run("compare base/record.jsonl good close --by tier");
    for text in [
        "good: 100 samples in common",
        "tier = hard",
        "+60.0 [",
        "(Holm)",
        "is better than the base model",
        "Nothing may be claimed",
    ] {
        assert!(done.stdout.contains(text), "`{text}` is not in:\n{}", done.stdout);
    }
    let grouped = home.run("compare base good --group doc --json").json();
    assert_eq!(
        (grouped["group"].as_str(), grouped["candidates"][0]["comparisons"][0]["clusters"].as_u64()),
        (Some("doc"), Some(10))
    );
    let margin = home.run("compare base close --margin 0.1 --json").json();
    assert_eq!(margin["candidates"][0]["comparisons"][0]["verdict"]["kind"], "non_inferior");
}

#[test]
fn the_table_fits_narrow_and_wide_terminals() {
    let home = home();
    for columns in [40, 80] {
        let mut command = home.command("compare base good --by tier");
        let done: Done = home.end(home.start(command.env("COLUMNS", columns.to_string())));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let table = done.stdout.split("* the score").next().unwrap();
        let table = table.split_once('\n').unwrap().1;
        let longest = table.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(longest <= columns, "{longest} columns of {columns}:\n{table}");
        assert_eq!(table.matches("+60.0 [").count(), 3, "{table}");
    }
}

#[test]
fn a_run_folder_alone_is_its_two_models() {
    let home = Home::new();
    home.run("run task --model TINY --set steps=1 --out r").fails(0, &[]);
    let object = home.run("compare r --json").json();
    assert_eq!(object["candidates"].as_array().unwrap().len(), 1);
    assert!(object["candidates"][0]["candidate"].as_str().unwrap().contains("adapter"));
    let leaked =
        home.run("run task --model TINY --set steps=1 --data task/train.jsonl --allow-leakage --out l");
    leaked.fails(0, &[]);
    let told = home.run("compare l --task task --json").json();
    let sentence = &told["candidates"][0]["comparisons"][0]["verdict"]["sentence"];
    assert!(sentence.as_str().unwrap().contains("stand in the training rows"), "{sentence}");
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let home = home();
    record(&home, "few", 30, |_| true);
    for (arguments, code, words) in [
        ("compare base", 2, vec!["two records"]),
        ("compare base none", 2, vec!["no record here", "none"]),
        ("compare base task", 2, vec!["no record in this folder"]),
        ("compare base few", 3, vec!["too few samples in common", "half of 100", "30"]),
        ("compare base good --by level", 2, vec!["`level`", "`tier`"]),
        ("compare base good --group level", 2, vec!["`level`"]),
        ("compare base good --margin 2", 2, vec!["margin", "below 1"]),
        ("plan", 2, vec!["accuracy"]),
        ("plan --accuracy 0.8", 2, vec!["--difference"]),
        ("plan --accuracy 0.9 --difference 0.2", 2, vec!["no two candidates"]),
        ("plan --accuracy 0.9 --difference 0.01 --power 1", 2, vec!["chance"]),
    ] {
        let done = home.run(&format!("{arguments} --json"));
        done.fails(code, &words);
        assert!(done.object()["error"]["what"].is_string());
    }
}

#[test]
fn plans_go_both_ways() {
    let home = home();
    let plan = home.run("plan --accuracy 0.8 --difference 0.05 --json").json();
    let rows = plan["rows"].as_u64().unwrap();
    assert!((300..700).contains(&rows), "{plan}");
    let back = home.run(&format!("plan --accuracy 0.8 --rows {rows} --json")).json();
    assert!((back["difference"].as_f64().unwrap() - 0.05).abs() < 1e-3, "{back}");
    let power = home.run(&format!("plan --accuracy 0.8 --rows {rows} --difference 0.05 --json")).json();
    assert!((power["power"].as_f64().unwrap() - 0.8).abs() < 0.01, "{power}");
    let unpaired = home.run("plan --accuracy 0.8 --difference 0.05 --unpaired --json").json();
    assert!(unpaired["rows"].as_u64().unwrap() > rows);
    let text = home.run("plan --discordance 0.2 --difference 0.05").stdout;
    assert!(text.contains("658 rows show a difference of 5.0 points with a chance of 80 %"), "{text}");
    let seen = home.run("plan --from base good --json").json();
    assert_eq!((seen["difference"].as_f64(), seen["discordance"].as_f64()), (Some(0.6), Some(0.6)));
}
