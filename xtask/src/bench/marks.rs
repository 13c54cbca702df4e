//! The marks: training, many answers, one stream and long texts. Where the peers are named, each is measured in turns with what
//! people use today, on the same rows and with the same prompts, after both sides have given the same loss on the same rows.

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

/// What people use today.
struct Peers<'a> {
    python: &'a str,
    scripts: &'a Path,
    /// The model's file, and the same weights as transformers reads them.
    file: PathBuf,
    folder: PathBuf,
    /// The number format in which transformers is faster here: bf16 with tiles, without them f32.
    format: &'static str,
}

impl Peers<'_> {
    /// The one JSON object on the last line that a script prints; none where it fails, which one setting of a peer does on
    /// some machines.
    fn run(&self, script: &str, arguments: &[&str]) -> Value {
        let mut command = Command::new(self.python);
        let output = command.arg(self.scripts.join(script)).args(arguments).output();
        let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
        text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default()
    }

    fn train(&self, rows: &Path, system: &Path, steps: &str) -> Value {
        let [folder, rows, system] = [&self.folder, rows, system].map(|path| path.display().to_string());
        let format = ["--dtype", self.format, "--bs", "8", "--steps", steps];
        self.run("sft_peft.py", &[&[folder.as_str(), &rows, &system], &format[..]].concat())
    }
}

/// The files that both sides read.
struct Files {
    tasks: [PathBuf; 2],
    systems: [PathBuf; 2],
}

/// Measures everything, as many rounds as stated.
pub fn measure(bench: &Bench) -> Result<(Value, Value), String> {
    let files = files(bench)?;
    let peers = peers(bench)?;
    let same = peers.as_ref().map(|peers| same_loss(bench, peers, &files)).transpose()?;
    let (mut rounds, mut ratios) = (Vec::new(), Vec::<(String, f64, Vec<f64>)>::new());
    for round in 1..=bench.repeats {
        println!("  round {round}");
        let mut measured = serde_json::Map::new();
        let parts = [trainings(bench, peers.as_ref(), &files)?, answers(bench, peers.as_ref(), &files)?];
        for (name, ours, peer, mark) in parts.into_iter().flatten().chain(stream(bench, peers.as_ref())?) {
            let rate = |value: &Value| value["rate"].as_f64();
            let ratio = rate(&ours).zip(rate(&peer)).map(|(ours, peer)| ours / peer);
            println!("  {name}: {}", line(&ours, &peer, ratio, mark));
            if let Some(ratio) = ratio {
                match ratios.iter_mut().find(|known| known.0 == name) {
                    Some(known) => known.2.push(ratio),
                    None => ratios.push((name.clone(), mark, vec![ratio])),
                }
            }
            measured.insert(name, json!({"ours": ours, "peer": peer, "ratio": ratio}));
        }
        measured.insert("long".into(), long(bench)?);
        rounds.push(Value::Object(measured));
    }
    for (name, mark, ratios) in &ratios {
        let ratio = mean(ratios).unwrap_or(f64::NAN);
        let verdict = if ratio >= *mark { "reached" } else { "missed" };
        println!(
            "  {name}: {ratio:.2} times the peer by the geometric mean of the rounds, mark {mark}: {verdict}"
        );
    }
    let ratios: Vec<Value> = ratios
        .iter()
        .map(|(name, mark, all)| json!({"name": name, "mark": mark, "ratio": mean(all), "rounds": all}))
        .collect();
    let settings = json!({"task": TASK, "model": MODEL, "long_model": LONG_MODEL, "rounds": bench.repeats,
        "peers": peers.as_ref().map(|peers| peers.format)});
    Ok((settings, json!({"same_loss": same, "ratios": ratios, "rounds": rounds})))
}

fn line(ours: &Value, peer: &Value, ratio: Option<f64>, mark: f64) -> String {
    let side = |side: &Value| {
        let rate = side["rate"].as_f64().unwrap_or(f64::NAN);
        let peak = side["peak_mib"].as_u64().map_or(String::new(), |mib| format!(" in {mib} MiB"));
        format!("{rate:.2} a second{peak}")
    };
    match ratio {
        Some(ratio) => format!("{}; the peer {}: {ratio:.1} times (mark {mark})", side(ours), side(peer)),
        None => side(ours),
    }
}

/// One comparison: its name, both sides, and the ratio that is asked for.
type Compared = (String, Value, Value, f64);

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
        if gigabytes > case.mark.1 + 0.005 {
            println!("  {}: {gigabytes:.2} GB, mark {:.1}: missed", case.name, case.mark.1);
        }
        let ours = side_of(bench, &run, case.batch);
        compared.push((
            format!("training, {}", case.name),
            ours,
            beside[case.prompt as usize].clone(),
            case.mark.0,
        ));
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
    Ok(vec![("answers".into(), ours, peer, 20.0)])
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
        (name.to_string(), ours, json!({"rate": best(peer), "settings": settings}), mark)
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
    let seconds = prompt["seconds"].as_f64().unwrap_or(f64::NAN);
    println!("  prompt of 30,000: {seconds:.1} s in {} MiB (mark 1.5 GB)", prompt["peak_rss_mib"]);
    let text = read(&bench.long_text)?;
    let inputs = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["input"].as_str().map(str::to_string));
    let input: String = inputs.collect::<Vec<_>>().join("\n\n").chars().take(LONG_ROW).collect();
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
    // The script's median leaves the first step out, so it needs a second one, which takes no rows here.
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

fn peers(bench: &Bench) -> Result<Option<Peers<'_>>, String> {
    let (Some(python), Some(scripts)) = (&bench.python, &bench.peers) else { return Ok(None) };
    let models = object(Command::new(&bench.underdog).args(["models", "list", "--json"]))?;
    let model = models["models"].as_array().into_iter().flatten().find(|model| model["name"] == MODEL);
    let file =
        model.and_then(|model| model["path"].as_str()).ok_or(format!("{MODEL} is not in the cache"))?;
    let folder = bench.root.join("target/peers").join(MODEL);
    let format = if bench.ceiling.has_tiles { "bf16" } else { "f32" };
    let peers = Peers { python, scripts, file: file.into(), folder, format };
    if !peers.folder.join("model.safetensors").exists() {
        peers.run("gguf_to_hf.py", &[file, &peers.folder.display().to_string()]);
    }
    match peers.folder.join("model.safetensors").exists() {
        true => Ok(Some(peers)),
        false => Err(format!(
            "{} did not make {}",
            scripts.join("gguf_to_hf.py").display(),
            peers.folder.display()
        )),
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
