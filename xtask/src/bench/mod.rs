//! `cargo xtask bench [NAME...] [--python PYTHON] [--repeats N]`: builds and runs the benchmark programs and keeps what they measured in
//! `bench/runs/<date>-<cpu>/NAME.json`, every timing of it, with machine, commit and settings.
//!
//! What a program measures is its own business (`programs`, `growth`); what the documents say of it is made by `generate`.

mod growth;
pub mod machine;
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
    /// Times that each point of growth is measured.
    pub repeats: usize,
    /// A folder for tasks and runs, removed at the end.
    pub scratch: PathBuf,
}

/// A benchmark: its name, what it measures, and how. It gives its settings and its results.
type Program = (&'static str, &'static str, fn(&Bench) -> Result<(Value, Value), String>);

const PROGRAMS: [Program; 5] = [
    ("matmul", "bf16 products of the training shapes, with --python beside PyTorch's", programs::matmul),
    ("train", "banking77 at batch 8, 32 and 64", programs::train),
    ("decode", "one stream, 128 tokens after 512", programs::decode),
    ("growth", "rows, prompt, shared share and threads, training and evaluation", growth::measure),
    ("loss", "100 steps in f32, bf16 and with weights in blocks", programs::loss),
];

/// Runs the programs that are named, or all.
pub fn run(root: &Path, options: &[&str]) -> Result<bool, String> {
    let (mut names, mut python, mut repeats, mut rest) = (Vec::new(), None, 1, options.iter());
    while let Some(&option) = rest.next() {
        match option {
            "--python" => python = Some(rest.next().ok_or("--python needs a program")?.to_string()),
            "--repeats" => {
                let number = rest.next().and_then(|text| text.parse().ok()).filter(|&n| n > 0);
                repeats = number.ok_or("--repeats needs a number, 1 or more")?;
            }
            name if PROGRAMS.iter().any(|program| program.0 == name) => names.push(name),
            other => return Err(format!("there is no benchmark `{other}`; there are:\n{}", list())),
        }
    }
    cargo(root, &["build", "--release", "--locked", "--workspace"])?;
    let scratch = root.join("target/bench");
    let bench =
        Bench { root: root.into(), underdog: root.join("target/release/underdog"), python, repeats, scratch };
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
