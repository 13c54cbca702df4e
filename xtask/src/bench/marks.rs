//! The marks: training, many answers, one stream and long texts. Where the peers are named, every round measures what people use
//! today right beside it, on the same rows and with the same prompts, after both sides have given the same loss on the same
//! rows. The peer trains once a round for each prompt: its rate does not depend on our batch.

use super::peers::Peers;
use super::programs::{MODEL, QUESTION_ALONE, Training, mean, training};
use super::{Bench, object};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The task whose rows are trained and answered.
const TASK: &str = "tasks/banking77";
/// Its system prompt without the 77 intents.
const SHORT: &str = "Classify the bank customer's message. Answer with the intent name only.";
/// The model of the long texts, and how many characters of them make a row of about 16,000 tokens.
const LONG_MODEL: &str = "gemma-3-270m";
const LONG_ROW: usize = 64_000;
/// How far apart the first losses of the two sides may be.
const SAME_LOSS: f64 = 0.02;

/// Which system prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prompt {
    Intents,
    Short,
}

/// A training of ours; the peer takes eight rows a step, whatever the batch, since its rate does not grow with it.
struct Case {
    name: &'static str,
    prompt: Prompt,
    batch: usize,
    steps: usize,
    memory_mib: usize,
    /// Times the peer's rate, within so many 10⁹ bytes.
    mark: (f64, f64),
}

const CASES: [Case; 5] = [
    Case {
        name: "batch 64",
        prompt: Prompt::Intents,
        batch: 64,
        steps: 5,
        memory_mib: 768,
        mark: (30.0, 1.6),
    },
    Case {
        name: "batch 32",
        prompt: Prompt::Intents,
        batch: 32,
        steps: 5,
        memory_mib: 768,
        mark: (30.0, 1.6),
    },
    Case { name: "again", prompt: Prompt::Intents, batch: 32, steps: 5, memory_mib: 160, mark: (20.0, 1.0) },
    Case { name: "batch 8", prompt: Prompt::Intents, batch: 8, steps: 8, memory_mib: 768, mark: (15.0, 1.6) },
    Case { name: "short", prompt: Prompt::Short, batch: 32, steps: 8, memory_mib: 768, mark: (5.0, 1.0) },
];

/// The files that both sides read.
struct Files {
    tasks: [PathBuf; 2],
    systems: [PathBuf; 2],
}

/// Measures everything, as many rounds as stated.
pub fn measure(bench: &Bench) -> Result<(Value, Value), String> {
    let files = files(bench)?;
    let peers = Peers::prepare(bench)?;
    let same = peers.as_ref().map(|peers| same_loss(bench, peers, &files)).transpose()?;
    let (mut rounds, mut compared) = (Vec::new(), Vec::new());
    for round in 1..=bench.repeats {
        println!("  round {round}");
        let mut measured = serde_json::Map::new();
        let peers = peers.as_ref();
        let parts = [trainings(bench, peers, &files)?, answers(bench, peers, &files)?, stream(bench, peers)?];
        for pair in parts.into_iter().flatten() {
            println!("  {}: {}", pair.name, pair.line());
            let kept = json!({"ours": pair.ours, "peer": pair.peer, "ratio": pair.ratio()});
            measured.insert(pair.name.clone(), kept);
            compared.push(pair);
        }
        measured.insert("long".into(), long(bench)?);
        rounds.push(Value::Object(measured));
    }
    let ratios = ratios(&compared);
    let settings = json!({"task": TASK, "model": MODEL, "long_model": LONG_MODEL, "rounds": bench.repeats,
        "peers": peers.as_ref().map(|peers| peers.format)});
    Ok((settings, json!({"same_loss": same, "ratios": ratios, "rounds": rounds})))
}

/// What is measured on both sides: a rate, the memory that it took, and the rest that was said.
struct Compared {
    name: String,
    ours: Value,
    /// Null without peers.
    peer: Value,
    /// The ratio that is asked for.
    mark: f64,
}

