//! The peers' scripts: what people use today, on the same weights.

use super::programs::MODEL;
use super::{Bench, object};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What people use today.
pub struct Peers<'a> {
    python: &'a str,
    scripts: &'a Path,
    /// The model's file, and the same weights as transformers reads them.
    pub file: PathBuf,
    pub folder: PathBuf,
    /// The number format in which transformers is faster here: bf16 with tiles, without them f32.
    pub format: &'static str,
}

impl<'a> Peers<'a> {
    /// Makes the model that transformers reads, where it is not there yet; `None` where no peers were named.
    pub fn prepare(bench: &'a Bench) -> Result<Option<Peers<'a>>, String> {
        let (Some(python), Some(scripts)) = (&bench.python, &bench.peers) else { return Ok(None) };
        let models = object(Command::new(&bench.underdog).args(["models", "list", "--json"]))?;
        let model = models["models"].as_array().into_iter().flatten().find(|model| model["name"] == MODEL);
        let file =
            model.and_then(|model| model["path"].as_str()).ok_or(format!("{MODEL} is not in the cache"))?;
        let folder = bench.root.join("target/peers").join(MODEL);
        let format = if bench.ceiling.has_tiles { "bf16" } else { "f32" };
        let script = scripts.join("gguf_to_hf.py");
        if !folder.join("model.safetensors").exists() {
            let status = Command::new(python).arg(&script).arg(file).arg(&folder).status();
            match status {
                Ok(status) if status.success() => {}
                Ok(status) => return Err(format!("{} ended with {status}", script.display())),
                Err(error) => return Err(format!("{python}: {error}")),
            }
        }
        Ok(Some(Peers { python, scripts, file: file.into(), folder, format }))
    }

    /// The one JSON object on the last line that a script prints; none where it fails, which one setting of a peer does on
    /// some machines: then its last words are said.
    pub fn run(&self, script: &str, arguments: &[&str]) -> Value {
        let mut command = Command::new(self.python);
        let output = match command.arg(self.scripts.join(script)).args(arguments).output() {
            Ok(output) => output,
            Err(error) => {
                println!("  {} {script}: {error}", self.python);
                return Value::Null;
            }
        };
        let last =
            |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().last().unwrap_or_default().to_string();
        serde_json::from_str(&last(&output.stdout)).unwrap_or_else(|_| {
            println!("  {script} ended with {}: {}", output.status, last(&output.stderr));
            Value::Null
        })
    }

    /// Some steps of eight rows on the rows of a file.
    pub fn train(&self, rows: &Path, system: &Path, steps: &str) -> Value {
        let [folder, rows, system] = [&self.folder, rows, system].map(|path| path.display().to_string());
        let format = ["--dtype", self.format, "--bs", "8", "--steps", steps];
        self.run("sft_peft.py", &[&[folder.as_str(), &rows, &system], &format[..]].concat())
    }
}
