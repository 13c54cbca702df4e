//! `underdog report RECORD…`: the page again, from records.

use crate::arguments::ReportArguments;
use crate::environment::Environment;
use crate::output::{Output, score_card};
use crate::records::{Making, named, report};
use serde_json::json;
use std::path::{Path, PathBuf};
use underdog_eval::runner::Evaluation;
use underdog_eval::{Result, files};

/// Runs the verb.
pub fn run(arguments: &ReportArguments, environment: &Environment, output: &Output) -> Result<()> {
    let records = named(&arguments.records)?;
    let folder = match arguments.records.as_slice() {
        [only] if only.is_dir() => Some(only.as_path()),
        _ => None,
    };
    let making = Making {
        folder,
        advice: arguments.advice.as_deref(),
        task: arguments.task.as_deref(),
        seed: arguments.seed,
        cache: &environment.cache,
    };
    let data = report(&records, &making)?;
    let path = match (&arguments.out, folder) {
        (Some(file), _) => {
            files::write_atomic(file, data.html()?.as_bytes())?;
            file.clone()
        }
        (None, Some(folder)) => {
            data.write(folder)?;
            folder.join("report.html")
        }
        (None, None) => {
            files::write_atomic(Path::new("report.html"), data.html()?.as_bytes())?;
            PathBuf::from("report.html")
        }
    };
    let object = json!({"report": path.display().to_string(), "claims": data.claims});
    output.result(&object, || {
        let columns: Vec<(&str, &Evaluation)> =
            data.candidates.iter().map(|c| (c.role.as_str(), &c.evaluation)).collect();
        let claims: Vec<&str> = data.claims.iter().map(|claim| claim.sentence()).collect();
        format!("{}\n{}\n\nreport {}", score_card(&columns), claims.join("\n"), path.display())
    })
}