impl Compared {
    fn ratio(&self) -> Option<f64> {
        Some(self.ours["rate"].as_f64()? / self.peer["rate"].as_f64()?)
    }

    fn line(&self) -> String {
        let side = |side: &Value| {
            let rate = side["rate"].as_f64().unwrap_or(f64::NAN);
            let peak = side["peak_mib"].as_u64().map_or(String::new(), |mib| format!(" in {mib} MiB"));
            format!("{rate:.2} a second{peak}")
        };
        match self.ratio() {
            Some(ratio) => {
                format!(
                    "{}; the peer {}: {ratio:.1} times (mark {})",
                    side(&self.ours),
                    side(&self.peer),
                    self.mark
                )
            }
            None => side(&self.ours),
        }
    }
}

/// Each mark's ratios round by round and their geometric mean; says which are reached.
fn ratios(compared: &[Compared]) -> Vec<Value> {
    let mut names: Vec<(&str, f64)> = Vec::new();
    for pair in compared.iter().filter(|pair| pair.ratio().is_some()) {
        if !names.iter().any(|(name, _)| *name == pair.name) {
            names.push((&pair.name, pair.mark));
        }
    }
    let of = |(name, mark): (&str, f64)| {
        let rounds: Vec<f64> =
            compared.iter().filter(|p| p.name == name).filter_map(Compared::ratio).collect();
        let ratio = mean(&rounds).unwrap_or(f64::NAN);
        let verdict = if ratio >= mark { "reached" } else { "missed" };
        println!(
            "  {name}: {ratio:.2} times the peer by the geometric mean of the rounds, mark {mark}: {verdict}"
        );
        json!({"name": name, "mark": mark, "ratio": ratio, "rounds": rounds})
    };
    names.into_iter().map(of).collect()
}

/// Training rows a second; the mark on memory is said where it is missed.
fn trainings(bench: &Bench, peers: Option<&Peers<'_>>, files: &Files) -> Result<Vec<Compared>, String> {
    let peer = |prompt: Prompt, steps: &str| {
        let side = peers.map(|peers| {
            peers.train(
                &files.tasks[prompt as usize].join("train.jsonl"),
                &files.systems[prompt as usize],
                steps,
            )
        });
        side.map_or(
            Value::Null,
            |side| json!({"rate": side["rows_per_s"], "peak_mib": side["peak_rss_mib"], "all": side}),
        )
    };
    let beside = [peer(Prompt::Intents, "3"), peer(Prompt::Short, "8")];
    let mut compared = Vec::new();
    for case in &CASES {
        let mut set = vec![
            format!("batch={}", case.batch),
            format!("steps={}", case.steps),
            format!("memory_mib={}", case.memory_mib),
        ];
        set.extend(QUESTION_ALONE.map(String::from));
        let rows = (case.batch * case.steps).to_string();
        let run = training(bench, MODEL, &files.tasks[case.prompt as usize], &set, &["--limit", &rows])?;
        let peak = run.summary["peak_rss_mib"].as_f64().unwrap_or(f64::NAN);
        let gigabytes = peak * 1.048_576e-3;
        let verdict = if gigabytes <= case.mark.1 + 0.005 { "reached" } else { "missed" };
        println!("  training, {}: {gigabytes:.2} GB, mark {:.1}: {verdict}", case.name, case.mark.1);
        compared.push(Compared {
            name: format!("training, {}", case.name),
            ours: side_of(bench, &run, case.batch),
            peer: beside[case.prompt as usize].clone(),
            mark: case.mark.0,
        });
    }
    Ok(compared)
}

/// What is kept of a training of ours.
fn side_of(bench: &Bench, run: &Training, batch: usize) -> Value {
    json!({"rate": run.rows_per_s(batch), "peak_mib": run.summary["peak_rss_mib"], "seconds": run.seconds,
        "share_of_arithmetic": run.share(&bench.ceiling), "losses": run.losses})
}

