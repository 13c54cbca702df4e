//! How fast a whole evaluation is when the outputs are there already: the task and its rows read, each output asked for, judged
//! by ten checks and written to a record, metrics with their intervals. The same work as the scripts beside the task do with other programs.
//!
//!     cargo run --release -p underdog-eval --example judge_speed -- 10000 rows.jsonl
//!     cargo run --release -p underdog-eval --example pipeline_speed -- bench/eval_peers rows.jsonl record.jsonl
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]
#![allow(clippy::unwrap_used, reason = "an example may panic")]

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;
use underdog_eval::mock::MockModel;
use underdog_eval::split::{ReadOptions, Split};
use underdog_eval::{EvalSettings, Task, evaluate};

fn main() {
    let paths: Vec<PathBuf> = std::env::args().skip(1).map(PathBuf::from).collect();
    let [task, rows, record] = &paths[..] else { panic!("expected TASK ROWS RECORD") };
    let started = Instant::now();
    let task = Task::load(task).unwrap().with_data(Split::Test, rows);
    let set = task.eval_set(Split::Test, &ReadOptions::default()).unwrap();
    let answer = |sample: &underdog_eval::sample::Sample| {
        (sample.input.as_str().unwrap().to_owned(), sample.meta["output"].as_str().unwrap().to_owned())
    };
    let answers: HashMap<String, String> = set.samples.iter().map(answer).collect();
    let mut model = MockModel::table("given", answers);
    let settings = EvalSettings { record_path: record.clone(), resume: false, limit: None, seed: 1 };
    let evaluation =
        evaluate(&task, &set, &mut model, &settings, &mut |_| ControlFlow::Continue(())).unwrap();
    let seconds = started.elapsed().as_secs_f64();
    let means: Vec<String> = evaluation
        .metrics
        .iter()
        .map(|(name, metric)| format!("{name} {:.4}", metric.value.unwrap()))
        .collect();
    println!("{}", means.join(" "));
    let n = evaluation.n;
    println!("underdog: {n} samples, 10 checks, {seconds:.2} s, {:.0} samples/s", n as f64 / seconds);
}
