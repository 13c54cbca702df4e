//! `underdog models {list,pull,inspect}`.

use crate::arguments::ModelsVerb;
use crate::environment::Environment;
use crate::output::Output;
use crate::progress::Download;
use serde_json::{Value, json};
use std::path::Path;
use underdog_eval::Result;
use underdog_model::adapter;
use underdog_model::catalogue;
use underdog_model::checkpoint::Checkpoint;
use underdog_model::encoder;
use underdog_model::pull::pull;
use underdog_model::reference::Reference;

/// Runs the verb.
pub fn run(verb: &ModelsVerb, environment: &Environment, output: &Output) -> Result<()> {
    match verb {
        ModelsVerb::List => list(environment, output),
        ModelsVerb::Pull { name } => {
            let entry = catalogue::find(name)?;
            let pulled = pull(entry, &environment.cache, &Download::new(environment))?;
            output.result(
                &json!({"name": name, "path": pulled.path, "source": pulled.source, "bytes": entry.bytes()}),
                || format!("{name} is at {}", pulled.path.display()),
            )
        }
        ModelsVerb::Inspect { model } => inspect(model, environment, output),
    }
}

fn list(environment: &Environment, output: &Output) -> Result<()> {
    let entries = catalogue::entries();
    let cached = |entry: &catalogue::Entry| environment.cache.path_of(entry);
    let object = |entry: &catalogue::Entry| {
        json!({"name": entry.name, "summary": entry.summary, "bytes": entry.bytes(), "licence": entry.licence,
               "notes": entry.notes, "path": cached(entry)})
    };
    let models: Vec<Value> = entries.iter().map(object).collect();
    output.result(&json!({"cache": environment.cache.root(), "models": models}), || {
        let line = |entry: &catalogue::Entry| {
            let state = if cached(entry).is_some() { "in the cache" } else { "not pulled" };
            let megabytes = entry.bytes() / 1_000_000;
            format!(
                "{:<22} {megabytes:>4} MB  {state:<12}  {}\n{:<22} {}",
                entry.name, entry.summary, "", entry.licence
            )
        };
        entries.iter().map(line).collect::<Vec<_>>().join("\n")
    })
}

fn inspect(model: &str, environment: &Environment, output: &Output) -> Result<()> {
    let reference = Reference::parse(model)?;
    let path = reference.locate(&environment.cache)?;
    if reference.adapter.is_none() && encoder::is_encoder(&path) {
        let summary = serde_json::to_value(encoder::summary(&path)?).unwrap_or_default();
        return output.result(&summary, || lines(&path, &summary));
    }
    let checkpoint = Checkpoint::open(&path)?;
    let mut summary = serde_json::to_value(checkpoint.summary()).unwrap_or_default();
    if let Some(folder) = &reference.adapter {
        let lora = adapter::read(folder, checkpoint.config(), &checkpoint.fingerprint())?;
        let targets: Vec<&str> = lora.config().targets.iter().map(|module| module.peft_name()).collect();
        summary["adapter"] = json!(folder);
        summary["adapter_rank"] = json!(lora.config().rank);
        summary["adapter_alpha"] = json!(lora.config().alpha);
        summary["adapter_targets"] = json!(targets.join(", "));
        summary["adapter_parameters"] = json!(lora.values.len());
        summary["adapter_shots"] = json!(adapter::origin(folder)?.map_or(0, |origin| origin.shots));
    }
    output.result(&summary, || lines(&path, &summary))
}

/// The object as text, one field a line, so that the two cannot differ.
fn lines(path: &Path, summary: &Value) -> String {
    let mut lines = vec![format!("{:<18} {}", "file", path.display())];
    for (name, value) in summary.as_object().into_iter().flatten() {
        match value {
            Value::Array(types) => types.iter().for_each(|t| {
                let text = |key: &str| t[key].as_str().map_or_else(|| t[key].to_string(), str::to_string);
                lines.push(format!(
                    "{:<18} {:>5} tensors  {:>12} bytes",
                    text("name"),
                    text("tensors"),
                    text("bytes")
                ));
            }),
            Value::String(text) => lines.push(format!("{name:<18} {text}")),
            Value::Null => {}
            other => lines.push(format!("{name:<18} {other}")),
        }
    }
    lines.join("\n")
}