/// Rows answered a second, exactly 16 new tokens each.
fn answers(bench: &Bench, peers: Option<&Peers<'_>>, files: &Files) -> Result<Vec<Compared>, String> {
    let task = &files.tasks[Prompt::Intents as usize];
    let mut command = Command::new(&bench.underdog);
    command.args(["bench", "generate", "--json", "--model", MODEL, "--limit", "500", "--new-tokens", "16"]);
    // A path of this machine would be kept with the results.
    let done = object(command.arg(TASK).current_dir(&bench.root))?;
    let ours = json!({"rate": done["rows_per_s"], "peak_mib": done["peak_rss_mib"], "all": done});
    let peer = peers.map_or(Value::Null, |peers| {
        let rows = task.join("test_public.jsonl").display().to_string();
        let system = files.systems[Prompt::Intents as usize].display().to_string();
        let folder = peers.folder.display().to_string();
        let side = peers.run("hf_generate.py", &[&folder, &rows, &system, "32", "16", "16", peers.format]);
        json!({"rate": side["rows_per_s"], "peak_mib": side["peak_rss_mib"], "all": side})
    });
    Ok(vec![Compared { name: "answers".into(), ours, peer, mark: 20.0 }])
}

/// Tokens a second of a prompt and of one stream, against the better setting of the peer: one crashes where the CPU has AMX.
fn stream(bench: &Bench, peers: Option<&Peers<'_>>) -> Result<Vec<Compared>, String> {
    let mut command = Command::new(&bench.underdog);
    let ours = object(command.args(["bench", "decode", "--json", "--model", MODEL]))?;
    let settings: Vec<Value> = peers.map_or(Vec::new(), |peers| {
        let file = peers.file.display().to_string();
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).to_string();
        [&["--no-repack"][..], &[]]
            .map(|more| peers.run("llamacpp_bench.py", &[&[file.as_str(), &threads], more].concat()))
            .into()
    });
    let best = |key: &str| settings.iter().filter_map(|s| s[key].as_f64()).reduce(f64::max);
    let both = |name: &str, own: &str, peer: &str, mark: f64| {
        let ours = json!({"rate": ours[own], "peak_mib": ours["peak_rss_mib"], "all": ours});
        Compared { name: name.into(), ours, peer: json!({"rate": best(peer), "settings": settings}), mark }
    };
    Ok(vec![
        both("decoding", "decode_tokens_per_s", "tg128", 2.0),
        both("prompt", "prompt_tokens_per_s", "pp512", 8.0),
    ])
}

/// 30,000 tokens as a prompt with 300 new ones, and a training step on a row of about 16,000.
fn long(bench: &Bench) -> Result<Value, String> {
    let mut command = Command::new(&bench.underdog);
    command.args(["bench", "long", "--json", "--model", LONG_MODEL, "--new-tokens", "300", "--prompt-file"]);
    let prompt = object(command.arg(&bench.long_text))?;
    let seconds = |key: &str| prompt[key].as_f64().unwrap_or(f64::NAN);
    let (before, after) = (seconds("prompt_seconds"), seconds("decode_seconds"));
    println!(
        "  prompt of 30,000: {before:.1} s, then {after:.1} s in {} MiB (mark 1.5 GB)",
        prompt["peak_rss_mib"]
    );
    let text = read(&bench.long_text)?;
    let inputs = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["input"].as_str().map(str::to_string));
    let input: String = inputs.collect::<Vec<_>>().join("\n\n").chars().take(LONG_ROW).collect();
    if input.chars().count() < LONG_ROW {
        let found = bench.long_text.display();
        return Err(format!(
            "{found}: expected JSON Lines whose `input`s have {LONG_ROW} characters together"
        ));
    }
    let row = json!({"id": "long", "input": input, "expected": "A long consultation."}).to_string() + "\n";
    let folder = bench.scratch.join("long");
    write(&folder, "task.toml", &task_text(bench, None)?)?;
    for name in ["train.jsonl", "dev.jsonl", "test_public.jsonl"] {
        write(&folder, name, &row)?;
    }
    let set = [&["batch=1", "steps=1", "memory_mib=2048"], &QUESTION_ALONE[..]].concat();
    let set: Vec<String> = set.into_iter().map(String::from).collect();
    let run = training(bench, LONG_MODEL, &folder, &set, &[])?;
    let step = json!({"tokens": run.summary["flat_tokens"], "seconds": run.seconds,
        "peak_mib": run.summary["peak_rss_mib"]});
    println!(
        "  a step of {} tokens: {:?} s in {} MiB (mark 4 GB)",
        step["tokens"], run.seconds, step["peak_mib"]
    );
    Ok(json!({"prompt": prompt, "step": step}))
}

