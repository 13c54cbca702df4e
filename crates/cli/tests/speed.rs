//! How soon the program is there: the help at once, and a real model ready to answer in a second and a half.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[path = "../../model/tests/common/mod.rs"]
mod common;

/// One test at a time: they would measure each other.
static ALONE: Mutex<()> = Mutex::new(());

/// The shortest of some tries: what the program needs when the machine does nothing else.
fn fastest(tries: usize, mut work: impl FnMut()) -> Duration {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let timed = |_| {
        let begin = Instant::now();
        work();
        begin.elapsed()
    };
    (0..tries).map(timed).min().unwrap()
}

fn underdog() -> Command {
    Command::new(env!("CARGO_BIN_EXE_underdog"))
}

#[test]
fn the_help_comes_at_once() {
    let took = fastest(10, || {
        let output = underdog().arg("--help").output().unwrap();
        assert!(output.status.success() && output.stdout.starts_with(b"Train a small"));
    });
    assert!(took <= Duration::from_millis(50), "{took:?}");
}

#[test]
fn smollm2_answers_its_first_token_within_a_second_and_a_half() {
    let Some(path) = common::weights("smollm2-135m-instruct") else { return };
    let took = fastest(3, || {
        let mut command = underdog();
        command.arg("chat").arg(&path).args(["--max-new-tokens", "1", "--json"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"Say hello.").unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["text"], "Hello");
    });
    assert!(took <= Duration::from_millis(1500), "{took:?}");
}
