//! `underdog models {list,pull,inspect}`.

use crate::arguments::ModelsVerb;
use crate::environment::Environment;
use crate::output::Output;
use crate::progress::Download;
use serde_json::{Value, json};
use underdog_eval::Result;
use underdog_model::catalogue;
use underdog_model::checkpoint::Checkpoint;
use underdog_model::pull::pull;
use underdog_model::reference::Reference;

/// Runs the verb.
pub fn run(verb: &ModelsVerb, environment: &Environment, output: &Output) -> Result<()> {
    match verb {
        ModelsVerb::List => list(environment, output),
        ModelsVerb::Pull { name } => {
            let entry = catalogue::find(name)?;
            let pulled = pull(entry, &environment.cache, &Download::default())?;
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
    let path = Reference::parse(model)?.locate(&environment.cache)?;
    let summary = Checkpoint::open(&path)?.summary();
    output.result(&summary, || {
        // The text is the object, one field a line, so that the two cannot differ.
        let value = serde_json::to_value(&summary).unwrap_or_default();
        let mut lines = vec![format!("{:<16} {}", "file", path.display())];
        for (name, value) in value.as_object().into_iter().flatten() {
            match value {
                Value::Array(types) => types.iter().for_each(|t| {
                    let text = |key: &str| t[key].as_str().map_or_else(|| t[key].to_string(), str::to_string);
                    lines.push(format!(
                        "{:<16} {:>5} tensors  {:>12} bytes",
                        text("name"),
                        text("tensors"),
                        text("bytes")
                    ));
                }),
                Value::String(text) => lines.push(format!("{name:<16} {text}")),
                Value::Null => {}
                other => lines.push(format!("{name:<16} {other}")),
            }
        }
        lines.join("\n")
    })
}
