//! Cut off at any moment: killed, stopped with Ctrl-C, or out of disk space. Nothing is lost, and a resumed run ends in the
//! bytes of the undisturbed one.

use super::home::{Done, Home, rows};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const TRAIN: &str = "train task --model TINY --set steps=400 --set save_every=3";
const WEIGHTS: &str = "adapter/adapter_model.safetensors";

/// The adapter of a run that nothing disturbs.
fn undisturbed(home: &Home) -> Vec<u8> {
    home.run(&format!("{TRAIN} --out whole --json")).json();
    home.read(&format!("whole/{WEIGHTS}"))
}

/// Waits until `file` has `lines` lines and then `more`; false where the program ended before.
fn wait_for(home: &Home, child: &mut Child, file: &str, lines: usize, more: Duration) -> bool {
    let begin = Instant::now();
    while home.lines(file) < lines {
        assert!(begin.elapsed() < Duration::from_secs(60), "{file} does not grow");
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(more);
    child.try_wait().unwrap().is_none()
}

fn interrupt(home: &Home, child: Child) -> Done {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    home.end(child)
}

/// Folders of checkpoints, hidden ones too.
fn checkpoints(home: &Home, out: &str) -> Vec<String> {
    let entries = std::fs::read_dir(home.path(out).join("checkpoints")).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_training_killed_again_and_again_ends_in_the_same_bytes() {
    let home = Home::new();
    let whole = undisturbed(&home);
    let mut kills = 0;
    // Moments within a step, a checkpoint and a line of metrics: each round dies a little later.
    for (round, lines) in [2, 11, 40, 41, 75, 110, 160].into_iter().enumerate() {
        let mut child = home.start(&mut home.command(&format!("{TRAIN} --out cut --resume")));
        let running = wait_for(
            &home,
            &mut child,
            "cut/metrics.jsonl",
            lines,
            Duration::from_micros(700 * round as u64),
        );
        // A resumed run begins with the lines of its checkpoint, so it may be early; being early is a moment too.
        child.kill().unwrap();
        kills += usize::from(running && !home.path("cut/adapter").exists());
        home.end(child);
    }
    assert!(kills >= 3, "only {kills} kills hit a run");
    let object = home.run(&format!("{TRAIN} --out cut --resume --json")).json();
    assert_eq!(object["steps"], 400);
    assert!(home.read(&format!("cut/{WEIGHTS}")) == whole, "the adapter differs from the undisturbed run's");
    assert_eq!(home.lines("cut/metrics.jsonl"), 400, "every step once");
    assert_eq!(checkpoints(&home, "cut"), ["step-000399", "step-000400"], "nothing half is left");
}

#[test]
fn ctrl_c_stops_a_training_cleanly_and_says_how_to_go_on() {
    let home = Home::new();
    let whole = undisturbed(&home);
    let mut child = home.start(&mut home.command(&format!("{TRAIN} --out cut --json")));
    assert!(wait_for(&home, &mut child, "cut/metrics.jsonl", 5, Duration::ZERO), "it ended too soon");
    let done = interrupt(&home, child);
    done.fails(130, &["stopped: training was stopped after step", "--resume", "cut/checkpoints"]);
    assert_eq!(done.object()["error"]["kind"], "stopped");
    let steps = home.lines("cut/metrics.jsonl");
    let newest = checkpoints(&home, "cut").pop().unwrap();
    assert_eq!(newest, format!("step-{steps:06}"), "the checkpoint is of the last step");
    home.run(&format!("{TRAIN} --out cut --resume --json")).json();
    assert!(home.read(&format!("cut/{WEIGHTS}")) == whole);
}

#[test]
fn an_evaluation_goes_on_where_it_was_cut_off() {
    let home = Home::new();
    home.write("many.jsonl", rows(1000..4000));
    let eval = "eval task --model TINY --data many.jsonl --out cut --json";
    let mut child = home.start(&mut home.command(eval));
    assert!(wait_for(&home, &mut child, "cut/record.jsonl", 20, Duration::ZERO), "it ended too soon");
    let stopped = interrupt(&home, child);
    stopped.fails(130, &["stopped after", "of 3000 samples", "--resume"]);
    assert_eq!(stopped.object()["error"]["kind"], "stopped");
    let kept = home.lines("cut/record.jsonl");
    let mut child = home.start(&mut home.command(&format!("{eval} --resume")));
    wait_for(&home, &mut child, "cut/record.jsonl", kept + 50, Duration::ZERO);
    child.kill().unwrap();
    home.end(child);
    let whole = home.run(&format!("{} --json", eval.replace("cut", "whole"))).fails(2, &["--json"]).code;
    assert_eq!(whole, Some(2), "an argument twice is a wrong request");
    let resumed = home.run(&format!("{eval} --resume")).json();
    let whole = home.run(&eval.replace("cut", "whole")).json();
    assert_eq!((&resumed["metrics"], resumed["n"].as_u64()), (&whole["metrics"], Some(3000)));
    assert_eq!(resumed["new_tokens"], whole["new_tokens"]);
    assert_eq!(home.lines("cut/record.jsonl"), 3001, "a header and every sample once");
}

#[test]
fn a_run_resumes_in_the_middle_of_its_training() {
    let home = Home::new();
    let run = TRAIN.replace("train task", "run task");
    let whole = home.run(&format!("{run} --out whole --json")).json();
    let mut child = home.start(&mut home.command(&format!("{run} --out cut")));
    assert!(wait_for(&home, &mut child, "cut/metrics.jsonl", 30, Duration::ZERO), "it ended too soon");
    child.kill().unwrap();
    home.end(child);
    let resumed = home.run(&format!("{run} --out cut --json --resume")).json();
    assert_eq!(home.read(&format!("cut/{WEIGHTS}")), home.read(&format!("whole/{WEIGHTS}")));
    for role in ["base", "tuned"] {
        assert_eq!(resumed["candidates"][role]["metrics"], whole["candidates"][role]["metrics"]);
    }
    assert_eq!(resumed["train"]["loss_first"], whole["train"]["loss_first"]);
    assert!(home.path("cut/report.html").exists());
}

/// The program where no file may grow beyond so many KiB: what a full disk looks like to it.
fn short_of_space(home: &Home, kib: usize, arguments: &str) -> Done {
    let mut bash = Command::new("bash");
    bash.args([
        "-c",
        &format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" \"$@\""),
        env!("CARGO_BIN_EXE_underdog"),
    ]);
    home.end(home.start(&mut home.prepare(bash, arguments)))
}

#[test]
fn a_full_disk_stops_a_training_and_what_was_saved_stays() {
    let home = Home::new();
    let whole = undisturbed(&home);
    let mut child = home.start(&mut home.command(&format!("{TRAIN} --out cut")));
    assert!(wait_for(&home, &mut child, "cut/metrics.jsonl", 5, Duration::ZERO), "it ended too soon");
    interrupt(&home, child).fails(130, &[]);
    let newest = checkpoints(&home, "cut").pop().unwrap();
    let state = format!("cut/checkpoints/{newest}/state.safetensors");
    let saved = home.read(&state);
    assert!(saved.len() > 40 * 1024, "the limit below is smaller than a checkpoint");
    let done = short_of_space(&home, 40, &format!("{TRAIN} --out cut --resume"));
    done.fails(5, &["cannot write the folder", "cut/checkpoints/step-", "make room", "--resume"]);
    assert!(home.read(&state) == saved, "the earlier checkpoint is intact");
    assert!(checkpoints(&home, "cut").iter().all(|name| name.starts_with("step-")), "nothing half is left");
    home.run(&format!("{TRAIN} --out cut --resume --json")).json();
    assert!(home.read(&format!("cut/{WEIGHTS}")) == whole);
}

#[test]
fn a_full_disk_stops_an_evaluation_and_what_was_written_stays() {
    let home = Home::new();
    home.write("many.jsonl", rows(1000..1100));
    let eval = "eval task --model TINY --data many.jsonl --out cut --json";
    let done = short_of_space(&home, 8, eval);
    done.fails(5, &["cannot write the record", "cut/record.jsonl"]);
    let kept = home.lines("cut/record.jsonl");
    assert!((2..100).contains(&kept), "{kept} lines");
    assert_eq!(home.run(&format!("{eval} --resume")).json()["n"], 100);
    assert_eq!(home.lines("cut/record.jsonl"), 101);
}

#[test]
fn a_full_disk_behind_stdout_is_an_error_and_a_closed_pipe_is_none() {
    let home = Home::new();
    if let Ok(full) = std::fs::File::options().write(true).open("/dev/full") {
        let status = home.command("models list --json").stdout(full).status().unwrap();
        assert_eq!(status.code(), Some(5));
    }
    let mut child = home.start(&mut home.command("models list"));
    drop(child.stdout.take());
    home.end(child).fails(0, &[]);
}
