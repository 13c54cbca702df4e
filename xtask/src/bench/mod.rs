//! `cargo xtask bench [NAME...] [--python PYTHON] [--peers FOLDER] [--long-text FILE] [--repeats N]`: builds and runs the benchmark programs and keeps what they measured in
//! `bench/runs/<date>-<cpu>/NAME.json`, every timing of it, with machine, commit and settings.
//!
//! What a program measures is its own business (`programs`, `growth`); what the documents say of it is made by `generate`.

mod growth;
pub mod machine;
mod marks;
mod peers;
mod programs;
mod tasks;

use machine::Machine;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Version of the kept files.
const VERSION: u64 = 1;

/// What a benchmark needs to know.
pub struct Bench {
    /// The repository.
    pub root: PathBuf,
    /// The program as built.
    pub underdog: PathBuf,
    /// For peers, where one is named.
    pub python: Option<String>,
    /// Their scripts, where the folder is named.
    pub peers: Option<PathBuf>,
    /// Times that each point of growth is measured, and rounds of the marks.
    pub repeats: usize,
    /// Rows whose inputs are joined to a long text.
    pub long_text: PathBuf,
    /// What training is held against.
    pub ceiling: Ceiling,
    /// A folder for tasks and runs, removed at the end.
    pub scratch: PathBuf,
}

/// What this machine can do, and what a token of [`programs::MODEL`] takes.
pub struct Ceiling {
    /// Of products in bf16, in 10⁹ operations a second, as `underdog doctor` has it.
    pub gflop_per_s: f64,
    /// Whether the CPU multiplies bf16 in tiles.
    pub has_tiles: bool,
    /// Weights that a token passes in the layers; no number where the model is not in the cache.
    pub weights: f64,
}

impl Ceiling {
    fn measure(underdog: &Path) -> Result<Self, String> {
        let doctor = object(Command::new(underdog).args(["doctor", "--json"]))?;
        // Products need no model.
        let model = object(Command::new(underdog).args(["models", "inspect", programs::MODEL, "--json"]));
        let model = model.unwrap_or_default();
        let number = |key: &str| model[key].as_f64().unwrap_or(f64::NAN);
        Ok(Ceiling {
            gflop_per_s: doctor["bf16_gflop_per_s"].as_f64().ok_or("doctor gave no bf16_gflop_per_s")?,
            has_tiles: doctor["amx_bf16"] == true,
            weights: number("parameters") - number("width") * number("vocab"),
        })
    }
}

/// What the command line says.
struct Options<'a> {
    names: Vec<&'a str>,
    python: Option<String>,
    peers: Option<PathBuf>,
    long_text: PathBuf,
    repeats: usize,
}

impl<'a> Options<'a> {
    fn parse(root: &Path, words: &[&'a str]) -> Result<Self, String> {
        let long_text = root.join("tasks/clinic-notes/train.jsonl");
        let mut options = Options { names: Vec::new(), python: None, peers: None, long_text, repeats: 1 };
        let mut rest = words.iter();
        while let Some(&word) = rest.next() {
            let mut value =
                || rest.next().map(|word| word.to_string()).ok_or(format!("{word} needs a value"));
            match word {
                "--python" => options.python = Some(value()?),
                "--peers" => options.peers = Some(value()?.into()),
                "--long-text" => options.long_text = value()?.into(),
                "--repeats" => {
                    let number = value()?.parse().ok().filter(|&n| n > 0);
                    options.repeats = number.ok_or("--repeats needs a number, 1 or more")?;
                }
                name if PROGRAMS.iter().any(|program| program.0 == name) => options.names.push(name),
                other => return Err(format!("there is no benchmark `{other}`; there are:\n{}", list())),
            }
        }
        Ok(options)
    }
}

/// A benchmark: its name, what it measures, and how. It gives its settings and its results.
type Program = (&'static str, &'static str, fn(&Bench) -> Result<(Value, Value), String>);

const PROGRAMS: [Program; 6] = [
    ("matmul", "bf16 products of the training shapes, with --python beside PyTorch's", programs::matmul),
    ("train", "banking77 at batch 8, 32 and 64", programs::train),
    ("decode", "one stream, 128 tokens after 512", programs::decode),
    ("growth", "rows, prompt, shared share and threads, training and evaluation", growth::measure),
    ("loss", "100 steps in f32, bf16 and with weights in blocks", programs::loss),
    (
        "marks",
        "training, answers, one stream and long texts, with --python and --peers beside the peers",
        marks::measure,
    ),
];

/// Runs the programs that are named, or all.
pub fn run(root: &Path, options: &[&str]) -> Result<bool, String> {
    let Options { names, python, peers, long_text, repeats } = Options::parse(root, options)?;
    cargo(root, &["build", "--release", "--locked", "--workspace"])?;
    let scratch = root.join("target/bench");
    let underdog = root.join("target/release/underdog");
    let ceiling = Ceiling::measure(&underdog)?;
    let bench = Bench { root: root.into(), underdog, python, peers, repeats, long_text, ceiling, scratch };
    let machine = Machine::read(root);
    let folder = root.join("bench/runs").join(format!("{}-{}", machine.date, machine.slug()));
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for (name, _, measure) in PROGRAMS.iter().filter(|p| names.is_empty() || names.contains(&p.0)) {
        println!("{name} …");
        // Left from a run that was broken off.
        let _ = std::fs::remove_dir_all(&bench.scratch);
        std::fs::create_dir_all(&bench.scratch).map_err(|e| format!("{}: {e}", bench.scratch.display()))?;
        let (settings, results) = measure(&bench)?;
        let kept = json!({"version": VERSION, "name": name, "date": machine.date, "machine": machine.describe(),
            "commit": machine.commit, "changed": machine.changed, "settings": settings, "results": results});
        let path = folder.join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(&kept).map_err(|e| e.to_string())? + "\n";
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        println!("{}", path.strip_prefix(root).unwrap_or(&path).display());
    }
    let _ = std::fs::remove_dir_all(&bench.scratch);
    Ok(true)
}

fn list() -> String {
    PROGRAMS.iter().map(|(name, what, _)| format!("  {name:<8} {what}\n")).collect()
}

/// Runs cargo in the repository.
pub fn cargo(root: &Path, arguments: &[&str]) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).args(arguments).current_dir(root).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cargo {} ended with {status}", arguments.join(" "))),
        Err(error) => Err(format!("cargo does not run: {error}")),
    }
}

/// Runs a program to its end and reads the one JSON object on its standard output.
pub fn object(command: &mut Command) -> Result<Value, String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    let talk = || String::from_utf8_lossy(&output.stderr).trim().to_string();
    if !output.status.success() {
        return Err(format!("{command:?} ended with {}:\n{}", output.status, talk()));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|e| format!("{command:?}: no JSON object: {e}\n{}", talk()))
}

/// The middle of some values; `None` of none.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}
