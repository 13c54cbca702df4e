//! Bad machines: too little memory, tile registers that the system keeps to itself, fewer and more threads than cores.

use super::home::Home;
use serde_json::Value;

/// A folder that looks like a machine with 8 GiB and a control group limited to `mib`.
fn limited(home: &Home, mib: usize) -> String {
    home.write("machine/proc/self/status", "VmRSS:\t 20480 kB\nRssAnon:\t 20480 kB\n");
    home.write("machine/proc/self/cgroup", "0::/box\n");
    home.write("machine/proc/meminfo", "MemAvailable:  8388608 kB\n");
    home.write("machine/sys/fs/cgroup/box/memory.max", format!("{}\n", mib << 20));
    home.path("machine").display().to_string()
}

#[test]
fn a_training_that_does_not_fit_the_memory_is_refused_before_its_first_step() {
    let home = Home::new();
    let preview = home.run("train task --model TINY --preview --json").json();
    let planned = preview["planned_peak_mib"].as_u64().unwrap() as usize;
    assert!((50..400).contains(&planned), "{planned} MiB for a tiny model");
    let train = |mib| {
        let mut command = home.command("train task --model TINY --set precision=f32 --out t --json");
        home.end(home.start(command.env("UNDERDOG_SYSTEM_ROOT", limited(&home, mib))))
    };
    let done = train(planned - 10);
    let limit = format!("{} MiB", planned - 10);
    done.fails(
        5,
        &["training would take more memory", &limit, "weights", "sys/fs/cgroup/box/memory.max", "memory_mib"],
    );
    assert_eq!(done.object()["error"]["kind"], "system");
    assert!(!home.path("t/metrics.jsonl").exists(), "no step was done");
    train(planned + 10).json();
}

#[test]
fn tiles_that_the_system_refuses_are_done_without_with_one_line_of_notice() {
    let home = Home::new();
    let with = |refused: &str| {
        let mut command = home.command("eval task --model TINY --limit 2 --json");
        home.end(home.start(command.env("UNDERDOG_AMX_REFUSED", refused)))
    };
    let notice = |text: &str| text.lines().filter(|line| line.contains("AMX")).count();
    let done = with("1");
    done.json();
    let has_tiles = std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains(" amx_bf16"));
    let held_back = std::env::var_os("UNDERDOG_ISA").is_some();
    assert_eq!(notice(&done.stderr), usize::from(has_tiles && !held_back), "{}", done.stderr);
    let mut command = home.command("doctor --json");
    let doctor = home.end(home.start(command.env("UNDERDOG_AMX_REFUSED", "1"))).json();
    assert_eq!(doctor["amx_bf16"], Value::Bool(false));
    assert!(doctor["bf16_gflop_per_s"].as_f64().is_some_and(|rate| rate > 0.0), "{doctor}");
    assert_eq!(notice(&with("0").stderr), 0);
}

#[test]
fn a_thread_count_gives_the_same_bytes_twice_and_another_count_the_same_up_to_rounding() {
    let home = Home::new();
    for precision in ["f32", "bf16"] {
        let mut losses: Vec<Vec<f64>> = Vec::new();
        for threads in [1, 2, 5] {
            let adapter = |again: &str| {
                let out = format!("{precision}-{threads}-{again}");
                home.run(&format!(
                    "train task --model TINY --set precision={precision} --threads {threads} --out {out}"
                ))
                .fails(0, &[]);
                let lines = home.text(&format!("{out}/metrics.jsonl"));
                let loss = |line: &str| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64();
                losses.push(lines.lines().filter_map(loss).collect());
                home.read(&format!("{out}/adapter/adapter_model.safetensors"))
            };
            assert!(
                ["a", "b"].map(adapter).windows(2).all(|pair| pair[0] == pair[1]),
                "{precision}, {threads} threads"
            );
        }
        assert_eq!(losses[0].len(), 6);
        for other in &losses[1..] {
            let close = |(a, b): (&f64, &f64)| (a / b - 1.0).abs() < 1e-4;
            assert!(losses[0].iter().zip(other).all(close), "{precision}: {losses:?}");
        }
    }
    let answers = |threads: usize| {
        let out = format!("eval-{threads}");
        home.run(&format!("eval task --model TINY --threads {threads} --out {out}")).fails(0, &[]);
        let lines = home.text(&format!("{out}/record.jsonl"));
        let answer = |line: &str| serde_json::from_str::<Value>(line).unwrap().get("output").cloned();
        lines.lines().filter_map(answer).collect::<Vec<_>>()
    };
    let one = answers(1);
    assert!(!one.is_empty() && [2, 5].into_iter().all(|threads| answers(threads) == one));
}