/// The first loss of both sides on the same eight rows, no adapter yet.
fn same_loss(bench: &Bench, peers: &Peers<'_>, files: &Files) -> Result<Value, String> {
    let task = &files.tasks[Prompt::Intents as usize];
    let rows: String = read(&task.join("train.jsonl"))?.lines().take(8).map(|l| format!("{l}\n")).collect();
    let path = write(&bench.scratch, "eight.jsonl", &rows)?;
    let set = [&["batch=8", "steps=1"], &QUESTION_ALONE[..]].concat().into_iter().map(String::from);
    let set: Vec<String> = set.collect();
    let run = training(bench, MODEL, task, &set, &["--data", &path.display().to_string()])?;
    // The script's median leaves the first step out, so it needs a second one: the same rows again.
    let twice = write(&bench.scratch, "sixteen.jsonl", &rows.repeat(2))?;
    let peer = peers.train(&twice, &files.systems[Prompt::Intents as usize], "2");
    let (ours, peer) = (run.losses.first().copied(), peer["losses"][0].as_f64());
    match ours.zip(peer) {
        Some((ours, peer)) if (ours / peer - 1.0).abs() <= SAME_LOSS => {
            Ok(json!({"ours": ours, "peer": peer}))
        }
        _ => Err(format!("the two sides do not give the same loss: {ours:?} and {peer:?}")),
    }
}

fn files(bench: &Bench) -> Result<Files, String> {
    let tasks = [bench.root.join(TASK), bench.scratch.join("short")];
    write(&tasks[1], "task.toml", &task_text(bench, Some(SHORT))?)?;
    for name in ["train.jsonl", "dev.jsonl", "test_public.jsonl"] {
        write(&tasks[1], name, &read(&tasks[0].join(name))?)?;
    }
    let text = read(&tasks[0].join("task.toml"))?;
    let task: toml::Table = text.parse().map_err(|e| format!("{TASK}/task.toml: {e}"))?;
    let system = task["prompt"]["system"].as_str().ok_or(format!("{TASK} has no system prompt"))?;
    let systems = [write(&bench.scratch, "system.txt", system)?, write(&bench.scratch, "short.txt", SHORT)?];
    Ok(Files { tasks, systems })
}

/// The task with another system prompt, or none.
fn task_text(bench: &Bench, system: Option<&str>) -> Result<String, String> {
    let text = read(&bench.root.join(TASK).join("task.toml"))?;
    let mut task: toml::Table = text.parse().map_err(|e| format!("{TASK}/task.toml: {e}"))?;
    let prompt = task["prompt"].as_table_mut().ok_or(format!("{TASK} has no prompt"))?;
    prompt.remove("system");
    if let Some(system) = system {
        prompt.insert("system".into(), system.into());
    }
    toml::to_string(&task).map_err(|e| e.to_string())
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf, String> {
    let path = folder.join(name);
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&path, text))
        .map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(path)
}
